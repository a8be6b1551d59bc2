package handlers

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/shopify"
)

// Probe answers the operator's own program (the command doctor), which asks
// through Shopify whether this server is reached, and under which path. Whoever is
// not that program learns no more than from any other refusal.
type Probe struct {
	Verifier *shopify.Verifier
	Probes   *shopify.Probes
	Log      *slog.Logger
}

// probed is the answer.
type probed struct {
	Shop       shopify.Shop `json:"shop"`
	PathPrefix string       `json:"path_prefix"`
	Proof      string       `json:"proof"` // that this server has the app's secret, too
}

var errNoProbe = errors.New("no probe, or one that is over")

// Register adds the route. What is beneath it is where a hop would lead: there is
// nothing.
func (p *Probe) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions/doctor", "/apps/subscriptions/doctor/", "/apps/subscriptions/doctor/*"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

func (p *Probe) handle(c echo.Context) error {
	id := requestID()
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, "")
	var proof string
	if err == nil {
		var ok bool
		if proof, ok = p.Probes.Answer(request.Query.Get("probe"), request.Shop, request.PathPrefix); !ok || c.Param("*") != "" {
			err = errNoProbe
		}
	}
	if err != nil {
		p.Log.InfoContext(c.Request().Context(), "probe refused", "request_id", id, "cause", err)
		return forbid(c, id)
	}
	p.Log.InfoContext(c.Request().Context(), "probe", "request_id", id, "shop", string(request.Shop))
	if request.Query.Get("hop") != "" {
		c.Response().Header().Set(echo.HeaderLocation, request.PathPrefix+"/doctor/arrived")
		return c.NoContent(http.StatusFound)
	}
	return c.JSON(http.StatusOK, probed{request.Shop, request.PathPrefix, proof})
}
