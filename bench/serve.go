package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/server/bare"
)

const (
	benchShop    = "bench-shop.myshopify.com"
	appSecret    = "bench-app-secret"
	adminToken   = "bench-admin-token"
	clientSecret = "bench-client-secret"
	portalKey    = "bench-portal-key-0123456789" // of the store's own server
	portalBase   = "https://bench-shop.myshopify.com/tools/recurring/portal/"
)

// serveOursCommand runs this program as main does.
type serveOursCommand struct {
	Redis, Recharge string
	LinkTTL         string        `default:"1h"`
	Rate            string        // RECHARGE_RATE; "" is too high to limit anything
	Webhooks        bool          // accept Recharge's webhooks
	Ahead           time.Duration // how far the clock is ahead
	Import          bool          // import all customers before reporting ready
}

func (s *serveOursCommand) Run(ctx context.Context, out io.Writer) error {
	cfg, err := s.config()
	if err != nil {
		return err
	}
	file, err := logFile()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	listening, imported := make(chan server.Addresses, 1), make(chan struct{}, 1)
	if !s.Import {
		imported <- struct{}{}
	}
	go func() {
		at := <-listening
		<-imported
		fmt.Fprintln(out, "ready", at.Public, at.Ops)
	}()
	var lines io.Writer = file
	if s.Import {
		lines = &watcher{file, []byte(`"msg":"index complete"`), imported}
	}
	log, flush := server.NewLog(lines, cfg)
	defer flush()
	server.MuteLibraries()
	server.CollectLess()
	return server.Run(untilClosed(ctx), cfg, server.Options{
		Log: log, Now: func() time.Time { return time.Now().Add(s.Ahead) }, Listening: listening, NoIndex: !s.Import,
		NoLook: true,
	})
}

func (s *serveOursCommand) config() (config.Config, error) {
	settings := config.Settings{
		ShopifyAPIKey: "bench", ShopifyAPISecret: appSecret, ShopifyShop: benchShop, CustomerAccounts: "new",
		AppURL: "https://bench.example",
		Addr:   "127.0.0.1:0", OpsAddr: "127.0.0.1:0", RedisURL: s.Redis,
		RechargeAPIToken: adminToken, RechargeAPIURL: s.Recharge, RechargePortalURL: portalBase,
		RechargeRate: "2,40", PortalAPIKey: portalKey,
		PortalLink: "signed_in", Redirect: "location", CustomerTTL: "24h", LinkTTL: s.LinkTTL,
		RechargeTimeout: "3s", ClickTimeout: "8s",
		LogLevel: "info", LogFormat: "json", PProf: "on",
	}
	if s.Webhooks {
		settings.RechargeClientSecret = clientSecret
	}
	if s.Rate != "" {
		settings.RechargeRate = s.Rate
	}
	cfg, err := settings.Check()
	if s.Rate == "" {
		cfg.RechargeRate, cfg.RechargeBurst = 1e6, 1e6
	}
	return cfg, err
}

// logFile returns a real file, which disappears when its process ends.
func logFile() (*os.File, error) {
	file, err := os.CreateTemp("", "bench-*.log")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// watcher sends on seen when text was written.
type watcher struct {
	io.Writer
	text []byte
	seen chan<- struct{}
}

func (w *watcher) Write(lines []byte) (int, error) {
	if bytes.Contains(lines, w.text) {
		w.seen <- struct{}{}
	}
	return w.Writer.Write(lines)
}

// untilClosed returns a context that ends when standard input is closed, so that no
// server outlives the benchmark.
func untilClosed(ctx context.Context) context.Context {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx
}

// serveBareCommand runs the bare handler that this program is compared with.
type serveBareCommand struct{ Redis string }

func (s *serveBareCommand) Run(ctx context.Context, out io.Writer) error {
	options, err := redis.ParseURL(s.Redis)
	if err != nil {
		return err
	}
	client := connect(options.Addr)
	defer func() { _ = client.Close() }()
	file, err := logFile()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	log, flush := server.NewLog(file, config.Config{})
	defer flush()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return err
	}
	served := &http.Server{Handler: bare.Handler(appSecret, client, log), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(untilClosed(ctx), func() { _ = served.Close() })
	defer stop()
	fmt.Fprintln(out, "ready", listener.Addr())
	_ = served.Serve(listener) // always ErrServerClosed
	return nil
}
