package server

import (
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/labstack/echo/v4"
)

// opsServer answers on OPS_ADDR: probes, metrics and, on request, profiles.
func (s *server) opsServer() *http.Server {
	ops := s.httpServer(func(e *echo.Echo) {
		s.health.Register(e)
		e.GET("/metrics", echo.WrapHandler(s.metrics.Handler(s.log)))
		if s.cfg.PProf {
			registerProfiles(e)
		}
	})
	if s.cfg.PProf {
		ops.WriteTimeout = 2 * time.Minute // a profile takes as long as its request says
	}
	return ops
}

// registerProfiles adds the routes that net/http/pprof has on the default mux.
func registerProfiles(e *echo.Echo) {
	e.GET("/debug/pprof/*", echo.WrapHandler(http.HandlerFunc(pprof.Index)))
	e.GET("/debug/pprof/profile", echo.WrapHandler(http.HandlerFunc(pprof.Profile)))
	e.GET("/debug/pprof/trace", echo.WrapHandler(http.HandlerFunc(pprof.Trace)))
}
