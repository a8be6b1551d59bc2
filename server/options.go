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
	listening chan<- Addresses
	platform  shopify.Platform
	public    net.Listener
	noIndex   bool
	readOnly  bool // for commands that change nothing
	network   Network
	notice    time.Duration
}

func newOptions(log *slog.Logger, opts []Option) options {
	o := options{log: log, now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Option changes how the program runs inside a test or the sandbox.
type Option func(*options)

// WithLog logs to log instead of standard error.
func WithLog(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithClock takes the time from now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithShopify uses an emulated Shopify.
func WithShopify(p shopify.Platform) Option { return func(o *options) { o.platform = p } }

// WithListener serves the public routes on l instead of ADDR, for callers that must
// know APP_URL before the server runs.
func WithListener(l net.Listener) Option { return func(o *options) { o.public = l } }

// WithoutIndex imports no customers, to test or show the click of a new shopper.
func WithoutIndex() Option { return func(o *options) { o.noIndex = true } }

// Network listens and dials for the program. A nil function uses the real network.
type Network struct {
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// WithNetwork listens on n, and reaches Recharge and Redis over it, to test the whole
// program inside one process. The connection to Redis is then without TLS.
func WithNetwork(n Network) Option { return func(o *options) { o.network = n } }

// WithNotice still serves for d when ctx ends, but is not ready. A balancer has time
// to notice, and no click meets a closed port.
func WithNotice(d time.Duration) Option { return func(o *options) { o.notice = d } }

// OnListening sends to listening, which must have room, when both listeners are open.
func OnListening(listening chan<- Addresses) Option {
	return func(o *options) { o.listening = listening }
}
