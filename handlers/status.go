package handlers

import (
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Status answers themes that ask whether to show the link. It opens no portal, and returns only
// what docs/openapi.yaml lists.
type Status struct {
	Verifier *shopify.Verifier
	Merchant *merchant.Service
}

// status is the JSON answer. A nil field is not known.
type status struct {
	SignedIn            bool  `json:"signed_in"`
	Subscriber          *bool `json:"subscriber"`
	ActiveSubscriptions *int  `json:"active_subscriptions"`
}

// Register adds the route, in both forms of its path.
func (s *Status) Register(e *echo.Echo) {
	for _, path := range []string{route + "/status", route + "/status/"} {
		e.Match([]string{echo.GET, echo.HEAD}, path, s.handle)
	}
}

func (s *Status) handle(c echo.Context) error {
	id := requestID()
	request, err := s.Verifier.Verify(c.Request().URL.RawQuery, "")
	if err != nil {
		s.Merchant.Log.InfoContext(c.Request().Context(), "status refused", "request_id", id, "cause", err)
		s.Merchant.Recorder.Meter.Status(portal.StatusForbidden)
		return c.Blob(http.StatusForbidden, plainText, []byte("403 Forbidden\nRequest id: "+id+"\n"))
	}
	who := store.Shopper{Shop: request.Shop, Customer: request.Customer}
	var standing portal.SubscriberStatus // not known for a visitor, or if Recharge is not connected
	if who.Customer != "" {
		standing = s.Merchant.Status(c.Request().Context(), who, c.Request().Method == http.MethodHead) // HEAD makes no call
	}
	s.Merchant.Recorder.Calls(who.Shop, standing.Calls)
	if standing.Cause != nil {
		s.Merchant.Log.LogAttrs(c.Request().Context(), portal.Level("", standing.Cause), "status", append([]slog.Attr{
			slog.String("request_id", id), slog.String("shop", string(who.Shop)), slog.Bool("known", standing.Known),
		}, portal.Causes(standing.Cause)...)...)
	}
	s.Merchant.Recorder.Meter.Status(answerOf(standing, who))
	answer := status{SignedIn: who.Customer != ""}
	if standing.Known {
		answer.Subscriber, answer.ActiveSubscriptions = &standing.Subscriber, &standing.Active
	}
	return c.JSON(http.StatusOK, answer)
}

func answerOf(s portal.SubscriberStatus, who store.Shopper) portal.StatusAnswer {
	switch {
	case who.Customer == "":
		return portal.StatusSignedOut
	case !s.Known:
		return portal.StatusNotKnown
	case s.Subscriber:
		return portal.StatusSubscriber
	}
	return portal.StatusNotSubscriber
}
