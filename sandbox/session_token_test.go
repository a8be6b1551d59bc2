package sandbox_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// thief is another site. It keeps everything that a browser sends to it, well-formed or not.
type thief struct {
	URL string
	mu  sync.Mutex
	got []string
}

func newThief(t *testing.T) *thief {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &thief{URL: "http://" + listener.Addr().String()}
	context.AfterFunc(t.Context(), func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { _ = connection.Close() })
			go s.answer(connection)
		}
	}()
	return s
}

func (s *thief) answer(connection net.Conn) {
	defer func() { _ = connection.Close() }()
	head := make([]byte, 32<<10)
	n, _ := connection.Read(head)
	if n == 0 { // browsers open connections ahead
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(head[:n]))
	_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\nthe other site")
}

// take returns what arrived since the last call.
func (s *thief) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.got, "\n")
	s.got = nil
	return all
}

// installCareless installs another app, which loads App Bridge without looking at the query. It
// proves that the emulated App Bridge falls for the addresses below.
func installCareless(t *testing.T, s *sandbox.Sandbox) (id, address string) {
	t.Helper()
	page := `<!doctype html><script src="` + s.Store.URL + `/cdn/shopifycloud/app-bridge.js"></script><main>Careless</main>`
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(app.Close)
	s.Store.Register(shopifytest.PartnerApp{
		ClientID: "careless", Secret: "careless", Name: "Careless", AppURL: app.URL, Embedded: true,
		PathPrefix: "/apps/careless", ProxyURL: app.URL,
	})
	s.Store.Install("careless")
	return "careless", app.URL
}

// frames opens an address in the frame of the app that the admin shows, as a link into the admin
// can, and waits until its page is loaded.
func (m *merchant) frames(address string) {
	m.t.Helper()
	do(m.t, m.ctx, chromedp.Evaluate[chromedp.Void](`new Promise(done => {
		const frame = document.getElementById('app');
		frame.addEventListener('load', () => done(), { once: true });
		frame.src = `+quoted(address)+`;
	})`, chromedp.EvalAwaitPromise))
}

// TestSessionTokenStays opens addresses that try to make App Bridge carry a merchant's session token
// to another site. Where loses is set, an app that does not judge the address loses the token.
func TestSessionTokenStays(t *testing.T) {
	t.Parallel()
	s := start(t)
	evil := newThief(t)
	careless, itsURL := installCareless(t, s)
	machine := chromium(t)
	// Not newMerchant, because the browser reports each 400 as an error.
	victim, m := &merchant{&walker{t, s, window(t, machine)}}, &merchant{&walker{t, s, window(t, machine)}}
	do(t, victim.ctx, chromedp.Navigate(s.Store.URL+"/admin/apps/"+careless), chromedp.WaitVisible(css("iframe#app")))
	victim.sees("main")
	m.open(`[data-state="connected"]`)

	home := s.AppURL() + "/?embedded=1&shop=" + s.Shop()
	bounce, token := "/app/bounce?shop="+s.Shop(), s.Store.SessionToken(sandbox.ClientID)
	load := "/?shop=" + s.Shop() + "&embedded=1&id_token=" + token
	away, port := url.QueryEscape(evil.URL+"/"), strings.TrimPrefix(evil.URL, "http://127.0.0.1")
	toEvil, toHome := "&shopify-reload="+away, "&shopify-reload="+url.QueryEscape(home)
	const refused, connected = "Bad Request", "Connected." // what a page shows
	ends := regexp.MustCompile(refused + "|" + connected)
	for _, test := range []struct {
		name, address string
		loses         bool
		end           string
	}{
		{"to our home", bounce + toHome, false, connected},
		{"to another site", bounce + toEvil, true, refused},
		{"a semicolon, then our home", bounce + toEvil + "%3F;" + toHome, true, refused},
		{"our home, then a semicolon", bounce + toHome + toEvil + "%3F;", false, refused},
		{"a bad escape, then our home", bounce + toEvil + "%zz" + toHome, true, refused},
		{"our home, then a bad escape", bounce + toHome + toEvil + "%zz", false, refused},
		{"another site, then our home", bounce + toEvil + toHome, true, refused},
		{"an escaped name", bounce + "&shopify%2Dreload=" + away, true, refused},
		{"our host as a user's name", bounce + "&shopify-reload=" + url.QueryEscape(s.AppURL()+"@127.0.0.1"+port), false, refused},
		{"a tab in it", bounce + "&shopify-reload=%09" + away, true, refused},
		{"without a scheme", bounce + "&shopify-reload=%2F%2F127.0.0.1" + url.QueryEscape(port), true, refused},
		{"the home, with a good token", load + toEvil, true, refused},
		{"the home, with a semicolon", load + toEvil + "%3F;", true, refused},
		{"the home, with a bad escape", load + toEvil + "%zz", true, refused},
		{"the home, both, with a semicolon", load + toEvil + "%3F;" + toHome, true, refused},
		{"the home, with no token", "/?embedded=1&shop=" + s.Shop() + toEvil, true, refused},
		{"through our home", bounce + toHome + url.QueryEscape(toEvil), false, refused},
		{"two tokens", load + "&id_token=" + token, false, refused},
		// App Bridge does not read these as shopify-reload, and follows the one beside them.
		{"a name in capitals", bounce + "&SHOPIFY-RELOAD=" + away + toHome, false, connected},
		{"a name escaped twice", bounce + "&shopify%252Dreload=" + away + toHome, false, connected},
		{"a name with NUL", bounce + "&shopify-reload%00=" + away + toHome, false, connected},
		{"a name with a byte order mark", bounce + "&%EF%BB%BFshopify-reload=" + away + toHome, false, connected},
		{"a name with a space", bounce + "&+shopify-reload=" + away + toHome, false, connected},
		{"a fragment", bounce + toHome + "#" + toEvil, false, connected},
	} {
		if test.loses {
			victim.frames(itsURL + test.address)
			until(t, test.name+": the careless app loses a token", func() bool { return strings.Contains(evil.take(), "id_token=ey") })
		}
		m.frames(s.AppURL() + test.address)
		stolen, end := "", ""
		until(t, test.name+" ends", func() bool {
			stolen, end = evil.take(), ends.FindString(m.text())
			return stolen != "" || end != ""
		})
		if stolen += evil.take(); stolen != "" || end != test.end {
			t.Errorf("%s: the app shows %q, and another site gets %q; want %q and nothing", test.name, end, stolen, test.end)
		}
	}
}
