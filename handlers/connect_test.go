package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestOtherSignatures checks that other texts that Shopify signs with the app's secret do not work
// as webhooks, since a merchant can get some of them.
func TestOtherSignatures(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	before := f.Redis.Dump()
	for i, body := range []string{" " + servertest.UninstalledBody(), "\n" + servertest.UninstalledBody()} {
		if response, _ := f.Webhook("/webhooks/shopify", "app/uninstalled", body, servertest.AppSecret, "blank-"+string(rune('a'+i))); response.StatusCode != http.StatusBadRequest {
			t.Errorf("a body that begins with a blank = %d; want 400", response.StatusCode)
		}
	}
	f.Webhook("/webhooks/shopify", "a/b", strings.TrimSuffix(f.SessionToken(nil), "."), servertest.AppSecret, "a-token")
	if got := f.LinkedHash(servertest.Pat); got != "1f2e3d4c5b6a7988" {
		t.Errorf("a click = %q; want pat's portal", got)
	}
	for key := range f.Redis.Dump() {
		_, was := before[key]
		if kind := servertest.KeyKind.FindStringSubmatch(key); !was && (kind == nil || kind[1] != "h") { // "h" counts the click
			t.Errorf("Redis holds %q; want no trace of the refused messages", key)
		}
	}
}

// TestNewToken checks that a new Admin token drops the old one's secret and webhooks.
func TestNewToken(t *testing.T) {
	t.Parallel()
	const another = "sk_test_another_admin_token"
	f := servertest.Connected(t)
	first := f.Recharge.Webhooks()["customer/updated"]
	f.Recharge.AddToken(rechargetest.Token{Value: another, Scopes: []string{"read_customers", "write_session"}, ClientSecret: "another-webhook-secret"})
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"token": {another}}); !strings.Contains(body, `data-result="saved"`) || !strings.Contains(body, `data-check="webhooks" data-state="skipped"`) {
		t.Errorf("another token without its secret: %s; want it saved, without webhooks", body)
	}
	if left := f.Recharge.Webhooks(); len(left) != 0 || len(first) != 1 {
		t.Errorf("Recharge has %v; want the old token's webhooks gone", left)
	}
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"secret": {"another-webhook-secret"}}); !strings.Contains(body, `data-check="webhooks" data-state="passed"`) {
		t.Errorf("its secret: %s; want the webhooks made", body)
	}
	f.Recharge.ChangeCustomer(servertest.Customers()[1])
	f.Until("a message is taken", func() bool {
		deliveries := f.Recharge.Deliveries()
		return len(deliveries) > 0 && deliveries[len(deliveries)-1].Status == http.StatusOK
	})
}

// TestPortalOfMyOwn checks that links may lead to the merchant's own portal, over https, and neither to
// an address of a private network nor to the emulated portal, which Recharge names here, on loopback.
func TestPortalOfMyOwn(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores, func(s *config.Settings) { s.AppURL = "https://subscriptions.brand.com" })
	if _, body := f.AppHome("/app/connect", f.SessionToken(nil), url.Values{"token": {servertest.APIToken}, "storefront": {servertest.StorefrontToken}}); strings.Contains(body, "127.0.0.1") || !strings.Contains(body, `data-check="portal" data-state="warned"`) {
		t.Errorf("a portal on loopback: %s; want no passed check, and no link to it", body)
	}
	for portal, saved := range map[string]bool{
		"https://portal.brand.com/p": true, "http://localhost/portal/": false, "http://127.0.0.1/portal/": false, "http://brand.com/": false,
		"https://127.0.0.1/portal/": false, "https://10.0.0.1/portal/": false, "https://redis/portal/": false, "https://metadata.google.internal/": false,
	} {
		_, body := f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"portal": {portal}})
		if saved != strings.Contains(body, ">Saved.<") {
			t.Errorf("portal %s: %s; want it saved: %v", portal, body, saved)
		}
	}
}

// TestStorefrontTokenRefused checks that a Storefront token that Recharge does not take is named and not saved, and
// that the other tokens are saved without it only on purpose. Whatever else keeps a session from being made is not
// said of the token.
func TestStorefrontTokenRefused(t *testing.T) {
	t.Parallel()
	const named, offered = "Recharge does not take this Storefront token", `name="without" value="storefront"`
	for name, connected := range map[string]bool{"first connection": false, "new tokens": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, servertest.ManyStores)
			if connected {
				f.Connect()
			}
			form := servertest.ConnectForm()
			form.Set("storefront", "strfnt_of_another_store")
			_, body := f.AppHome("/app/connect", f.SessionToken(nil), form)
			if !strings.Contains(body, `data-check="sessions" data-state="failed"`) || !strings.Contains(body, named) ||
				!strings.Contains(body, `data-result="not_saved"`) || !strings.Contains(body, `data-invalid="storefront"`) || !strings.Contains(body, offered) {
				t.Errorf("a refused Storefront token: %s; want it named, nothing saved, and the others offered to be saved", body)
			}
			click := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions")
			if want := map[bool]string{false: "not_connected", true: "redirected"}[connected]; click.Outcome() != want {
				t.Errorf("the click after it: %v; want %s, as before", click.Line, want)
			}
			form.Set("without", "storefront")
			if _, body = f.AppHome("/app/connect", f.SessionToken(nil), form); !strings.Contains(body, `data-result="saved"`) || !strings.Contains(body, "may ask them to sign in") {
				t.Errorf("without the Storefront token: %s; want it saved, and what that means for shoppers", body)
			}
			_, page := f.AppHome("/app/settings", f.SessionToken(nil), nil)
			if strings.Contains(page, "<small id=\"storefront-help\">Saved.") || !strings.Contains(page, "may ask them to sign in") {
				t.Errorf("the settings: %s; want no Storefront token, and that shoppers may be asked to sign in", page)
			}
		})
	}
	for name, test := range map[string]struct {
		set    func(*rechargetest.Faults)
		change func(*servertest.Fixture)
		saved  bool
		says   string
	}{
		"the Admin token may not make sessions": {set: func(f *rechargetest.Faults) { f.RefuseSessions = true }, saved: true, says: "may ask them to sign in"},
		"Recharge is down":                      {set: func(f *rechargetest.Faults) { f.Down, f.Only = true, rechargetest.EndpointSessions }, says: "could not be checked now"},
		"Recharge limits calls":                 {set: func(f *rechargetest.Faults) { f.Limited, f.Only = true, rechargetest.EndpointSessions }, says: "could not be checked now"},
		"no customer to try with":               {change: func(f *servertest.Fixture) { f.Recharge.SetCustomers(nil) }, saved: true, says: "no customer in Recharge yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, servertest.ManyStores)
			if test.set != nil {
				f.Recharge.SetFaults(test.set)
			}
			if test.change != nil {
				test.change(f)
			}
			_, body := f.AppHome("/app/connect", f.SessionToken(nil), servertest.ConnectForm())
			_, result, _ := strings.Cut(body, "data-result=")
			if strings.Contains(body, named) || strings.HasPrefix(result, `"saved"`) != test.saved || !strings.Contains(body, test.says) ||
				strings.Contains(result, "are taken to their portal.") {
				t.Errorf("%s; want it saved: %v, that it says %q, and no more than was checked", body, test.saved, test.says)
			}
			_, home := f.AppHome("/app/connection", f.SessionToken(nil), nil)
			if strings.Contains(home, "are taken to their portal.") || test.change != nil && !strings.Contains(home, "could not be tried yet") {
				t.Errorf("the home says %s; want no more than was checked", home)
			}
		})
	}
}

// TestTokenRevoked checks that the app home does not stay green once Recharge no longer takes the Admin token, which
// the server notices when it looks at the store again, and that it is green again afterwards.
func TestTokenRevoked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Settings){"many stores": servertest.ManyStores, "one store": func(*config.Settings) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t, change)
			if name == "many stores" {
				f.Connect()
			}
			for _, refused := range []bool{false, true, false} {
				f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Status, f.Only = map[bool]int{true: 401}[refused], "token_information" })
				_, said := f.AppHome("/app/look", f.SessionToken(nil), url.Values{})
				_, home := f.AppHome("/app/connection", f.SessionToken(nil), nil)
				for what, page := range map[string]string{"Look again": said, "the home": home} {
					if got := strings.Contains(page, "Recharge refuses the Admin token"); got != refused {
						t.Errorf("%s, refused %t: %s", what, refused, page)
					}
					if got := strings.Contains(page, `class="note good" data-state="connected"`); got == refused {
						t.Errorf("%s, refused %t: %s; want it green only if the token works", what, refused, page)
					}
				}
			}
		})
	}
}
