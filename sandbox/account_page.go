package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io/fs"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
)

// accountPage is a page of Shopify's where a merchant has added the account extension's block.
type accountPage struct {
	Target string // of the extension
	Title  string
	Shown  bool // false where the block draws nothing
}

func accountStates() []state {
	const profile, orders = "customer-account.profile.block.render", "customer-account.order-index.block.render"
	const orderStatus, thankYou = "customer-account.order-status.block.render", "purchase.thank-you.block.render"
	return []state{
		{
			Name: "profile-block", Label: "Profile", account: &accountPage{profile, "Profile", true},
			When: "The account extension’s block in Shopify’s current customer accounts. The page around it is a stand-in.",
		}, {
			Name: "orders-block", Label: "Orders", account: &accountPage{orders, "Orders", true},
			When: "The same block on the other page of the account.",
		}, {
			Name: "order-status-block", Label: "Order status", account: &accountPage{orderStatus, "Order #1001", true},
			When: "The shopper is signed in, or has opened the link in the e-mail about an order with a subscription.",
		}, {
			Name: "order-status-guest", Label: "Order status, one-time order",
			account: &accountPage{orderStatus, "Order #1002", false},
			When:    "A shopper who is not signed in has opened the link in the e-mail. There is no block.",
		}, {
			Name: "thank-you-block", Label: "Thank you", account: &accountPage{thankYou, "Thank you!", true},
			When: "A shopper, perhaps a guest, has just ordered a subscription.",
		}, {
			Name: "thank-you-once", Label: "Thank you, one-time order", account: &accountPage{thankYou, "Thank you!", false},
			When: "The order has no subscription, and Shopify does not say who is signed in. There is no block.",
		},
	}
}

// drawAccount draws a stand-in for the page, with the words and the link of the block.
func (g *gallery) drawAccount(page accountPage, language, scheme string) ([]byte, error) {
	file := language
	if language == "en" {
		file = "en.default"
	}
	words := map[string]string{}
	source, err := fs.ReadFile(extensions.Account(), "locales/"+file+".json")
	if err == nil {
		err = json.Unmarshal(source, &words)
	}
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = g.page.ExecuteTemplate(&out, "account_page.html", map[string]any{
		"Page": page, "Words": words, "Language": language, "Scheme": cmp.Or(scheme, "light dark"),
		"Store": g.sandbox.kind.name, "Path": g.sandbox.path,
	})
	return out.Bytes(), err
}
