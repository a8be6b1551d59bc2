package extensions_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// shopper is a signed-in shopper with a phone, on a store whose status question waits for the test.
type shopper struct {
	t       *testing.T
	ctx     context.Context
	store   *shopifytest.Server
	asked   chan struct{}
	answers chan string
}

func newShopper(t *testing.T, chromium context.Context, o shopifytest.Options) *shopper {
	t.Helper()
	s := &shopper{t: t, asked: make(chan struct{}, 9), answers: make(chan string)}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked <- struct{}{}
		select {
		case answer := <-s.answers:
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"signed_in":true,"subscriber":%s}`, answer)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(app.Close)
	o.Shop, o.Accounts = "fixture-shop.myshopify.com", "legacy"
	if o.Extension == nil {
		o.Extension = extensions.Theme()
	}
	o.Shoppers = []shopifytest.Shopper{{ID: pat, FirstName: "Pat", LastName: "Doe"}}
	o.Apps = []shopifytest.App{{PathPrefix: "/apps/subscriptions", ProxyURL: app.URL, Secret: "hush", NoLink: true}}
	s.store = shopifytest.NewServer(o)
	t.Cleanup(s.store.Close)
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a window: %v", err)
	}
	s.ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	s.signIn()
	s.do(chromedp.EmulateViewport(390, 844))
	return s
}

// signIn signs in without a page, which would ask for the status.
func (s *shopper) signIn() {
	s.t.Helper()
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := browser.PostForm(s.store.URL+"/account/login", url.Values{"customer": {pat}})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	for _, cookie := range response.Cookies() {
		params := network.SetCookieParams{Name: cookie.Name, Value: cookie.Value, URL: s.store.URL}
		if _, err := chromedp.Call(s.ctx, network.SetCookie, params); err != nil {
			s.t.Fatal(err)
		}
	}
}

// unseen is a layout shift that nobody sees: a tenth of what Chromium calls good is 0.01, and a fraction of a pixel when
// a menu gets its last item is 0.00004.
const unseen = 0.001

func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		suite.Missing(t, "chromium is not on the PATH")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // CI runs as root, where Chromium's own sandbox does not start
		chromedp.UserDataDir(t.TempDir()),
	)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

func (s *shopper) do(steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	if err := chromedp.Do(s.ctx, steps...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shopper) waitForQuestion() {
	s.t.Helper()
	select {
	case <-s.asked:
	case <-s.ctx.Done():
		s.t.Fatal("the page does not ask for the status")
	}
}

// sight is what the shopper sees of a page.
type sight struct {
	Shown, Read bool    // whether the link is visible, and whether a screen reader reads it
	Below       float64 // where the element after the link begins
	Shift       float64 // the browser's own measure of everything that has moved since the first paint
}

// look returns what the shopper sees, once the page is painted.
func (s *shopper) look(link, below string) sight {
	s.t.Helper()
	got, err := chromedp.Run(s.ctx, chromedp.Evaluate[sight](fmt.Sprintf(`(async () => {
		const painted = () => performance.getEntriesByType('paint').length > 0;
		while (!painted() || document.readyState !== 'complete') await new Promise((go) => setTimeout(go, 10));
		for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
		const links = [...document.querySelectorAll(%q)];
		const seen = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
		const shift = await new Promise((go) => {
			let sum = 0;
			new PerformanceObserver((list) => { for (const one of list.getEntries()) sum += one.value; }).observe({type: 'layout-shift', buffered: true});
			setTimeout(() => go(sum), 50);
		});
		return {
			Shown: links.some(seen), Read: links.some((e) => getComputedStyle(e).visibility === 'visible' && e.getClientRects().length > 0),
			Below: document.querySelector(%q).getBoundingClientRect().top, Shift: shift,
		};
	})()`, link, below), chromedp.EvalAwaitPromise))
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// placed is a place of the link, and what must not move.
type placed struct {
	name              string
	options           func(map[string]any) shopifytest.Options
	path, link, below string
}

func places() []placed {
	return []placed{
		{"block", withBlock, "/", ".shopify-app-block a", "main h2"},
		{"account menu", withEmbed, "/account", `.account-nav a[href*="/apps/subscriptions"]`, ".account-nav + *"},
	}
}

// TestSubscribersOnlyDoesNotMoveThePage: the page stays where it was when the answer arrives, and
// the next page view shows at once what this one has learned.
func TestSubscribersOnlyDoesNotMoveThePage(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	for _, place := range places() {
		for _, answer := range []string{"true", "false", "null"} {
			if !suite.Runs(place.name+" "+answer, "block true", "block false", "account menu true") {
				continue
			}
			t.Run(place.name+" "+answer, func(t *testing.T) {
				s := newShopper(t, machine, place.options(map[string]any{"audience": "subscribers"}))
				wanted := answer != "false"
				s.do(chromedp.Navigate(s.store.URL + place.path))
				s.waitForQuestion()
				waiting := s.look(place.link, place.below)
				if waiting.Shown || waiting.Read {
					t.Errorf("before the answer: shown is %v, read is %v; want neither", waiting.Shown, waiting.Read)
				}
				s.answers <- answer
				if _, err := chromedp.Run(s.ctx, chromedp.Poll[bool](`sessionStorage.length > 0`)); err != nil {
					t.Fatal(err)
				}
				first := s.look(place.link, place.below)
				if first.Shown != wanted || first.Read != wanted {
					t.Errorf("after the answer: shown is %v, read is %v; want %v", first.Shown, first.Read, wanted)
				}
				if first.Below != waiting.Below || first.Shift-waiting.Shift > unseen {
					t.Errorf("the answer moved the page from %v to %v px, shift %v to %v; want it left alone", waiting.Below, first.Below, waiting.Shift, first.Shift)
				}
				s.do(chromedp.Navigate(s.store.URL + place.path))
				second := s.look(place.link, place.below)
				if second.Shown != wanted || second.Shift > unseen {
					t.Errorf("on the next page: shown is %v, shift %v; want %v, and next to none", second.Shown, second.Shift, wanted)
				}
				if closed := second.Below < first.Below; closed == wanted {
					t.Errorf("the page after it begins at %.0f, then at %.0f px; want the space only for a link", first.Below, second.Below)
				}
				if len(s.asked) > 0 {
					t.Error("the next page asked again")
				}
			})
		}
	}
}

// TestLinkStaysWithoutScript: no missing script takes the link away.
func TestLinkStaysWithoutScript(t *testing.T) {
	t.Parallel()
	machine := chromium(t)
	broken := fstest.MapFS{}
	err := fs.WalkDir(extensions.Theme(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(extensions.Theme(), name)
		if filepath.Ext(name) == ".js" {
			data = []byte("throw new Error('blocked')")
		}
		broken[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, noScript := range []bool{true, false} {
		o := withBlock(map[string]any{"audience": "subscribers"})
		o.Extension = broken
		s := newShopper(t, machine, o)
		if noScript {
			if _, err := chromedp.Call(s.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
				t.Fatal(err)
			}
		}
		s.do(chromedp.Navigate(s.store.URL+"/"), chromedp.WaitVisible(chromedp.CSS(".shopify-app-block a")))
	}
}
