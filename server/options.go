package server

import (
	"context"
	"log/slog"
	"net"
	"time"

	"manage-subscriptions/shopify"
)

// Addresses are where a running server listens.
type Addresses struct{ Public, Ops net.Addr }

type options struct {
	log       *slog.Logger
	now       func() time.Time
	listening func(Addresses)
	platform  shopify.Platform
	public    net.Listener
	noIndex   bool
	readOnly  bool // for commands that change nothing
	network   Network

	notice time.Duration
}

// Option changes how Run works, for those that embed it.
type Option func(*options)

// WithLog logs to log instead of standard error.
func WithLog(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithClock takes the time from now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithShopify puts an emulated Shopify in the place of the real one.
func WithShopify(p shopify.Platform) Option { return func(o *options) { o.platform = p } }

// WithListener serves the public routes on l instead of ADDR: for those who have
// to know APP_URL before there is a server.
func WithListener(l net.Listener) Option { return func(o *options) { o.public = l } }

// WithoutIndex remembers nobody before they click: for a test, or a demonstration,
// of what a shopper meets who is new.
func WithoutIndex() Option { return func(o *options) { o.noIndex = true } }

// Network is what the program listens on and dials. A nil function is the real
// one.
type Network struct {
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// WithNetwork listens on n, and reaches Recharge and Redis over it: for those who
// try the whole program inside one process. Redis is then spoken to without TLS.
func WithNetwork(n Network) Option { return func(o *options) { o.network = n } }

// WithNotice serves on for d when it is told to end, not ready any more: whoever
// passes clicks on finds out, and no click comes to a closed door.
func WithNotice(d time.Duration) Option { return func(o *options) { o.notice = d } }

// OnListening calls f when both listeners are open, before the first request.
func OnListening(f func(Addresses)) Option { return func(o *options) { o.listening = f } }
