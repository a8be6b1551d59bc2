package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"time"

	"github.com/redis/go-redis/v9"

	"manage-subscriptions/config"
	"manage-subscriptions/server"
	"manage-subscriptions/server/bare"
)

const (
	adminToken = "bench-admin-token"
	portalBase = "https://bench-shop.myshopify.com/tools/recurring/portal/"
)

// serveOursCommand is this program, as main runs it, with its log thrown away.
type serveOursCommand struct {
	Redis, Recharge string
	LinkTTL         string `default:"60m"`
	NoIndex         bool
	Profile         string // where a processor profile is written; "": none
}

func (s *serveOursCommand) Run(ctx context.Context, out io.Writer) error {
	cfg, err := s.settings().Check()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if s.Profile != "" {
		file, err := os.Create(s.Profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	server.MuteLibraries()
	options := []server.Option{
		server.WithLog(server.NewLog(null, cfg)),
		server.OnListening(func(at server.Addresses) { fmt.Fprintln(out, "ready", at.Public, at.Ops) }),
	}
	if s.NoIndex {
		options = append(options, server.WithoutIndex())
	}
	return server.Run(untilClosed(ctx), cfg, options...)
}

func (s *serveOursCommand) settings() config.Settings {
	return config.Settings{
		ShopifyAPIKey: "bench", ShopifyAPISecret: appSecret, ShopifyShop: benchShop, CustomerAccounts: "new", AppURL: "https://bench.example",
		Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: s.Redis,
		RechargeAPIToken: adminToken, RechargeAPIURL: s.Recharge, RechargePortalURL: portalBase, RechargeRate: "1000,10000", PortalAPIKey: portalKey,
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: s.LinkTTL, RechargeTimeout: "3s", ClickTimeout: "8s",
		LogLevel: "info", LogFormat: "json",
	}
}

// untilClosed ends when the standard input does: nothing is left behind by one who
// dies.
func untilClosed(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx
}

// serveBareCommand is what this program is measured beside.
type serveBareCommand struct{ Redis string }

func (s *serveBareCommand) Run(ctx context.Context, out io.Writer) error {
	options, err := redis.ParseURL(s.Redis)
	if err != nil {
		return err
	}
	client := direct(options.Addr)
	defer func() { _ = client.Close() }()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return err
	}
	served := &http.Server{Handler: bare.Handler(appSecret, client), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(untilClosed(ctx), func() { _ = served.Close() })
	defer stop()
	fmt.Fprintln(out, "ready", listener.Addr())
	_ = served.Serve(listener) // always ErrServerClosed
	return nil
}
