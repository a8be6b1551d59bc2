// Package sandbox runs the whole click on one machine: an emulated store, an
// emulated Recharge and an embedded Redis, with the real server in the middle,
// started the way production starts it. It needs no account, no configuration
// and no network, and listens on loopback only.
package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/alicebob/miniredis/v2"

	"manage-subscriptions/config"
	"manage-subscriptions/extensions"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
	"manage-subscriptions/shopify/shopifytest"
)

const (
	shop       = "sandbox-store.myshopify.com"
	mountPath  = "/apps/subscriptions"
	portalPath = "/tools/recurring"
)

// Options configure a sandbox.
type Options struct {
	Once        bool      // one click without a browser, then end
	Destination string    // the page of the portal that Once asks for
	Port        int       // of the storefront; 0, or one that is taken: a free one
	Out         io.Writer // what a person reads
	Log         io.Writer // the server's log; nil drops it

	Classic  bool   // a store with legacy customer accounts and an older theme
	Path     string // where the merchant has put the app; "" is /apps/subscriptions
	Redirect string // "page" for a page that forwards; "" is a 302
}

// kind is what one of the two stores is like.
type kind struct{ name, email, theme, accounts string }

func (o Options) kind() kind {
	if o.Classic {
		return kind{"Sandbox Roastery", "hello@sandbox-roastery.example", "classic", "legacy"}
	}
	return kind{"Sandbox Coffee", "hello@sandbox-coffee.example", "modern", "new"}
}

// Sandbox is a running one.
type Sandbox struct {
	Store    *shopifytest.Server
	Recharge *rechargetest.Server

	kind     kind
	redis    *miniredis.Miniredis
	panel    *panel
	switches []*toggle
	stop     context.CancelFunc
	ended    chan error // what the server ended with
}

// Run starts two sandboxes, a store of today and an older one, and keeps them
// until ctx ends; or one for one click.
func Run(ctx context.Context, o Options) error {
	if o.Once {
		o.Port = 0
	}
	s, err := Start(ctx, o)
	if err != nil {
		return err
	}
	if o.Once {
		return errors.Join(s.once(ctx, o), s.Close())
	}
	o.Classic = true
	if o.Port != 0 {
		o.Port++
	}
	older, err := Start(ctx, o)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.panel.lead(older)
	older.panel.lead(s)
	welcome(o.Out, s, older)
	select {
	case <-ctx.Done():
	case err = <-s.ended:
		s.ended <- nil
	case err = <-older.ended:
		older.ended <- nil
	}
	return errors.Join(err, s.Close(), older.Close())
}

// Start starts a sandbox. The caller closes it.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	listener, err := listen(o.Port)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	if o.Path == "" {
		o.Path = mountPath
	}
	s := &Sandbox{kind: o.kind(), redis: miniredis.NewMiniRedis(), stop: stop, ended: make(chan error, 1)}
	s.redis.ClockTTL(true)
	if err := s.redis.StartAddr("127.0.0.1:0"); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), listener.Close())
	}
	secrets := newSecrets()
	s.switches = s.toggles()
	s.panel = newPanel(s)
	gallery, err := newGallery(s)
	if err != nil {
		stop()
		s.redis.Close()
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), listener.Close())
	}
	s.startRecharge(secrets, "http://"+listener.Addr().String()+portalPath+"/portal/")
	s.startStore(listener, gallery, o)
	public, err := s.startServer(ctx, secrets, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), s.Close())
	}
	s.Store.AddApp(shopifytest.App{PathPrefix: o.Path, ProxyURL: "http://" + public + mountPath, Secret: secrets.app})
	s.Store.AddApp(shopifytest.App{PathPrefix: portalPath, ProxyURL: s.Recharge.URL + "/proxy", Secret: secrets.recharge})
	return s, nil
}

// Close ends all of it.
func (s *Sandbox) Close() error {
	s.stop()
	err := <-s.ended
	s.Store.Close()
	s.Recharge.Close()
	s.redis.Close()
	return err
}

// listen takes the port that the README names, or a free one if that is taken.
func listen(port int) (net.Listener, error) {
	if port != 0 {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// secrets are drawn anew at every start: none is worth stealing, none is shared.
type secrets struct{ app, recharge, token, storefront string }

func newSecrets() secrets {
	return secrets{rand.Text(), rand.Text(), "sk_test_" + rand.Text(), "strfnt_" + rand.Text()}
}

func (s *Sandbox) startStore(listener net.Listener, gallery *gallery, o Options) {
	s.Store = shopifytest.NewServerOn(listener, shopifytest.Options{
		Shop:      shop,
		Name:      s.kind.name,
		Email:     s.kind.email,
		Theme:     s.kind.theme,
		Accounts:  s.kind.accounts,
		Shoppers:  shoppers(),
		Extension: extensions.Theme(),
		Blocks:    blocks(o.Path),
		Embeds:    embeds(o),
		Footer:    s.panel.draw,
		Handlers: map[string]http.Handler{
			"POST /sandbox/switch": http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.panel.turn)),
			"GET /sandbox/gallery": http.HandlerFunc(gallery.index),
			"GET /sandbox/page":    http.HandlerFunc(gallery.show),
		},
	})
}

// blocks are the app blocks that the merchant has placed: one for each audience.
func blocks(path string) []shopifytest.Block {
	var blocks []shopifytest.Block
	for audience, style := range map[string]string{"everyone": "button", "signed_in": "secondary", "subscribers": "link"} {
		blocks = append(blocks, shopifytest.Block{ID: audience, Name: "manage-subscriptions", Page: "/", Settings: proxied(path, map[string]any{
			"audience": audience, "style": style, "text": "For " + strings.ReplaceAll(audience, "_", " "),
		})})
	}
	slices.SortFunc(blocks, func(a, b shopifytest.Block) int { return strings.Compare(a.ID, b.ID) })
	return blocks
}

// embeds are the app embeds that are turned on: in the older theme, which has no
// room for blocks.
func embeds(o Options) []shopifytest.Block {
	if !o.Classic {
		return nil
	}
	return []shopifytest.Block{{ID: "account-link", Name: "account-link", Settings: proxied(o.Path, map[string]any{})}}
}

// proxied adds where the merchant has put the app to a block's settings.
func proxied(path string, settings map[string]any) map[string]any {
	parts := strings.Split(path, "/") // "", prefix, subpath
	settings["prefix"], settings["subpath"] = parts[1], parts[2]
	return settings
}

func (s *Sandbox) startRecharge(secrets secrets, portalBase string) {
	s.Recharge = rechargetest.NewServer(rechargetest.Options{
		Shop:            shop,
		Tokens:          []rechargetest.Token{{Value: secrets.token, Scopes: []string{"read_customers", "write_session", "read_store"}}},
		StorefrontToken: secrets.storefront,
		ClientSecret:    secrets.recharge,
		PortalBase:      portalBase,
		Customers:       customers(),
		Footer:          s.panel.draw,
	})
}

// startServer runs the real server, configured as an operator would, and
// returns where it listens once it does.
func (s *Sandbox) startServer(ctx context.Context, secrets secrets, o Options) (string, error) {
	redirect := "location"
	if o.Redirect != "" {
		redirect = o.Redirect
	}
	cfg, err := config.Settings{
		ShopifyAPIKey: "sandbox", ShopifyAPISecret: secrets.app, ShopifyShop: shop, CustomerAccounts: s.kind.accounts,
		AppURL: s.Store.URL, Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: "redis://" + s.redis.Addr(),
		RechargeAPIToken: secrets.token, RechargeStorefrontToken: secrets.storefront, RechargeRate: "2,40",
		RechargeAPIURL: s.Recharge.URL, RechargePortalURL: s.Store.URL + portalPath + "/portal/",
		PortalLink: "signed_in", Redirect: redirect, CustomerTTL: "24h", LinkTTL: "60s", RechargeTimeout: "3s", ClickTimeout: "8s",
		LogLevel: "info", LogFormat: "text",
	}.Check()
	if err != nil {
		s.ended <- nil
		return "", err
	}
	log := o.Log
	if log == nil {
		log = io.Discard
	}
	listening := make(chan string, 1)
	go func() {
		s.ended <- server.Run(ctx, cfg,
			server.WithLog(slog.New(s.panel.watch(server.NewLog(log, cfg).Handler()))),
			server.OnListening(func(at server.Addresses) { listening <- at.Public.String() }))
	}()
	select {
	case public := <-listening:
		return public, nil
	case err := <-s.ended:
		s.ended <- nil
		return "", err
	}
}

func welcome(out io.Writer, s, older *Sandbox) {
	fmt.Fprintf(out, `
  The sandbox is running, on this machine only.

    Open      %[1]s/
    Sign in   as Pat, who subscribes; Robin, who never did; or Sam, who has two records
    Click     Subscriptions, in the menu or on the account page

    %[1]s/sandbox/gallery   every page a shopper can meet, in every language
    %[2]s/                  another store: an older theme, legacy customer accounts

  The panel at the foot of each page breaks things, so that you see every outcome.
  Ctrl-C ends it. Below is the server's log.

`, s.Store.URL, older.Store.URL)
}

// shoppers are who can sign in.
func shoppers() []shopifytest.Shopper {
	return []shopifytest.Shopper{
		{ID: "6100200300400", Email: "pat@example.test", FirstName: "Pat", LastName: "Doe", Note: "has two subscriptions"},
		{ID: "6100200300500", Email: "robin@example.test", FirstName: "Robin", LastName: "Roe", Note: "never subscribed"},
		{ID: "6100200300600", Email: "sam@example.test", FirstName: "Sam", LastName: "Poe", Note: "has two Recharge records, one of them active"},
	}
}

// customers are Recharge's: a stranger comes first, so that whoever takes the
// first record of an unfiltered page opens the wrong portal.
func customers() []rechargetest.Customer {
	return []rechargetest.Customer{
		{ID: 70999001, Hash: "aaaabbbbccccdddd", ShopifyCustomerID: "6999999999999", Email: "stranger@example.test", FirstName: "Someone", LastName: "Else", Subscriptions: []rechargetest.Subscription{{ID: 50999001, Product: "Night Shift, 1 kg"}}},
		{ID: 70100200, Hash: "1f2e3d4c5b6a7988", ShopifyCustomerID: "6100200300400", Email: "pat@example.test", FirstName: "Pat", LastName: "Doe", Subscriptions: []rechargetest.Subscription{
			{ID: 50500600, Product: "Morning House, 250 g"}, {ID: 50500601, Product: "Slow Sunday, 250 g"},
		}},
		{ID: 70100300, Hash: "2e3d4c5b6a798811", ShopifyCustomerID: "6100200300600", Email: "sam.old@example.test", FirstName: "Sam", LastName: "Poe"},
		{ID: 70100301, Hash: "70100301a1b2c3d4e5f60718", ShopifyCustomerID: "6100200300600", Email: "sam@example.test", FirstName: "Sam", LastName: "Poe", Subscriptions: []rechargetest.Subscription{{ID: 50500700, Product: "Night Shift, 500 g"}}},
	}
}
