package sandbox_test

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestAdminNavigation: each link that the admin shows for the app leads to a page of it, whose address the admin takes
// over, and which can be loaded again. If App Bridge loads the page without parameters, it is drawn all the same.
func TestAdminNavigation(t *testing.T) {
	t.Parallel()
	s := startWith(t, sandbox.Options{Index: true})
	m := newMerchant(t, s, chromium(t))
	m.open(`[data-state="connected"]`)
	picture(t, m.ctx, "app-home", 1200, 900)
	picture(t, m.ctx, "app-home-phone", 390, 844)
	type link struct{ Label, Href string }
	shown := read(t, m.ctx, chromedp.Evaluate[[]link](
		`[...document.querySelectorAll('#app-nav a')].map((a) => ({ label: a.textContent, href: a.getAttribute('href') }))`))
	want := []link{
		{"Manage Subscriptions", "/"},
		{"Campaigns", "/campaigns"},
		{"Try it", "/try"},
		{"Keys", "/keys"},
		{"Settings", "/settings"},
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Fatalf("the admin's links to the app home (-want +got):\n%s", diff)
	}
	parts := map[string]css{"/": "#connection", "/campaigns": "#campaigns", "/try": "#customer", "/keys": "#keys", "/settings": "#settings"}
	address := func() string { return read(t, m.ctx, chromedp.Evaluate[string]("location.pathname")) }
	for _, link := range append(want[1:], want[0]) {
		m.goes(link.Label, parts[link.Href])
		until(t, "the admin shows the address of "+link.Label, func() bool { return address() == "/admin/apps/"+sandbox.ClientID+link.Href })
		do(t, m.ctx, chromedp.Navigate(s.Store.URL+address()), chromedp.WaitVisible(css(`#app-nav a[aria-current="page"][href="`+link.Href+`"]`)))
		m.sees(parts[link.Href])
	}
	read(t, m.ctx, chromedp.Evaluate[bool](`document.getElementById('app').src = '`+s.AppURL()+`/keys', true`))
	m.sees("#keys")
}

// TestRefusedSettings: settings that are not saved stay in the form, and it stays open.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	m := newMerchant(t, start(t), chromium(t))
	m.open(`[data-state="connected"]`)
	m.goes("Settings", "#settings")
	const form = "#edit-detected"
	do(t, m.ctx, chromedp.Click(css(form+" summary"), m.app()))
	m.types("#accounts", "legacy")
	m.types("#page", "https://www.example.com/pages/1")
	m.clicks(form + " button")
	m.sees(form + ` .note.bad`)
	m.sees(form + "[open] #page")
	for field, want := range map[css]string{"#accounts": "legacy", "#page": "https://www.example.com/pages/1"} {
		if got := read(t, m.ctx, chromedp.Value(field, m.app())); got != want {
			t.Errorf("after a refusal, %s has %q; want %q, as typed", field, got, want)
		}
	}
}

// TestPolaris: the app home loads Polaris 2, and Polaris 1 if Shopify's CDN does not have it. With neither, the page
// draws its own frame. Polaris is light, so with it the page is light, whatever the browser prefers.
func TestPolaris(t *testing.T) {
	t.Parallel()
	s := start(t)
	machine := chromium(t)
	const cdn = "/cdn/shopifycloud/"
	for name, test := range map[string]struct {
		blocked []string
		want    string // the scripts that the page asks for
		ink     string // its text's colour, where the browser prefers dark
	}{
		"newest":  {nil, "polaris-2.js", "rgb(48, 48, 48)"},
		"older":   {[]string{"polaris-2.js"}, "polaris-2.js polaris-1.js", "rgb(48, 48, 48)"},
		"neither": {[]string{"polaris-2.js", "polaris-1.js"}, "polaris-2.js polaris-1.js", "rgb(227, 227, 227)"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := window(t, machine)
			var block network.SetBlockedURLsParams
			for _, file := range test.blocked {
				block.URLPatterns = append(block.URLPatterns, &network.BlockPattern{URLPattern: "*://*:*/*" + file, Block: true})
			}
			dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
			if _, err := chromedp.Call(ctx, network.SetBlockedURLs, block); err != nil {
				t.Fatal(err)
			}
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, dark); err != nil {
				t.Fatal(err)
			}
			home := s.AppURL() + "/?embedded=1&shop=" + s.Shop() + "&id_token=" + s.Store.SessionToken(sandbox.ClientID)
			do(t, ctx, chromedp.Navigate(home), chromedp.WaitVisible(css(`[data-state="connected"]`)))
			drawn := func() string {
				return read(t, ctx, chromedp.Evaluate[string](`[...document.scripts].map((s) => s.src).filter((src) => src.includes('/polaris-'))
					.map((src) => src.split('`+cdn+`')[1]).join(' ') + ', ' + getComputedStyle(document.body).color + ', ' + !!customElements.get('s-page')`))
			}
			want := test.want + ", " + test.ink + ", "
			if name == "neither" {
				want += "false"
			} else {
				want += "true"
			}
			until(t, "the page has "+want, func() bool { return strings.TrimSpace(drawn()) == want })
			picture(t, ctx, "polaris-"+name, 800, 600)
		})
	}
}

// TestAdminWithoutRedis: with Redis gone, the app home is drawn in the admin and says what works. It opens by itself
// once Redis is back, with a new session token.
func TestAdminWithoutRedis(t *testing.T) {
	t.Parallel()
	s := start(t)
	m := &merchant{&walker{t, s, window(t, chromium(t))}} // the browser reports each 503
	if err := s.Switch("redis", true); err != nil {
		t.Fatal(err)
	}
	m.open("[data-outage]")
	if got := m.text(); !strings.Contains(got, "still reach their portal") {
		t.Errorf("the app home without Redis reads %q; want what works", got)
	}
	picture(t, m.ctx, "app-home-without-redis", 1200, 900)
	picture(t, m.ctx, "app-home-without-redis-phone", 390, 844)
	if got := clickSigned(t, s, pat); !strings.HasPrefix(got, "302 ") {
		t.Errorf("a click without Redis = %s; want it to reach the portal, as the page says", got)
	}
	if err := s.Switch("redis", false); err != nil {
		t.Fatal(err)
	}
	m.sees(`[data-state="connected"]`)
}
