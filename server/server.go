// Package server wires up the program and runs it. Production, the sandbox and the end-to-end tests
// all use the same Run.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/server/metrics"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Options change how the program runs. All but Notice are for tests and the sandbox. The
// zero value runs it in production.
type Options struct {
	Log      *slog.Logger     // nil: to standard error, as the configuration says
	Now      func() time.Time // nil: time.Now
	Platform shopify.Platform // an emulated Shopify
	Network  Network
	// Listener serves the public routes instead of ADDR, for callers that must know APP_URL
	// before the server runs.
	Listener  net.Listener
	Listening chan<- Addresses // gets them when both listeners are open; it must have room
	NoIndex   bool             // import no customers, to test or show the click of a new shopper
	NoLook    bool             // detect no traits, except when a merchant connects, to count the calls of clicks
	// Notice is how long Run keeps serving, though not ready, after its context has ended. It gives
	// a load balancer time to notice, so that no click meets a closed port.
	Notice time.Duration
}

// Addresses are where a running server listens.
type Addresses struct{ Public, Ops net.Addr }

// Network listens and dials for the program, also to Recharge and Redis, so that the whole program
// can be tested inside one process. The connection to Redis then has no TLS. A nil function uses the
// real network.
type Network struct {
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Run serves until ctx ends. It then reports that it is not ready, keeps serving for o.Notice, lets
// the running clicks finish, and returns nil.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.checkRedis(ctx); err != nil {
		return err
	}
	s.adopted = s.store.Adopt(ctx) == nil // if Redis is down, the jobs try again
	if err := s.listen(ctx); err != nil {
		return err
	}
	if o.Listening != nil {
		o.Listening <- Addresses{s.Listener.Addr(), s.opsListener.Addr()}
	}
	return s.serve(ctx)
}

// server is the wired program.
type server struct {
	Options

	cfg       config.Config
	lines     *lineBuffer // under Log; nil if Options has a Log
	store     *store.Store
	calls     *http.Transport // to Recharge, for all shops
	recorder  *portal.Recorder
	merchants *portal.Merchants
	resolver  *portal.Resolver
	merchant  *merchant.Service
	importer  *importer.Importer // nil: no customer is cached before they click
	ready     atomic.Bool        // takes clicks, even without Redis or Recharge, since clicks are answered then, too
	metrics   *metrics.Metrics
	observed  atomic.Pointer[metrics.State] // what a scrape must not wait for; never nil
	traces    *traces                       // nil: no collector
	adopted   bool                          // the cache belongs to the configured account
	checked   bool                          // Redis has been checked; set by Run, then by the jobs only
	checking  logOnce

	public, ops *http.Server
	opsListener net.Listener
}

// listen opens both listeners before the first request, so that Run fails if a port is in use.
func (s *server) listen(ctx context.Context) error {
	open := s.Network.Listen
	if open == nil {
		open = (&net.ListenConfig{}).Listen
	}
	var err error
	if s.Listener == nil {
		if s.Listener, err = open(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("listen on ADDR: %w", err)
		}
	}
	if s.opsListener, err = open(ctx, "tcp", s.cfg.OpsAddr); err != nil {
		_ = s.Listener.Close()
		return fmt.Errorf("listen on OPS_ADDR: %w", err)
	}
	return nil
}

// serve serves until s.Notice after ctx has ended. A failure stops it at once.
func (s *server) serve(ctx context.Context) error {
	failed, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	var listeners sync.WaitGroup
	defer listeners.Wait()
	listeners.Go(func() { fail(s.public.Serve(s.Listener)) })
	listeners.Go(func() { fail(s.ops.Serve(s.opsListener)) })
	// Background jobs run until the last clicks have ended.
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	jobs := s.startJobs(beside, fail)
	defer func() { stop(); jobs.Wait() }()
	s.ready.Store(true)
	s.Log.Info("serving", "addr", s.Listener.Addr().String(), "ops_addr", s.opsListener.Addr().String())
	select {
	case <-failed.Done():
	case <-ctx.Done():
		s.ready.Store(false)
		s.Log.Info("no longer ready", "notice", s.Notice.String())
		recharge.Wait(failed, s.Notice)
	}
	// Accept no new clicks, and wait for the running ones. The operator's routes answer "not ready" until
	// they have ended.
	s.Log.Info("draining")
	s.ready.Store(false)
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ClickTimeout+2*time.Second)
	defer cancel()
	err := errors.Join(context.Cause(failed), s.public.Shutdown(draining)) // which is a cause itself
	return errors.Join(err, s.ops.Shutdown(draining))
}

func (s *server) close() {
	if s.merchant != nil {
		s.merchant.Wait()
	}
	s.calls.CloseIdleConnections()
	if err := s.traces.close(); err != nil {
		s.Log.Warn("send the last traces", "error", err)
	}
	if err := s.store.Close(); err != nil {
		s.Log.Warn("close store", "error", err)
	}
	s.lines.flush()
}
