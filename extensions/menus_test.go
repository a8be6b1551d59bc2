package extensions_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// TestMenusThatArriveInPieces: the embed adds to a menu as soon as it is there, but judges it only as a whole. The
// page arrives one piece ("|") at a time, and the next piece is sent after the last one is read.
func TestMenusThatArriveInPieces(t *testing.T) {
	t.Parallel()
	const logOut, ours = `<a href="/account/logout">Log out</a>`, "/apps/subscriptions?locale=en"
	entry := `<a href="` + ours + `">Manage subscriptions</a>`
	machine := chromium(t)
	for _, tt := range []struct {
		name, selector, body, want string
	}{
		{"a list", "", `<ul><li class="entry">|` + logOut + `|</li>|</ul>|<p></p>`, `<ul><li class="entry">` + entry + `</li> <li class="entry">` + logOut + `</li></ul><p></p>`},
		{"a list that has the link at its end", "", `<ul><li>` + logOut + `</li>|<li><a href="/apps/subscriptions">Mine</a></li></ul>|<p></p>`, `<ul><li>` + logOut + `</li><li><a href="/apps/subscriptions">Mine</a></li></ul><p></p>`},
		{"an item of two links", "", `<ul><li>` + logOut + `|<a href="/account">Account</a></li>|</ul>|<p></p>`, `<ul><li>` + entry + ` ` + logOut + `<a href="/account">Account</a></li></ul><p></p>`},
		{"a sentence", "", `<p>` + logOut + `| if it is not you</p>|<p></p>`, `<p>` + logOut + ` if it is not you</p><p></p><nav> ` + entry + ` </nav>`},
		{"a menu by selector", ".mine", `<div class="mine"><a href="/">Home</a>|<a href="/x">X</a></div>|<p></p>`, `<div class="mine"><a href="/">Home</a><a href="/x">X</a> ` + entry + `</div><p></p>`},
		{"a menu at the page's end", "", `<nav>|` + logOut + `|</nav>`, `<nav>` + entry + ` ` + logOut + `</nav>`},
		{"no menu", "", `<p>|</p>`, `<p></p><nav> ` + entry + ` </nav>`},
		{"two menus", "", `<nav>` + logOut + `</nav>|<nav>` + logOut + `</nav>|<p></p>`, strings.Repeat(`<nav>`+entry+` `+logOut+`</nav>`, 2) + `<p></p>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShopper(t, machine, shopifytest.Options{})
			page := drawn(t, withEmbed(map[string]any{"selector": tt.selector}), pat, "/account")
			start, end := strings.Index(page, "<template"), strings.Index(page, "<noscript>")
			embed := page[start:end]
			read := make(chan struct{})
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/account":
				case "/read":
					read <- struct{}{}
					return
				default:
					http.NotFound(w, r) // such as the page's icon
					return
				}
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = fmt.Fprintf(w, "<!doctype html><html><head>%s</head><body>", embed)
				for piece := range strings.SplitSeq(tt.body, "|") {
					_, _ = fmt.Fprintf(w, `%s<script>fetch('/read'); document.currentScript.remove()</script>`, piece)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-read:
					case <-r.Context().Done():
						return
					}
				}
				_, _ = w.Write([]byte("</body></html>"))
			}))
			defer app.Close()
			s.do(chromedp.Navigate(app.URL + "/account"))
			got, err := chromedp.Run(s.ctx, chromedp.Evaluate[string](`document.querySelectorAll('nav').forEach(e => { e.removeAttribute('class'); e.removeAttribute('aria-label'); });
				document.querySelectorAll('body a').forEach(e => e.removeAttribute('class'));
				document.body.innerHTML.replace(/>\s+</g, '> <')`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the page (-want +got):\n%s", diff)
			}
		})
	}
}
