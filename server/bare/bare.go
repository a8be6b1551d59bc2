// Package bare does the least that a handler of a click can do. It checks the signature,
// reads Redis once, redirects, and logs a line. Only the benchmark uses it, to compare
// this program with it. It is in server/ because it needs Echo, which only server/ and
// handlers/ import.
package bare

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// Key returns the Redis key of a shopper's link.
func Key(shopper string) string { return "bench:" + shopper }

// Handler redirects clicks that are signed with secret, and answers 403 to all others.
func Handler(secret string, client *redis.Client, log *slog.Logger) http.Handler {
	e := echo.New()
	e.GET("/apps/subscriptions", func(c echo.Context) error {
		start, ctx := time.Now(), c.Request().Context()
		values := c.QueryParams()
		if !signed(secret, values) {
			return c.NoContent(http.StatusForbidden)
		}
		link, err := client.Get(ctx, Key(values.Get("logged_in_customer_id"))).Result()
		if err != nil {
			return c.NoContent(http.StatusForbidden)
		}
		header := c.Response().Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set(echo.HeaderLocation, link)
		err = c.NoContent(http.StatusFound)
		log.LogAttrs(ctx, slog.LevelInfo, "click",
			slog.String("request_id", strings.ToLower(rand.Text()[:10])),
			slog.String("outcome", "redirected"),
			slog.Float64("ms", float64(time.Since(start)/(10*time.Microsecond))/100),
			slog.String("shop", values.Get("shop")),
		)
		return err
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
