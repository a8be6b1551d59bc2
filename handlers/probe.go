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
// not that program learns no more than from any other refusal; and what bears no
// probe is a click, for which "doctor" is a destination like any unknown one.
type Probe struct {
	Verifier *shopify.Verifier
	Probes   *shopify.Probes
	Portal   *Portal
	Log      *slog.Logger
}

// probed is the answer.
type probed struct {
	Shop       shopify.Shop `json:"shop"`
	PathPrefix string       `json:"path_prefix"`
	Proof      string       `json:"proof"` // that this server has the app's secret, too
}

var errNoProbe = errors.New("no probe of this app's, or one that is over")

// Register adds the route, in both forms of its path.
func (p *Probe) Register(e *echo.Echo) {
	for _, path := range []string{"/apps/subscriptions/doctor", "/apps/subscriptions/doctor/"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, p.handle)
	}
}

func (p *Probe) handle(c echo.Context) error {
	if !c.QueryParams().Has("probe") {
		return p.Portal.handle(c)
	}
	id := requestID()
	request, err := p.Verifier.Verify(c.Request().URL.RawQuery, "")
	var proof string
	if err == nil {
		var ok bool
		if proof, ok = p.Probes.Answer(request.Query.Get("probe"), request.Shop, request.PathPrefix); !ok {
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
