package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
	"manage-subscriptions/recharge"
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
	o := options{log: slog.New(slog.DiscardHandler), now: time.Now, readOnly: true}
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
	if err := s.wireMerchants(); err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	return doctor.Run(ctx, doctor.Patient{
		Config: cfg, Store: keep, Shop: shop, Now: o.now, TLS: ask.Roots,
		Recharge: func(ctx context.Context) (*recharge.Client, bool, error) { return s.examined(ctx, shop) },
		StoreURL: ask.StoreURL, Path: ask.Path, Customer: ask.Customer,
	}, tell), nil
}

// shop is whose Recharge is looked at; "" if none is named.
func (q Questions) shop(cfg config.Config) (shopify.Shop, error) {
	if q.Shop == "" {
		return cfg.Shop, nil
	}
	shop, err := shopify.ParseShop(q.Shop)
	switch {
	case err != nil:
		return "", config.Problems{{Name: "--shop", What: "is not a myshopify.com name", Hint: "my-store.myshopify.com, not the store's own domain"}}
	case cfg.Shop != "" && cfg.Shop != shop:
		return "", config.Problems{{Name: "--shop", What: "is another store than SHOPIFY_SHOP's", Hint: "leave it out: this server is for one store"}}
	}
	return shop, nil
}

// examined is a shop's client, and whether its links are by hash; nil if it has not
// connected Recharge.
func (s *server) examined(ctx context.Context, shop shopify.Shop) (*recharge.Client, bool, error) {
	if shop == "" {
		return nil, false, nil
	}
	var record *store.Record
	if s.merchants.Own() == "" {
		var err error
		if record, err = s.store.Record(ctx, shop); err != nil || record == nil {
			return nil, false, err
		}
	}
	merchant, err := s.merchants.Of(shop, record)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("%w: %w", store.ErrUnreadable, err)
	case merchant == nil:
		return nil, false, nil
	}
	return merchant.Client, merchant.ByHash, nil
}
