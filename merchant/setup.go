package merchant

import (
	"context"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Setup is how far a store has been set up. All of it follows from what is known of the store, so that nothing
// counts as done because somebody has said so.
type Setup []SetupStep

// SetupStep is a step of the setup guide.
type SetupStep struct {
	Name  string // "connect", "portal", "link" or "try"
	Done  bool
	Now   bool // the first that is not done
	Title Text
}

// SetupOf returns the steps for a store. connection is nil if it is not connected, and traits are those in use.
func (s *Service) SetupOf(connection *store.Connection, traits store.Traits) Setup {
	connected := connection != nil
	setup := Setup{
		{Name: "connect", Done: connected && !connection.Look.Refused},
		{Name: "portal", Done: connected && (s.Merchants.Own() != "" || portalKnown(connection))},
		{Name: "link", Done: connected && traits.Path != ""},
		{Name: "try", Done: connected && traits.Reached},
	}
	before := true // all steps before are done
	for i := range setup {
		step := &setup[i]
		step.Title, step.Now, before = sentence("step "+step.Name), before && !step.Done, before && step.Done
	}
	return setup
}

// portalKnown reports whether a portal has opened, or the merchant has said which one the store shows. That
// Recharge opens none at the store is not enough. It can be because of the tokens or because the portal is in the
// Shopify account.
func portalKnown(connection *store.Connection) bool {
	return connection.Detected.Link == "signed_in" || connection.Chosen.Link != "" || connection.Chosen.Affinity
}

// ChoosePortal saves which portal the store shows: "affinity", or "unity", whose page in the customer account is at
// an address. Everything else that was chosen stays. Its error is the store's.
func (s *Service) ChoosePortal(ctx context.Context, shop shopify.Shop, portal, page string) (Said, error) {
	connection, err := s.Connection(ctx, shop)
	switch {
	case err != nil:
		return Said{}, err
	case connection == nil:
		return bad("not saved, not connected"), nil
	}
	var chosen store.Traits
	switch portal {
	case "affinity":
		chosen.Affinity = true
	case "unity":
		chosen.Link, chosen.AccountPage = "account", page
	default:
		said := bad("portal not chosen")
		said.Field = "portal"
		return said, nil
	}
	return s.saveChosen(ctx, shop, &chosen, func(last store.Traits) store.Traits {
		switch last.Affinity = chosen.Affinity; {
		case !chosen.Affinity:
			last.Link, last.AccountPage = chosen.Link, chosen.AccountPage
		case last.Link == "account":
			last.Link = ""
		}
		return last
	}), nil
}

// Waits reports whether the next step ends by itself, with a click or a try.
func (s Setup) Waits() bool {
	return len(s) > 0 && !s.Complete() && s[0].Done && s[1].Done
}

// Count returns how many steps are done.
func (s Setup) Count() (n int) {
	for _, step := range s {
		if step.Done {
			n++
		}
	}
	return n
}

// Complete reports whether all steps are done.
func (s Setup) Complete() bool { return s.Count() == len(s) }

// reached notes that a try has ended in the portal. If that fails, the next try or click does it.
func (s *Service) reached(ctx context.Context, shop shopify.Shop) {
	connection, err := s.current(ctx, shop)
	if err == nil && connection != nil {
		err = s.change(ctx, connection, func(c *store.Connection) bool {
			return c.Learn(store.Traits{Reached: true}, s.Now())
		})
	}
	if err != nil {
		s.Log.InfoContext(ctx, "try not noted", "shop", string(shop), "cause", portal.Reason(err))
	}
}
