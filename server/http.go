package server

import (
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"manage-subscriptions/handlers"
)

// httpServer limits everything that a client could drag out. Echo redirects nothing, because a
// redirect to add a slash would expose Shopify's signature.
func (s *server) httpServer(routes func(*echo.Echo)) *http.Server {
	e := echo.New()
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			s.Log.Error("panic", "error", err, "stack", string(stack))
			return err
		},
	}))
	routes(e)
	e.HTTPErrorHandler = handlers.Errors(s.Log)
	return &http.Server{
		Handler:           closeChunked(e),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      s.cfg.ClickTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

// closeChunked closes the connection after a request that came in chunks. If such a request also has
// a length, net/http ignores the length, but a proxy in front may obey it. The rest would then be
// read as another visitor's request. RFC 9112, 6.1, requires that the connection be closed. No
// browser sends a click in chunks.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// opsServer answers on OPS_ADDR: probes, metrics and, on request, profiles.
func (s *server) opsServer() *http.Server {
	ops := s.httpServer(func(e *echo.Echo) {
		s.health.Register(e)
		e.GET("/metrics", echo.WrapHandler(s.metrics.Handler(s.Log)))
		if s.cfg.PProf { // the routes that net/http/pprof has on the default mux
			e.GET("/debug/pprof/*", echo.WrapHandler(http.HandlerFunc(pprof.Index)))
			e.GET("/debug/pprof/profile", echo.WrapHandler(http.HandlerFunc(pprof.Profile)))
			e.GET("/debug/pprof/trace", echo.WrapHandler(http.HandlerFunc(pprof.Trace)))
		}
	})
	if s.cfg.PProf {
		ops.WriteTimeout = 2 * time.Minute // a profile takes as long as its request says
	}
	return ops
}
