package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"manage-subscriptions/config"
	"manage-subscriptions/server"
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
		RechargeAPIToken: adminToken, RechargeAPIURL: s.Recharge, RechargePortalURL: portalBase, RechargeRate: "1000,10000",
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

// serveBareCommand is the least that a handler of such a click can do: check the
// signature, ask Redis once, redirect.
type serveBareCommand struct{ Redis string }

func (s *serveBareCommand) Run(ctx context.Context, out io.Writer) error {
	options, err := redis.ParseURL(s.Redis)
	if err != nil {
		return err
	}
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewClient(options)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/apps/subscriptions", func(c echo.Context) error {
		values := c.QueryParams()
		if !signed(values) {
			return c.NoContent(http.StatusForbidden)
		}
		link, err := client.Get(c.Request().Context(), "bench:"+values.Get("logged_in_customer_id")).Result()
		if err != nil {
			return c.NoContent(http.StatusForbidden)
		}
		header := c.Response().Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set(echo.HeaderLocation, link)
		return c.NoContent(http.StatusFound)
	})
	port, err := freePort()
	if err != nil {
		return err
	}
	ctx = untilClosed(ctx)
	go func() {
		<-ctx.Done()
		_ = e.Close()
	}()
	fmt.Fprintln(out, "ready 127.0.0.1:"+port)
	_ = e.Start("127.0.0.1:" + port)
	return nil
}

func signed(values url.Values) bool {
	var pairs []string
	for name, all := range values {
		if name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(all, ","))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(appSecret))
	for _, pair := range pairs {
		mac.Write([]byte(pair))
	}
	given, err := hex.DecodeString(values.Get("signature"))
	return err == nil && hmac.Equal(mac.Sum(nil), given)
}
