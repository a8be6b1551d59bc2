package handlers

import (
	"net/http"
	"sync/atomic"

	"github.com/labstack/echo/v4"
)

// Health answers the operator's probes. The zero value is alive and not ready.
type Health struct {
	// Ready is whether this instance takes clicks. It does not depend on Redis or Recharge, because
	// clicks are answered without them, too.
	Ready atomic.Bool
}

// Register adds /livez and /readyz.
func (h *Health) Register(e *echo.Echo) {
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "alive\n") })
	e.GET("/readyz", func(c echo.Context) error {
		if !h.Ready.Load() {
			return c.String(http.StatusServiceUnavailable, "not ready\n")
		}
		return c.String(http.StatusOK, "ready\n")
	})
}
