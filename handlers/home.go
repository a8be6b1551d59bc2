package handlers

import (
	"crypto/sha256"
	_ "embed" // for home.html
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

//go:embed home.html
var homePage string

// RegisterHome adds the page that a merchant meets who opens the app. It is the
// same for everybody, and what Shopify adds to its address is not looked at.
func RegisterHome(e *echo.Echo) {
	policy := "default-src 'none'; style-src '" + hashOfStyle(homePage) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	e.Match([]string{echo.GET, echo.HEAD}, "/", func(c echo.Context) error {
		c.Response().Header().Set("Content-Security-Policy", policy)
		return c.HTML(http.StatusOK, homePage)
	})
}

// hashOfStyle is how a policy names the style element of a page.
func hashOfStyle(page string) string {
	_, behind, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(behind, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
