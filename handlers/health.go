package handlers

import (
	"net/http"
	"sync/atomic"

	"github.com/labstack/echo/v4"
)

// Health answers the operator's probes. The zero value is alive and not ready.
type Health struct{ ready atomic.Bool }

// SetReady says whether this instance wants clicks. Redis and Recharge do not
// count: without them a click still gets an answer, without an instance none.
func (h *Health) SetReady(ready bool) { h.ready.Store(ready) }

// Ready tells what SetReady has said.
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
