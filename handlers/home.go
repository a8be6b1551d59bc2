package handlers

import (
	_ "embed" // for home.html
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/templates"
)

//go:embed home.html
var homePage string

// RegisterHome adds the page that a merchant meets who opens the app. It is the
// same for everybody, and what Shopify adds to its address is not looked at.
func RegisterHome(e *echo.Echo) {
	_, behind, _ := strings.Cut(homePage, "<style>")
	style, _, _ := strings.Cut(behind, "</style>")
	policy := templates.Policy(style, "")
	e.Match([]string{echo.GET, echo.HEAD}, "/", func(c echo.Context) error {
		c.Response().Header().Set("Content-Security-Policy", policy)
		return c.HTML(http.StatusOK, homePage)
	})
}
