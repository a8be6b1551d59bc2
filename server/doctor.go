package server

import (
	"context"
	"fmt"
	"log/slog"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
)

// Doctor checks what a server with these settings needs. It serves nothing and changes
// nothing.
// Errors: config.Problems where the options are wrong.
func Doctor(ctx context.Context, cfg config.Config, ask doctor.Options, o Options) (doctor.Report, error) {
	o.Log = slog.New(slog.DiscardHandler) // what goes wrong is in the report
	target, end, err := readOnly(cfg, o)
	if err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	defer end()
	return doctor.Run(ctx, target, ask)
}

// readOnly opens what doctor and preview look at. They change nothing.
func readOnly(cfg config.Config, o Options) (target doctor.Target, end func(), err error) {
	o, flush := o.complete(cfg)
	s := &server{Options: o, cfg: cfg, calls: newCalls(cfg, o)}
	if s.store, err = openStore(cfg, o, ""); err != nil {
		flush()
		return doctor.Target{}, nil, err
	}
	end = func() {
		s.calls.CloseIdleConnections()
		_ = s.store.Close()
		flush()
	}
	if err := s.wireMerchants(); err != nil {
		end()
		return doctor.Target{}, nil, err
	}
	return doctor.Target{Config: cfg, Store: s.store, Merchants: s.merchants, Now: o.Now}, end, nil
}
