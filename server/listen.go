package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"manage-subscriptions/handlers"
)

// httpServer bounds everything that a client can make last. Echo redirects nothing. A
// redirect to add a slash would show Shopify's signature.
func (s *server) httpServer(routes func(*echo.Echo)) *http.Server {
	e := echo.New()
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: s.panicked}))
	routes(e)
	e.HTTPErrorHandler = handlers.Errors(s.log)
	return &http.Server{
		Handler:           closeChunked(e),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      s.cfg.ClickTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
}

func (s *server) panicked(_ echo.Context, err error, stack []byte) error {
	s.log.Error("panic", "error", err, "stack", string(stack))
	return err
}

// listen opens both listeners before the first request, so that a port in use stops
// the start.
func (s *server) listen(ctx context.Context) error {
	open := s.network.Listen
	if open == nil {
		open = (&net.ListenConfig{}).Listen
	}
	var err error
	if s.publicListener == nil {
		if s.publicListener, err = open(ctx, "tcp", s.cfg.Addr); err != nil {
			return fmt.Errorf("listen on ADDR: %w", err)
		}
	}
	if s.opsListener, err = open(ctx, "tcp", s.cfg.OpsAddr); err != nil {
		_ = s.publicListener.Close()
		return fmt.Errorf("listen on OPS_ADDR: %w", err)
	}
	return nil
}

func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 2)
	// Background jobs run until the last clicks have ended.
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { failed <- s.public.Serve(s.publicListener) }()
	go func() { failed <- s.ops.Serve(s.opsListener) }()
	unfit := make(chan error, 1)
	jobs := s.startJobs(beside, unfit)
	defer func() { stop(); jobs.Wait() }()
	s.health.SetReady(true)
	s.log.Info("serving", "addr", s.publicListener.Addr().String(), "ops_addr", s.opsListener.Addr().String())
	running, err := s.waitForEnd(ctx, failed, unfit)
	err = errors.Join(err, s.drain())
	for range running {
		if end := <-failed; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}
	return err
}

// waitForEnd returns when it is time to drain, and how many listeners are still served.
// Only the end of ctx gives notice. A failure ends the server at once.
func (s *server) waitForEnd(ctx context.Context, failed, unfit <-chan error) (running int, err error) {
	select {
	case <-ctx.Done():
	case err = <-failed:
		return 1, err
	case err = <-unfit:
		return 2, err
	}
	s.health.SetReady(false)
	s.log.Info("no longer ready", "notice", s.notice.String())
	select {
	case <-time.After(s.notice):
		return 2, nil
	case err = <-failed:
		return 1, err
	}
}

// drain takes no new clicks, waits for the running ones, and closes the operator's
// routes last, so that they answer "not ready" until then.
func (s *server) drain() error {
	s.log.Info("draining")
	s.health.SetReady(false)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ClickTimeout+2*time.Second)
	defer cancel()
	err := s.public.Shutdown(ctx)
	return errors.Join(err, s.ops.Shutdown(ctx))
}

func (s *server) close() {
	s.merchant.Wait()
	s.calls.CloseIdleConnections()
	if err := s.traces.close(); err != nil {
		s.log.Warn("send the last traces", "error", err)
	}
	if err := s.store.Close(); err != nil {
		s.log.Warn("close store", "error", err)
	}
}

// closeChunked closes the connection after a request that came in chunks. If such a
// request also has a length, net/http ignores the length, but a proxy in front may go by
// it. The rest would then be read as another visitor's request. RFC 9112, 6.1, requires
// that the connection be closed. No browser sends a click in chunks.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
