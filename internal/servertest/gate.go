package servertest

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// Gate is a proxy in front of Recharge that can delay an answer, so that the server gets
// an outdated one.
type Gate struct {
	once sync.Once
	url  string
	next atomic.Pointer[Held]
}

// Held is the delayed answer to the first call that fits.
type Held struct {
	fits     func(path string) bool
	taken    atomic.Bool
	Reached  chan struct{} // closed when Recharge has given the answer
	released chan struct{}
	Release  func() // sends the answer on
}

// Before returns a change of settings that puts the gate in front of Recharge. All servers
// share the gate.
func (g *Gate) Before(t *testing.T) func(*config.Settings) {
	return func(s *config.Settings) {
		g.once.Do(func() {
			target, err := url.Parse(s.RechargeAPIURL)
			if err != nil {
				t.Fatal(err)
			}
			front := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
				ModifyResponse: func(r *http.Response) error {
					if h := g.next.Load(); h != nil && h.fits(r.Request.URL.Path) && !h.taken.Swap(true) {
						close(h.Reached)
						select {
						case <-h.released:
						case <-r.Request.Context().Done():
						}
					}
					return nil
				},
				ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo), // canceled clicks would fill the log
			})
			t.Cleanup(front.Close)
			g.url = front.URL
		})
		s.RechargeAPIURL = g.url
	}
}

// Hold makes the gate delay the next answer of the endpoint.
func (g *Gate) Hold(endpoint string) *Held {
	fits := map[string]func(string) bool{
		"customers":     func(path string) bool { return path == "/customers" },
		"sessions":      func(path string) bool { return strings.HasSuffix(path, "/sessions") },
		"portal_access": func(path string) bool { return path == "/portal_access" },
	}
	h := &Held{fits: fits[endpoint], Reached: make(chan struct{}), released: make(chan struct{})}
	h.Release = sync.OnceFunc(func() { close(h.released) })
	g.next.Store(h)
	return h
}
