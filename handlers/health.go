package handlers

import (
	"net/http"
	"sync/atomic"

	"github.com/labstack/echo/v4"
)

// Health answers the operator's probes. The zero value is alive and not ready.
type Health struct{ ready atomic.Bool }

// SetReady sets whether this instance takes clicks. Readiness does not depend on Redis or Recharge,
// because clicks are answered without them, too.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// Ready reports whether this instance takes clicks.
func (h *Health) Ready() bool { return h.ready.Load() }

// Register adds /livez and /readyz.
func (h *Health) Register(e *echo.Echo) {
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "alive\n") })
	e.GET("/readyz", func(c echo.Context) error {
		if !h.Ready() {
			return c.String(http.StatusServiceUnavailable, "not ready\n")
		}
		return c.String(http.StatusOK, "ready\n")
	})
}
