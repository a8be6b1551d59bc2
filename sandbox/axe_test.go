package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

const (
	narrow, wide = 320, 1200 // CSS px; WCAG 1.4.10 asks for the narrow one
	axePath      = "../node_modules/axe-core/axe.min.js"
)

// runAxe checks the open document against WCAG 2.2, levels A and AA. It treats a page without a
// colour as white, though a browser may draw it dark.
const runAxe = `(() => {
  const bare = el => getComputedStyle(el).backgroundColor === "rgba(0, 0, 0, 0)";
  const root = document.documentElement;
  if (bare(root) && bare(document.body)) root.style.backgroundColor = "Canvas";
})();
axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
  resultTypes: ["violations", "incomplete"],
  iframes: false,
}).then(({violations, incomplete}) => {
  const flat = rules => rules.flatMap(rule => rule.nodes.map(node => ({
    rule: rule.id, impact: rule.impact, target: node.target.join(" "), html: node.html, summary: node.failureSummary,
    reason: node.any[0]?.data?.messageKey ?? "",
  })));
  return {violations: flat(violations), unsure: flat(incomplete)};
})`

// measure measures what axe does not check.
const measure = `(() => {
  const root = document.documentElement, title = document.querySelector("h1");
  const name = el => el.outerHTML.slice(0, 140);
  const shown = [...document.body.querySelectorAll("*")].filter(el => {
    const box = el.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && el.checkVisibility({visibilityProperty: true});
  });
  const cut = el => {
    const style = getComputedStyle(el);
    return style.overflowX !== "visible" && style.overflowX !== "auto" && style.overflowX !== "scroll" && el.scrollWidth > el.clientWidth + 1 ||
      style.overflowY !== "visible" && style.overflowY !== "auto" && style.overflowY !== "scroll" && el.scrollHeight > el.clientHeight + 1;
  };
  const inside = el => { // has an ancestor that scrolls or clips by itself
    for (let up = el.parentElement; up && up !== document.body; up = up.parentElement) {
      if (getComputedStyle(up).overflowX !== "visible") return true;
    }
    return false;
  };
  const beyond = el => {
    const box = el.getBoundingClientRect();
    return (box.left < -1 || box.right > root.clientWidth + 1) && !inside(el);
  };
  // A link in a sentence may be as small as its words.
  const inSentence = el => getComputedStyle(el).display === "inline" &&
    [...el.parentNode.childNodes].some(node => node.nodeType === Node.TEXT_NODE && /\p{L}/u.test(node.data));
  // WCAG 2.5.8: 24 px a side, or as far from the next target as if it were that large.
  const targets = shown.filter(el => el.matches("a[href], button, input, select, textarea, summary"));
  const little = box => box.width < 23.99 || box.height < 23.99;
  const near = (box, other) => {
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    if (little(other)) return Math.hypot(other.x + other.width / 2 - x, other.y + other.height / 2 - y) < 24;
    return Math.hypot(Math.max(other.left - x, 0, x - other.right), Math.max(other.top - y, 0, y - other.bottom)) < 12;
  };
  const small = el => {
    const box = el.getBoundingClientRect();
    return little(box) && !inSentence(el) && targets.some(other => other !== el && near(box, other.getBoundingClientRect()));
  };
  return {
    titles: shown.filter(el => el.matches("h1")).length,
    language: title?.closest("[lang]")?.lang ?? "",
    direction: title ? getComputedStyle(title).direction : "",
    scrolls: Math.max(0, root.scrollWidth - root.clientWidth),
    cut: shown.filter(el => el.innerText?.trim() && cut(el)).map(name),
    beyond: shown.filter(beyond).map(name),
    small: targets.filter(small).map(name),
  };
})()`

// space spaces out the text as widely as WCAG 1.4.12 says that a user may. A content security
// policy against inline styles does not block it.
const space = `(() => {
  const style = new CSSStyleSheet();
  style.replaceSync("* {line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important} p {margin-block-end: 2em !important}");
  document.adoptedStyleSheets = [style];
})()`

const unspace = `(() => { document.adoptedStyleSheets = []; })()`

// listStops lists the elements that the Tab key must reach, in the order of the document.
const listStops = `(() => {
  const passed = el => el.type === "radio" && !el.checked && el.form?.elements[el.name].value; // another of its group is the stop
  window.stops = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")]
    .filter(el => el.tabIndex >= 0 && !el.disabled && !passed(el) && el.checkVisibility({visibilityProperty: true}));
  const start = document.body.insertBefore(document.createElement("button"), document.body.firstChild);
  start.focus();
  start.remove(); // the Tab key continues from its place
  return window.stops.map(el => el.outerHTML.slice(0, 140));
})()`

// lookAtFocus describes the focused element. A part of the app home that is drawn again meanwhile has new elements, which
// have the ids of the old ones.
const lookAtFocus = `(() => {
  const el = document.activeElement, style = getComputedStyle(el), box = el.getClientRects()[0];
  const on = box && document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return {
    stop: window.stops.findIndex(stop => stop === el || stop.id && stop.id === el.id),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 && !/^rgba\(.*, 0\)$/.test(style.outlineColor),
    seen: el.contains(on ?? null),
  };
})()`

// loaded waits until the open document has its styles. A document that was written in place of
// another can be complete before its stylesheets are loaded.
const loaded = `(async () => {
  if (document.readyState !== "complete") await new Promise(done => addEventListener("load", done, {once: true}));
  for (const link of document.querySelectorAll('link[rel="stylesheet"]')) {
    if (!link.sheet) await new Promise((done, fail) => { link.onload = done; link.onerror = () => fail(new Error("no styles: " + link.href)); });
  }
})()`

// finding is an element that breaks a rule.
type finding struct{ Rule, Impact, Target, HTML, Summary, Reason string }

func (f finding) String() string {
	return fmt.Sprintf("%s (%s) at %s\n  %s\n  %s", f.Rule, f.Impact, f.Target, f.HTML, strings.ReplaceAll(f.Summary, "\n", "\n  "))
}

type report struct{ Violations, Unsure []finding }

type layout struct {
	Titles              int
	Language, Direction string
	Scrolls             int      // px that the page is wider than the window
	Cut, Beyond, Small  []string // elements
}

// focus is the stop that the Tab key has reached, by its place in the list, and whether its focus is visible.
type focus struct {
	Stop           int
	Outlined, Seen bool
}

// inspector is a browser that checks pages on behalf of people who cannot see them, or not so well,
// or who have no mouse.
type inspector struct{ ctx context.Context }

// schemes are the colour schemes in which a page is inspected.
func schemes() []string { return suite.Pick([]string{"light", "dark"}, []string{"dark"}) }

func newInspector(t *testing.T) inspector {
	t.Helper()
	axe, err := os.ReadFile(axePath)
	if errors.Is(err, fs.ErrNotExist) {
		suite.Missing(t, "node_modules is not there: npm ci")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(chromium(t), 2*patience) // the checks take long
	t.Cleanup(cancel)
	in := inspector{ctx}
	in.call(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": "if (self === top) {" + string(axe) + "}"})
	return in
}

// call calls a browser command that chromedp has no action for.
func (in inspector) call(t *testing.T, command string, parameters map[string]any) {
	t.Helper()
	do(t, in.ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		return target.Call(ctx, command, parameters, nil)
	}))
}

func (in inspector) resize(t *testing.T, width int64) {
	t.Helper()
	do(t, in.ctx, chromedp.EmulateViewport(width, 800))
}

// prefer sets the colour scheme that the person has chosen in the operating system, light or dark.
func (in inspector) prefer(t *testing.T, scheme string) {
	t.Helper()
	in.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

func (in inspector) open(t *testing.T, address string) {
	t.Helper()
	do(t, in.ctx, chromedp.Navigate(address))
}

// turnTo shows another page of the host in place of the open document. Axe stays loaded, since
// loading it takes longer than drawing a page.
func (in inspector) turnTo(t *testing.T, address string) {
	t.Helper()
	do(t, in.ctx, chromedp.Evaluate[chromedp.Void](`(async address => {
  const response = await fetch(address);
  if (!response.ok) throw new Error(address + " answers " + response.status);
  const page = await response.text();
  document.open();
  document.write(page);
  document.close();
  await `+loaded+`;
})(`+quoted(address)+`)`, chromedp.EvalAwaitPromise))
}

// signIn signs a shopper in, in either kind of store.
func (in inspector) signIn(t *testing.T, s *sandbox.Sandbox, id string) {
	t.Helper()
	do(t, in.ctx,
		chromedp.Navigate(s.Store.URL+"/account"),
		chromedp.Click(css(`[data-shopper="`+id+`"]`)),
		chromedp.WaitReady(css("#sign-out")),
	)
}

// axe reports the open page's violations, and what axe leaves for a person to check.
func (in inspector) axe(t *testing.T) report {
	t.Helper()
	return read(t, in.ctx, chromedp.Evaluate[report](runAxe, chromedp.EvalAwaitPromise))
}

// check fails the test for each violation on the open page.
func (in inspector) check(t *testing.T, page string) {
	t.Helper()
	found := in.axe(t)
	for _, f := range found.Violations {
		t.Errorf("%s: %s", page, f)
	}
	for _, f := range found.Unsure {
		if f.Rule == "color-contrast" && f.Reason != "pseudoContent" {
			t.Logf("%s: axe is not sure (%s): %s", page, f.Reason, f)
		}
	}
}

// measure checks that nothing on the open page is too wide or too small, even with the text spaced
// out.
func (in inspector) measure(t *testing.T, page string) layout {
	t.Helper()
	plain := in.layout(t)
	do(t, in.ctx, chromedp.Evaluate[chromedp.Void](space))
	spaced := in.layout(t)
	do(t, in.ctx, chromedp.Evaluate[chromedp.Void](unspace))
	for _, complaint := range plain.complaints() {
		t.Errorf("%s: %s", page, complaint)
	}
	for _, complaint := range spaced.complaints() {
		t.Errorf("%s, spaced: %s", page, complaint)
	}
	return plain
}

func (in inspector) layout(t *testing.T) layout {
	t.Helper()
	return read(t, in.ctx, chromedp.Evaluate[layout](measure))
}

func (l layout) complaints() []string {
	var all []string
	if l.Titles != 1 {
		all = append(all, fmt.Sprintf("h1: %d; want 1", l.Titles))
	}
	if l.Scrolls > 0 {
		all = append(all, fmt.Sprintf("wider than the window: %d px", l.Scrolls))
	}
	for _, element := range l.Cut {
		all = append(all, "text cut off: "+element)
	}
	for _, element := range l.Beyond {
		all = append(all, "out of the window: "+element)
	}
	for _, element := range l.Small {
		all = append(all, "target too small: "+element)
	}
	return all
}

// speaks checks the language and direction of the page's title.
func (l layout) speaks(t *testing.T, page, language string) {
	t.Helper()
	direction := "ltr"
	if language == "ar" || language == "he" {
		direction = "rtl"
	}
	if l.Language != language || l.Direction != direction {
		t.Errorf("%s: lang = %q, dir = %q; want %q, %q", page, l.Language, l.Direction, language, direction)
	}
}

// tab walks through the open page with the Tab key.
func (in inspector) tab(t *testing.T, page string) {
	t.Helper()
	for _, complaint := range in.stops(t) {
		t.Errorf("%s: %s", page, complaint)
	}
}

// stops returns a complaint for each stop that the Tab key reaches out of order or without a
// visible focus.
func (in inspector) stops(t *testing.T) []string {
	t.Helper()
	var complaints []string
	last := ""
	for i, stop := range read(t, in.ctx, chromedp.Evaluate[[]string](listStops)) {
		do(t, in.ctx, chromedp.KeyEvent(kb.Tab))
		got := read(t, in.ctx, chromedp.Evaluate[focus](lookAtFocus))
		for part := 0; part < 8 && got.Stop == i-1 && strings.Contains(last, "datetime-local"); part++ { // day, month, hour
			do(t, in.ctx, chromedp.KeyEvent(kb.Tab))
			got = read(t, in.ctx, chromedp.Evaluate[focus](lookAtFocus))
		}
		last = stop
		if got.Stop != i {
			return append(complaints, fmt.Sprintf("the Tab key reaches stop %d; want %d, %s", got.Stop, i, stop))
		}
		if !got.Outlined {
			complaints = append(complaints, "focus has no outline: "+stop)
		}
		if !got.Seen {
			complaints = append(complaints, "focus is out of sight: "+stop)
		}
	}
	return complaints
}

// inspect checks the open page on a phone and on a large screen.
func (in inspector) inspect(t *testing.T, page string) layout {
	t.Helper()
	in.resize(t, wide)
	in.check(t, page+", wide")
	in.resize(t, narrow)
	in.check(t, page+", narrow")
	return in.measure(t, page)
}

// TestInspectorFindsWhatIsWrong makes sure that the other tests can fail.
func TestInspectorFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	in := newInspector(t)
	in.resize(t, narrow)
	const head = `<!doctype html><html lang="en"><title>Wrong</title><style>button{width:10px;height:10px;padding:0;border:0}</style>`
	axe := func(t *testing.T) []string {
		var rules []string
		for _, f := range in.axe(t).Violations {
			rules = append(rules, f.Rule)
		}
		return rules
	}
	layout := func(t *testing.T) []string { return in.layout(t).complaints() }
	tests := map[string]struct {
		look func(*testing.T) []string
		page string
		want []string // how the complaints begin
	}{
		"axe":     {axe, `<main><h1>Wrong</h1><img src="data:,"><p style="color:#aaa;background:#fff">Pale</p><button aria-label="One"></button><button aria-label="Two"></button></main>`, []string{"color-contrast", "image-alt", "target-size", "target-size"}},
		"dark":    {axe, `<meta name="color-scheme" content="dark"><main><h1>Not wrong</h1><a href="/">Pale</a></main>`, nil},
		"title":   {layout, `<h1>One</h1><h1>Two</h1>`, []string{"h1: 2"}},
		"wide":    {layout, `<h1>Wrong</h1><p style="width:400px">Wide</p>`, []string{"wider than the window", "out of the window: <p"}},
		"cut":     {layout, `<h1 style="width:50px;overflow:hidden;white-space:nowrap">Much too long</h1>`, []string{"text cut off: <h1"}},
		"crowded": {layout, `<h1>Wrong</h1><p style="font-size:8px"><a href="/">I</a> · <a href="/">U</a></p>`, []string{"target too small: <a", "target too small: <a"}},
		"in text": {layout, `<h1>Right</h1><p>Small <a href="/">I</a> and <a href="/">U</a></p>`, nil},
		"order":   {in.stops, `<a href="/">One</a><a href="/" tabindex="1">Two</a>`, []string{"the Tab key reaches stop"}},
		"outline": {in.stops, `<a href="/" style="outline:0">One</a>`, []string{"focus has no outline"}},
		"hidden":  {in.stops, `<a href="/" style="clip-path:inset(50%)">One</a>`, []string{"focus is out of sight"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in.open(t, "about:blank")
			do(t, in.ctx, chromedp.Evaluate[chromedp.Void](`document.write(`+quoted(head+test.page)+`); document.close()`))
			got := test.look(t)
			if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
				t.Errorf("%s: %q; want %q", test.page, got, test.want)
			}
		})
	}
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // a string cannot fail
	return string(text)
}

// outcomes are the gallery's states that are not the store's own pages.
func outcomes() []string {
	return []string{"sign-in-failed", "sign-in-failed-hosted", "not-a-subscriber", "not-a-subscriber-signed-in", "not-a-subscriber-again", "not-a-subscriber-hosted", "unavailable", "unavailable-again", "unavailable-hosted", "not-connected", "forbidden", "link-forbidden", "link-used", "link-expired", "link-not-a-subscriber", "link-unavailable", "link-not-connected", "forward"}
}

func galleryPage(s *sandbox.Sandbox, state, language, scheme string) string {
	return s.Store.URL + "/sandbox/page?" + url.Values{"state": {state}, "language": {language}, "scheme": {scheme}}.Encode()
}

// TestEveryLanguage checks each page that a click can end on, on a phone.
func TestEveryLanguage(t *testing.T) {
	t.Parallel()
	pages := templates.Load()
	languages := suite.Pick(pages.Languages(), []string{"ar", "de", "ja", "pt-BR"})
	half := len(languages) / 2
	for _, some := range [][]string{languages[:half], languages[half:]} { // one for each processor
		t.Run(some[0]+" to "+some[len(some)-1], func(t *testing.T) {
			t.Parallel()
			s, in := start(t), newInspector(t)
			in.open(t, s.Store.URL)
			in.resize(t, narrow)
			for _, state := range outcomes() {
				for _, language := range some {
					page := state + ", " + language
					in.turnTo(t, galleryPage(s, state, language, "light"))
					in.check(t, page)
					in.measure(t, page).speaks(t, page, language)
				}
			}
		})
	}
}

// TestEveryLook checks each state in both themes, on a phone and on a large screen, light and dark,
// from left to right and from right to left.
func TestEveryLook(t *testing.T) {
	t.Parallel()
	for theme, classic := range themes() {
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			s, in := startWith(t, sandbox.Options{Classic: classic}), newInspector(t)
			in.signIn(t, s, pat)
			for _, language := range []string{"en", "ar"} {
				for _, scheme := range []string{"light", "dark"} {
					look := theme + ", " + language + ", " + scheme
					if !suite.Runs(look, "modern, en, light", "classic, ar, dark") {
						continue
					}
					for _, state := range outcomes() {
						page := state + ", " + look
						in.turnTo(t, galleryPage(s, state, language, scheme))
						in.inspect(t, page).speaks(t, page, language)
						in.tab(t, page)
						picture(t, in.ctx, "page-"+strings.ReplaceAll(page, ", ", "-"), 390, 844)
					}
					for _, state := range append(slices.Sorted(maps.Keys(accountPages())), "home", "account") {
						in.turnTo(t, galleryPage(s, state, language, scheme))
						in.inspect(t, state+", "+look)
					}
				}
			}
		})
	}
}

// TestEveryPageOnTheWay checks the pages that a shopper, a merchant or a theme developer really
// visits.
func TestEveryPageOnTheWay(t *testing.T) {
	t.Parallel()
	for theme, classic := range themes() {
		if !suite.Runs(theme, "modern") {
			continue
		}
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			s, in := startWith(t, sandbox.Options{Classic: classic}), newInspector(t)
			walk := &walk{in, s, theme}
			walk.signedOut(t)
			walk.signedIn(t)
			if suite.Whole() { // TestEveryLook checks some of them, too
				walk.outcomes(t)
			}
			if !classic && suite.Whole() { // it looks the same from both stores, as do the tools
				walk.portal(t)
			}
			if !classic {
				walk.tools(t)
			}
		})
	}
}

func themes() map[string]bool { return map[string]bool{"modern": false, "classic": true} }

// walk is a walk through one store.
type walk struct {
	inspector
	s     *sandbox.Sandbox
	theme string
}

// at inspects the open page in light mode, and in the whole suite in dark mode too.
func (w *walk) at(t *testing.T, page string) {
	t.Helper()
	page += ", " + w.theme
	w.inspect(t, page)
	w.tab(t, page)
	if !suite.Whole() { // TestEveryLook has dark pages of each kind
		return
	}
	w.prefer(t, "dark")
	w.check(t, page+", dark")
	w.prefer(t, "light")
}

// to opens and inspects a page of the store.
func (w *walk) to(t *testing.T, path, page string) {
	t.Helper()
	w.open(t, w.s.Store.URL+path)
	w.at(t, page)
}

func (w *walk) signedOut(t *testing.T) {
	t.Helper()
	w.to(t, "/", "home, signed out")
	w.to(t, "/account", "sign-in")
	w.to(t, "/nothing", "not found")
	w.s.Store.AddApp(shopifytest.App{PathPrefix: "/apps/gone", ProxyURL: "http://127.0.0.1:1", Secret: "a secret"})
	w.to(t, "/apps/gone", "app error")
	broken := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/liquid")
		fmt.Fprint(rw, "{% nonsense %}")
	}))
	defer broken.Close()
	w.s.Store.AddApp(shopifytest.App{PathPrefix: "/apps/broken", ProxyURL: broken.URL, Secret: "a secret"})
	w.to(t, "/apps/broken", "Liquid error")
}

func (w *walk) signedIn(t *testing.T) {
	t.Helper()
	w.signIn(t, w.s, pat)
	w.to(t, "/", "home, signed in")
	w.to(t, "/collections/all", "collection")
	w.to(t, "/account/addresses", "addresses")
	w.to(t, "/account", "account")
	if w.theme == "modern" {
		w.s.Recharge.SetUnity(true)
		w.open(t, w.s.Store.AccountPage())
		w.at(t, "account's portal page")
		w.open(t, w.s.Store.AccountURL+"/orders")
		w.at(t, "account host, orders")
		w.s.Recharge.SetUnity(false)
	}
	if w.theme == "classic" {
		do(t, w.ctx, chromedp.Click(css("#account-menu summary")), chromedp.WaitVisible(css("#account")))
		w.at(t, "account, menu open")
	}
}

// outcomes reaches each outcome's page by a click.
func (w *walk) outcomes(t *testing.T) {
	t.Helper()
	for _, test := range []struct{ outcome, fault string }{
		{"unavailable", "down"},
		{"not_connected", "shop"},
		{"sign_in_failed", "signin"},
	} {
		w.s.Forget() // a page may have looked up the shopper
		w.fault(t, test.fault, true)
		w.click(t, css(`[data-outcome="`+test.outcome+`"]`))
		w.at(t, test.outcome+", by a click")
		w.fault(t, test.fault, false)
	}
	w.open(t, w.s.Store.URL+"/account/logout")
	w.signIn(t, w.s, robin)
	w.click(t, `[data-outcome="not_a_subscriber"]`)
	w.at(t, "not_a_subscriber, by a click")
}

func (w *walk) fault(t *testing.T, name string, on bool) {
	t.Helper()
	if err := w.s.Switch(name, on); err != nil {
		t.Fatal(err)
	}
}

// click follows the store's menu, and waits for what it leads to.
func (w *walk) click(t *testing.T, want css) {
	t.Helper()
	do(t, w.ctx,
		chromedp.Click(css("#menu-subscriptions")),
		chromedp.WaitVisible(want),
		chromedp.Evaluate[chromedp.Void](loaded, chromedp.EvalAwaitPromise),
	)
}

// portal inspects the emulator's portal.
func (w *walk) portal(t *testing.T) {
	t.Helper()
	w.to(t, "/tools/recurring/get-subscription-access", "portal, for who never subscribed")
	w.open(t, w.s.Store.URL+"/account/logout")
	w.signIn(t, w.s, pat)
	w.click(t, `main[data-portal="open"]`)
	w.at(t, "portal")
	for _, page := range []string{"orders", "subscriptions/50500600", "subscriptions/50500600/cancel", "subscriptions/1"} {
		w.to(t, "/tools/recurring/portal/1f2e3d4c5b6a7988/"+page, "portal, "+page)
	}
	w.to(t, "/tools/recurring/portal/aaaabbbbccccdddd/", "portal of somebody else")
	w.to(t, "/tools/recurring/nonsense", "portal, not found")
}

// tools inspects the pages for merchants and theme developers.
func (w *walk) tools(t *testing.T) {
	t.Helper()
	w.open(t, w.s.Store.URL+"/sandbox/gallery")
	w.inspect(t, "gallery")
	w.to(t, "/sandbox/gallery?state=account", "gallery of one state")
	w.open(t, w.s.AppURL())
	w.at(t, "the app's address, from outside of the admin")
	for _, page := range []string{"", "/customers", "/webhooks", "/oauth/install?client_id=" + sandbox.ClientID, "/themes/current/editor", "/nothing"} {
		w.to(t, "/admin"+page, "admin"+page)
	}
	// The app home without the frame, because axe does not look inside frames.
	for _, page := range []string{"", "campaigns", "try", "keys", "settings"} {
		w.open(t, w.s.AppURL()+"/"+page+"?embedded=1&shop="+w.s.Shop()+"&id_token="+w.s.Store.SessionToken(sandbox.ClientID))
		w.at(t, "the app home, "+page)
	}
}
