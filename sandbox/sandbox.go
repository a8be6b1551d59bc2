// Package sandbox runs the whole click on one machine: the real server between emulated stores, an
// emulated Recharge and a Redis. One of the stores is headless. The sandbox needs no account,
// configuration or network, and listens on loopback only.
package sandbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

const (
	mountPath  = "/apps/subscriptions"
	portalPath = "/tools/recurring"
)

// Options configure a sandbox.
type Options struct {
	// The command has these as flags.
	Once        bool   `help:"Make one click without a browser and print every hop. Exit 0 only in the portal."`
	Destination string `help:"The page of the portal that --once asks for." default:"subscriptions"`
	Index       bool   `default:"true" negatable:"" help:"Import all customers first, as serve does."`

	Port      int  `kong:"-"` // the storefront's; 0 takes a free one
	Elsewhere bool `kong:"-"` // if the port is taken, say so and take a free one, instead of failing

	// StorefrontPort is the headless storefront's port, chosen like Port.
	StorefrontPort int              `kong:"-"`
	Out            io.Writer        `kong:"-"` // messages for a person
	Log            io.Writer        `kong:"-"` // the server's log; nil drops it
	Classic        bool             `kong:"-"` // a store with legacy customer accounts and an older theme
	New            bool             `kong:"-"` // a store that has not installed the app yet
	Headless       bool             `kong:"-"` // a store whose own server asks for links and signs them
	Path           string           `kong:"-"` // path that the merchant has chosen for the app; "" is /apps/subscriptions
	Redirect       string           `kong:"-"` // "page" for a page that forwards; "" is a 302
	Subscribers    int              `kong:"-"` // further customers of the store, who have no account
	Now            func() time.Time `kong:"-"` // the clock of all parts; nil is time.Now
}

// kind describes one of the stores.
type kind struct {
	shop                         shopify.Shop
	name, email, theme, accounts string
	headless                     bool
}

func (o Options) kind() kind {
	if o.Classic {
		return kind{
			"sandbox-roastery.myshopify.com", "Sandbox Roastery", "hello@sandbox-roastery.example", "classic", "legacy", false,
		}
	}
	if o.Headless {
		return kind{"sandbox-tea.myshopify.com", "Sandbox Tea", "hello@sandbox-tea.example", "modern", "new", true}
	}
	return kind{"sandbox-coffee.myshopify.com", "Sandbox Coffee", "hello@sandbox-coffee.example", "modern", "new", false}
}

// Sandbox is a running store with its Recharge.
type Sandbox struct {
	Store    *shopifytest.Server
	Recharge *rechargetest.Server
	Tokens   Tokens // that the merchant pastes

	kind        kind
	path        string // path that the merchant has chosen for the app
	subscribers int    // further ones
	listener    net.Listener
	environment *environment
	panel       *panel
	switches    []*toggle
	headless    atomic.Pointer[storefront] // nil if the storefront is Shopify's
}

// Tokens are drawn at random on every start, so that they are not worth stealing and no one shares them.
type Tokens struct{ Admin, Storefront, Secret string }

// Run starts three stores and keeps them running until ctx ends: a current one that has connected
// Recharge, an older one that has not installed the app yet, and a headless one. With Once it
// starts one store for one click.
func Run(ctx context.Context, o Options) error {
	if o.Once {
		s, err := Start(ctx, o)
		if err != nil {
			return err
		}
		return errors.Join(s.once(ctx, o), s.Close())
	}
	older, headless := o, o
	o.Subscribers = 12
	older.Classic, older.New = true, true
	older.Elsewhere, headless.Elsewhere = true, true
	headless.Headless, headless.Port = true, 0
	if o.Port != 0 {
		older.Port, headless.StorefrontPort = o.Port+1, o.Port+2
	}
	stores, err := StartAll(ctx, o, older, headless)
	if err != nil {
		return err
	}
	welcome(o.Out, stores[0], stores[1], stores[2])
	ended := stores[0].environment.ended
	select {
	case <-ctx.Done():
	case err = <-ended:
		ended <- nil
	}
	return errors.Join(err, stores[0].Close())
}

// Start starts a sandbox with one store. The caller must close it.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	stores, err := StartAll(ctx, o)
	if err != nil {
		return nil, err
	}
	return stores[0], nil
}

// StartAll starts a sandbox with several stores that share a server. The first Options configure
// the server. Closing one store closes all of them.
func StartAll(ctx context.Context, all ...Options) ([]*Sandbox, error) {
	var stores []*Sandbox
	for _, o := range all {
		listener, err := o.listen(o.Port, o.kind().name)
		if err != nil {
			for _, s := range stores {
				err = errors.Join(err, s.listener.Close())
			}
			return nil, fmt.Errorf("start sandbox: %w", err)
		}
		s := &Sandbox{
			kind: o.kind(), path: cmp.Or(o.Path, mountPath), listener: listener, subscribers: o.Subscribers,
			Tokens: Tokens{"sk_test_" + rand.Text(), "strfnt_" + rand.Text(), rand.Text()},
		}
		stores = append(stores, s)
	}
	e, err := startEnvironment(ctx, all[0], stores...)
	if err != nil {
		return nil, err
	}
	for i, s := range stores {
		if all[i].New {
			continue
		}
		s.Store.Install(ClientID)
		if err := s.connect(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), e.close())
		}
		if all[0].Index { // a store's Recharge always has news, which prove that webhooks arrive
			s.Recharge.ChangeCustomer(customers()[0])
		}
		if !all[i].Headless {
			continue
		}
		if err := s.openStorefront(ctx, all[i]); err != nil {
			return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), e.close())
		}
	}
	return stores, nil
}

// Close stops the sandbox, including its other stores.
func (s *Sandbox) Close() error { return s.environment.close() }

// Shop returns the store's name at Shopify.
func (s *Sandbox) Shop() string { return string(s.kind.shop) }

// Headless returns the headless storefront's URL and the API key of its server, or "" if the store
// has none.
func (s *Sandbox) Headless() (url, key string) {
	if f := s.headless.Load(); f != nil {
		return f.url, f.key
	}
	return "", ""
}

// AppURL returns the server's URL.
func (s *Sandbox) AppURL() string { return s.environment.appURL() }

// SignedQuery returns the query of a shopper's click, as Shopify would send it.
func (s *Sandbox) SignedQuery(customer string) string {
	return s.Store.SignedQuery("", customer, s.path, s.environment.appSecret)
}

// Held returns everything in the server's Redis, by key.
func (s *Sandbox) Held() map[string]string { return dump(s.environment.redis) }

// listen takes a port for a store. 0 is a free one.
func (o Options) listen(port int, store string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil || port == 0 {
		return l, err
	}
	if !o.Elsewhere {
		return nil, fmt.Errorf("open %s at port %d: %w", store, port, err)
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		fmt.Fprintf(o.Out, "Port %d is taken, so %s is at http://%s/\n", port, store, l.Addr())
	}
	return l, err
}

// build creates the store and its Recharge, which signs with key. The store knows the app, but has not
// installed it.
func (s *Sandbox) build(e *environment, key *rsa.PrivateKey) error {
	s.environment = e
	s.switches = s.toggles()
	gallery, err := newGallery(s)
	if err != nil {
		return err
	}
	s.panel = newPanel(s, gallery)
	url := "http://" + s.listener.Addr().String()
	rechargeSecret := rand.Text()
	s.Recharge = rechargetest.NewServer(rechargetest.Options{
		Shop: string(s.kind.shop),
		Tokens: []rechargetest.Token{{
			Value: s.Tokens.Admin, Scopes: []string{"read_customers", "write_session", "read_store"},
			ClientSecret: s.Tokens.Secret,
		}},
		StorefrontToken: s.Tokens.Storefront,
		ClientSecret:    rechargeSecret,
		SigningKey:      key,
		PortalBase:      url + portalPath + "/portal/",
		Customers:       append(s.kind.customers(), subscribers(s.subscribers)...),
		Now:             e.now,
	})
	s.startStore()
	s.Store.AddApp(shopifytest.App{
		PathPrefix: portalPath, ProxyURL: s.Recharge.URL + "/proxy", Secret: rechargeSecret, NoLink: true,
	})
	s.Store.Register(e.partnerApp(s.path))
	return nil
}

func (s *Sandbox) startStore() {
	s.Store = shopifytest.NewServerOn(s.listener, shopifytest.Options{
		Shop:      string(s.kind.shop),
		Name:      s.kind.name,
		Email:     s.kind.email,
		Country:   "US",
		Theme:     s.kind.theme,
		Accounts:  s.kind.accounts,
		Shoppers:  shoppers(),
		Extension: extensions.Theme(),
		Blocks:    blocks(),
		Embeds:    embeds(s.kind.theme),
		AccountPage: func(o shopifytest.AccountOpening) template.HTML {
			return s.Recharge.AccountPage(o.Shopper.ID, o.Page+o.Path, o.Query)
		},
		Around: s.panel.around,
		Now:    s.environment.now,
	})
}

// connect pastes the tokens as a merchant does in the app home, and the address of Recharge's page in the account, so
// that the server knows it when the portal moves there.
func (s *Sandbox) connect(ctx context.Context) error {
	form := url.Values{"token": {s.Tokens.Admin}, "storefront": {s.Tokens.Storefront}, "secret": {s.Tokens.Secret}}
	body, err := s.inAppHome(ctx, "/app/connect", form)
	if err != nil {
		return err
	}
	if !strings.Contains(body, `data-result="saved"`) {
		return fmt.Errorf("connect %s: %s", s.kind.shop, body)
	}
	if s.kind.accounts == "legacy" { // which has no pages of Recharge
		return nil
	}
	_, err = s.inAppHome(ctx, "/app/settings", url.Values{"page": {s.Store.AccountPage()}})
	return err
}

// blocks returns the app blocks that the merchant has placed, one for each audience.
func blocks() []shopifytest.Block {
	var blocks []shopifytest.Block
	for _, one := range []struct{ audience, style, text string }{
		{"everyone", "button", "Manage subscriptions"},
		{"signed_in", "secondary", "Manage subscriptions (signed in)"},
		{"subscribers", "link", "Manage subscriptions (subscribers)"},
	} {
		settings := map[string]any{"audience": one.audience, "style": one.style, "text": one.text}
		blocks = append(blocks, shopifytest.Block{
			ID: one.audience, Name: "manage-subscriptions", Page: "/", Settings: settings,
		})
	}
	return blocks
}

// embeds returns the app embeds that are turned on. Only the older theme has them, because it has
// no room for blocks.
func embeds(theme string) []shopifytest.Block {
	if theme != "classic" {
		return nil
	}
	return []shopifytest.Block{{ID: "account-link", Name: "account-link"}}
}

func welcome(out io.Writer, s, older, headless *Sandbox) {
	storefront, _ := headless.Headless()
	fmt.Fprintf(out, `
  The sandbox is running, on this machine only.

  As a shopper
    Open      %[1]s/
    Sign in   as Pat, who subscribes; Robin, who never did; or Sam, who has two records
    Click     Subscriptions, in the menu or on the account page

  As a merchant
    Open      %[2]s/admin
    Install   Manage Subscriptions, in a store that does not have it yet: an older theme, legacy accounts
    Paste     Admin token       %[3]s
              Storefront token  %[4]s
              API Client Secret %[5]s

  As a shopper of a headless storefront
    Open      %[6]s/
    Sign in   as Pat, whom Shopify knows, or Kim, whom only Recharge knows; and click either button

  As the operator of all stores, in another shell
    Paste     %[8]sstores

  As the developer of a headless storefront, in another shell
    Paste     %[7]s

    %[1]s/sandbox/gallery   every page, in every language
    %[1]s/admin             the admin of the first store

  The panel at the top of each page breaks things, so that you see every outcome.
  Ctrl-C ends it. Below is the server's log.

`, s.Store.URL, older.Store.URL, older.Tokens.Admin, older.Tokens.Storefront, older.Tokens.Secret,
		storefront, headless.example(), s.environment.run())
}
