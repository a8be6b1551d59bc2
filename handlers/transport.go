package handlers

import (
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

// StrictTransport makes browsers use https only, if APP_URL does. Answers through the app
// proxy are left out, because a browser gets them from the store's host, whose transport is
// for the store to decide.
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
