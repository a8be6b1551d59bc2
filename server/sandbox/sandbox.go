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
	"strconv"

	"github.com/alicebob/miniredis/v2"

	"manage-subscriptions/config"
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
}

// Sandbox is a running one.
type Sandbox struct {
	Store    *shopifytest.Server
	Recharge *rechargetest.Server

	redis    *miniredis.Miniredis
	panel    *panel
	switches []*toggle
	stop     context.CancelFunc
	ended    chan error // what the server ended with
}

// Run starts a sandbox and keeps it until ctx ends, or for one click.
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
	s.welcome(o.Out)
	select {
	case <-ctx.Done():
		return s.Close()
	case err := <-s.ended:
		s.ended <- nil
		return errors.Join(err, s.Close())
	}
}

// Start starts a sandbox. The caller closes it.
func Start(ctx context.Context, o Options) (*Sandbox, error) {
	listener, err := listen(o.Port)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	s := &Sandbox{redis: miniredis.NewMiniRedis(), stop: stop, ended: make(chan error, 1)}
	s.redis.ClockTTL(true)
	if err := s.redis.StartAddr("127.0.0.1:0"); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), listener.Close())
	}
	secrets := newSecrets()
	s.switches = s.toggles()
	s.panel = newPanel(s)
	s.startRecharge(secrets, "http://"+listener.Addr().String()+portalPath+"/portal/")
	s.startStore(listener)
	public, err := s.startServer(ctx, secrets, o.Log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox: %w", err), s.Close())
	}
	s.Store.AddApp(shopifytest.App{PathPrefix: mountPath, ProxyURL: "http://" + public + mountPath, Secret: secrets.app})
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

func (s *Sandbox) startStore(listener net.Listener) {
	s.Store = shopifytest.NewServerOn(listener, shopifytest.Options{
		Shop:     shop,
		Name:     "Sandbox Coffee",
		Email:    "hello@sandbox-coffee.example",
		Shoppers: shoppers(),
		Footer:   s.panel.draw,
		Handlers: map[string]http.Handler{
			"POST /sandbox/switch": http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.panel.turn)),
		},
	})
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
func (s *Sandbox) startServer(ctx context.Context, secrets secrets, log io.Writer) (string, error) {
	cfg, err := config.Settings{
		ShopifyAPIKey: "sandbox", ShopifyAPISecret: secrets.app, ShopifyShop: shop, CustomerAccounts: "new",
		AppURL: s.Store.URL, Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: "redis://" + s.redis.Addr(),
		RechargeAPIToken: secrets.token, RechargeStorefrontToken: secrets.storefront, RechargeRate: "2,40",
		RechargeAPIURL: s.Recharge.URL, RechargePortalURL: s.Store.URL + portalPath + "/portal/",
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: "60s", RechargeTimeout: "3s", ClickTimeout: "8s",
		LogLevel: "info", LogFormat: "text",
	}.Check()
	if err != nil {
		s.ended <- nil
		return "", err
	}
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

func (s *Sandbox) welcome(out io.Writer) {
	fmt.Fprintf(out, `
  The sandbox is running, on this machine only.

    Open      %[1]s/
    Sign in   as Pat, who subscribes; Robin, who never did; or Sam, who has two records
    Click     Subscriptions, in the menu or on the account page

  The panel at the foot of each page breaks things, so that you see every outcome.
  Ctrl-C ends it. Below is the server's log.

`, s.Store.URL)
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
