package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
)

// Doctor checks what a server with these settings needs, and passes each check to tell
// when those before it have been. It serves nothing and changes nothing.
// Errors: config.Problems where the options are wrong.
func Doctor(
	ctx context.Context, cfg config.Config, ask doctor.Options, tell func(doctor.Check), opts ...Option,
) (doctor.Report, error) {
	if _, err := ask.Check(cfg); err != nil {
		return doctor.Report{}, err
	}
	// What goes wrong is in the report.
	opts = append([]Option{WithLog(slog.New(slog.DiscardHandler))}, opts...)
	target, end, err := readOnly(cfg, opts)
	if err != nil {
		return doctor.Report{}, fmt.Errorf("doctor: %w", err)
	}
	defer end()
	return doctor.Run(ctx, target, ask, tell)
}

// readOnly opens what doctor and preview look at. They change nothing.
func readOnly(cfg config.Config, opts []Option) (target doctor.Target, end func(), err error) {
	o := options{now: time.Now, readOnly: true}
	for _, opt := range opts {
		opt(&o)
	}
	keep, err := openStore(cfg, o)
	if err != nil {
		return doctor.Target{}, nil, err
	}
	s := &server{cfg: cfg, now: o.now, store: keep, calls: newCalls(cfg, o.network)}
	end = func() {
		s.calls.CloseIdleConnections()
		_ = keep.Close()
	}
	if err := s.wireMerchants(); err != nil {
		end()
		return doctor.Target{}, nil, err
	}
	return doctor.Target{Config: cfg, Store: keep, Merchants: s.merchants, Now: o.now}, end, nil
}
