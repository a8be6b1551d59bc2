package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge"
	"manage-subscriptions/server/doctor"
	"manage-subscriptions/shopify"
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
func Doctor(ctx context.Context, cfg config.Config, ask Questions, tell func(doctor.Check), opts ...Option) (doctor.Report, error) {
	// What goes wrong is in the report.
	o := options{log: slog.New(slog.DiscardHandler), now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	keep, err := openStore(cfg, o)
	if err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	defer func() { _ = keep.Close() }()
	s := &server{cfg: cfg, now: o.now, store: keep, calls: newCalls(cfg, o.network)}
	defer s.calls.CloseIdleConnections()
	shop := shopify.Shop(cfg.Shop)
	if shop == "" && ask.Shop != "" {
		if shop, err = shopify.ParseShop(ask.Shop); err != nil {
			return doctor.Report{}, fmt.Errorf("doctor: --shop: %w", err)
		}
	}
	return doctor.Run(ctx, doctor.Patient{
		Config: cfg, Store: keep, Shop: shop, Now: o.now, TLS: ask.Roots,
		Recharge: func(ctx context.Context) (*recharge.Options, error) { return s.examined(ctx, shop) },
		StoreURL: ask.StoreURL, Path: ask.Path, Customer: ask.Customer,
	}, tell), nil
}

// examined are the options of a shop's client; nil if it has not connected
// Recharge. Its calls count among those of the servers, but are in no numbers.
func (s *server) examined(ctx context.Context, shop shopify.Shop) (*recharge.Options, error) {
	var options recharge.Options
	switch {
	case shop == "":
		return nil, nil
	case s.cfg.Shop != "":
		if s.cfg.RechargeAPIToken.Empty() {
			return nil, nil
		}
		options = s.clientOptions(shop, s.cfg.RechargePortalURL, s.cfg.RechargeAPIToken.Reveal(), s.cfg.RechargeStorefrontToken.Reveal())
	default:
		connection, err := s.store.Connection(ctx, shop)
		if err != nil || connection == nil {
			return nil, err
		}
		if options, err = s.connectedOptions(connection); err != nil {
			return nil, err
		}
	}
	options.OnCall = nil
	return &options, nil
}
