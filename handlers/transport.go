package handlers

import (
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

// StrictTransport has browsers come to this server by https only, if that is how
// APP_URL says that they come at all. What goes through the app proxy is left out:
// a browser gets it from the store's host, whose transport is the store's to decide.
func StrictTransport(appURL *url.URL) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if appURL.Scheme != "https" {
			return next // a loopback address, which is a test
		}
		return func(c echo.Context) error {
			if !strings.HasPrefix(c.Request().URL.Path, "/apps/subscriptions") {
				c.Response().Header().Set("Strict-Transport-Security", "max-age=31536000")
			}
			return next(c)
		}
	}
}
