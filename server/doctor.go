package server

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge"
	"manage-subscriptions/server/doctor"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Questions are what an operator asks the doctor beside the settings.
type Questions struct {
	Shop     string // whose Recharge, where no store is configured
	StoreURL string // the storefront
	Path     string // of the app on it
	Customer string // whose Shopify customer id
	Roots    *x509.CertPool
}

// Doctor looks at all that a server with these settings needs, and tells each
// check as soon as those before it are told. It serves nothing and changes nothing.
// Errors: config.Problems where the question is wrong.
func Doctor(ctx context.Context, cfg config.Config, ask Questions, tell func(doctor.Check), opts ...Option) (doctor.Report, error) {
	// What goes wrong is in the report.
	o := options{log: slog.New(slog.DiscardHandler), now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	shop, err := ask.shop(cfg)
	if err != nil {
		return doctor.Report{}, err
	}
	keep, err := openStore(cfg, o)
	if err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	defer func() { _ = keep.Close() }()
	s := &server{cfg: cfg, now: o.now, store: keep, calls: newCalls(cfg, o.network)}
	defer s.calls.CloseIdleConnections()
	return doctor.Run(ctx, doctor.Patient{
		Config: cfg, Store: keep, Shop: shop, Now: o.now, TLS: ask.Roots,
		Recharge: func(ctx context.Context) (*recharge.Options, bool, error) { return s.examined(ctx, shop) },
		StoreURL: ask.StoreURL, Path: ask.Path, Customer: ask.Customer,
	}, tell), nil
}

// shop is whose Recharge is looked at; "" if none is named.
func (q Questions) shop(cfg config.Config) (shopify.Shop, error) {
	if q.Shop == "" {
		return shopify.Shop(cfg.Shop), nil
	}
	shop, err := shopify.ParseShop(q.Shop)
	switch {
	case err != nil:
		return "", config.Problems{{Name: "--shop", What: "is not a myshopify.com name", Hint: "my-store.myshopify.com, not the store's own domain"}}
	case cfg.Shop != "" && cfg.Shop != q.Shop:
		return "", config.Problems{{Name: "--shop", What: "is another store than SHOPIFY_SHOP's", Hint: "leave it out: this server is for one store"}}
	}
	return shop, nil
}

// examined are the options of a shop's client, and whether its links are by hash;
// nil if it has not connected Recharge. Its few calls are in no numbers; of what
// they take of the budget, Recharge's answers tell the servers.
func (s *server) examined(ctx context.Context, shop shopify.Shop) (*recharge.Options, bool, error) {
	var options recharge.Options
	byHash := s.cfg.LinkByHash
	switch {
	case shop == "":
		return nil, false, nil
	case s.cfg.Shop != "":
		if s.cfg.RechargeAPIToken.Empty() {
			return nil, false, nil
		}
		options = s.clientOptions(shop, s.cfg.RechargePortalURL, s.cfg.RechargeAPIToken.Reveal(), s.cfg.RechargeStorefrontToken.Reveal())
	default:
		connection, err := s.store.Connection(ctx, shop)
		if err != nil || connection == nil {
			return nil, false, err
		}
		if options, err = s.connectedOptions(connection); err != nil {
			return nil, false, fmt.Errorf("%w: %w", store.ErrUnreadable, err)
		}
		byHash = cmp.Or(connection.Traits().Link, s.defaults().Link) == "hash"
	}
	options.OnCall = nil
	return &options, byHash, nil
}
