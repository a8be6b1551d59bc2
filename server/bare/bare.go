// Package bare is the least that a handler of a click can do: check the signature,
// ask Redis once, redirect. The program is measured beside it; nothing else uses it.
package bare

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// Key is where Redis has the link of a shopper.
func Key(shopper string) string { return "bench:" + shopper }

// Handler answers clicks that are signed with secret.
func Handler(secret string, client *redis.Client) http.Handler {
	e := echo.New()
	e.GET("/apps/subscriptions", func(c echo.Context) error {
		values := c.QueryParams()
		if !signed(secret, values) {
			return c.NoContent(http.StatusForbidden)
		}
		link, err := client.Get(c.Request().Context(), Key(values.Get("logged_in_customer_id"))).Result()
		if err != nil {
			return c.NoContent(http.StatusForbidden)
		}
		header := c.Response().Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set(echo.HeaderLocation, link)
		return c.NoContent(http.StatusFound)
	})
	return e
}

func signed(secret string, values url.Values) bool {
	var pairs []string
	for name, all := range values {
		if name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(all, ","))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(secret))
	for _, pair := range pairs {
		mac.Write([]byte(pair))
	}
	given, err := hex.DecodeString(values.Get("signature"))
	return err == nil && hmac.Equal(mac.Sum(nil), given)
}
