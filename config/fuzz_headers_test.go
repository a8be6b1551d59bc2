package config

import (
	"net/http"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// FuzzCollectorHeaders: accepted text can be sent as headers. Refused text is not repeated, because
// it may be a secret.
func FuzzCollectorHeaders(f *testing.F) {
	for _, text := range []string{
		"", "x-api-key=a", "x-api-key=a,x-team=b", " x-api-key = a b ", "x-api-key: secret", "x-api-key=secret%hush", "x-api-key=%0d%0aHost:%20evil", "a=,b=", "=a", "a", ",", "a==b", "a=b=c",
		"x-api-key=%E2%82%AC", "x-api-key=%ff", "ä=b", "a b=c", "x-api-key=\x7f", "A=1,a=2", "authorization=Basic%20YTpi",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c checker
		headers := c.headers("NAME", text)
		if len(c.problems) > 0 {
			var another checker
			if another.headers("NAME", "no header"); headers != nil || c.problems.Error() != another.problems.Error() {
				t.Errorf("headers(%q) = %v, %v; want no headers and the usual problem", text, headers, c.problems)
			}
			return
		}
		for name, value := range headers {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value.Reveal()) || http.CanonicalHeaderKey(name) == "" {
				t.Errorf("headers(%q) takes %q: %q, which cannot be sent", text, name, value.Reveal())
			}
		}
	})
}
