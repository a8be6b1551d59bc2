package sandbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

const tryForm = `form[data-post="/app/try"]`

// attribute returns an attribute of an element in the app home.
func (m *merchant) attribute(of css, name string) string {
	m.t.Helper()
	return read(m.t, m.ctx, chromedp.Nodes(of, m.app()))[0].AttributeValue(name)
}

// TestSupport follows a merchant who turns links for support on, tries a customer by e-mail address, makes a link,
// and opens it. All of it works with the keyboard.
func TestSupport(t *testing.T) {
	t.Parallel()
	c := &servertest.Clock{}
	s := startWith(t, sandbox.Options{Now: c.Now})
	s.Store.SetDomain("https://www.brand.example")
	machine := chromium(t)
	m := newMerchant(t, s, machine)
	ownDomain := func(of css) {
		t.Helper()
		until(t, "the address has the store's own domain", func() bool {
			return strings.HasPrefix(m.reads(of), "https://www.brand.example/apps/subscriptions")
		})
	}
	m.open("#email-update")
	ownDomain("#email-update")
	m.goes("Try it", "#store-link")
	ownDomain("#store-link")
	if got := m.attribute("a[data-store]", "href"); got != m.reads("#store-link") {
		t.Errorf("the link leads to %q; want %q", got, m.reads("#store-link"))
	}

	// Bad input clears the last result, and so does typing.
	m.types("#customer", pat)
	m.clicks(tryForm + " button")
	m.sees(`#tried .note.good`)
	if strings.Contains(m.text(), "Make a link for support") {
		t.Error("while they are off, a link for support is offered")
	}
	m.types("#customer", "nonsense")
	m.clicks(tryForm + " button")
	m.sees(`.field + .note.bad[data-result="invalid"]`)
	m.sees(`#customer[aria-invalid="true"]:focus`)
	if strings.Contains(m.text(), "signed in.") {
		t.Errorf("the app home reads %q; want the last result gone", m.text())
	}
	m.types("#customer", robin)
	m.clicks(tryForm + " button")
	m.sees(`#tried .note:not(.good, .bad)[data-result="not_a_subscriber"]`)
	m.sees(`#customer:not([aria-invalid])`)

	m.goes("Settings", "#support-switch")
	m.clicks("#support-switch")
	until(t, "links are on", func() bool { return strings.Contains(m.reads("#support"), "support are on.") })
	m.sees("#support-switch:focus")
	picture(t, m.ctx, "support-settings", 1200, 900)
	m.goes("Try it", "#customer")
	m.types("#customer", robin)
	m.clicks(tryForm + " button")
	m.sees(`#tried [data-result]`)
	m.types("#customer", " ")
	do(t, m.ctx, chromedp.Focus(css("#customer"), m.app()))
	for _, key := range "pat@example.test" {
		m.key(string(key))
	}
	until(t, "typing clears the last result", func() bool { return !strings.Contains(m.text(), "no subscription") })
	m.key(kb.Enter)
	m.sees(`#tried button[name="support"]`)
	do(t, m.ctx, chromedp.Focus(css(`#tried button[name="support"]`), m.app()))
	m.key(kb.Enter)
	m.sees(`#tried [data-focus]:focus`)
	picture(t, m.ctx, "support", 1200, 900)
	picture(t, m.ctx, "support-phone", 390, 844)
	link := m.reads("#support-link")
	if !strings.HasPrefix(link, s.AppURL()+"/go/support?") || strings.Contains(link, "pat") {
		t.Fatalf("the link %q; want one of the app's, without the address", link)
	}
	if got := m.attribute("#tried a", "href"); !strings.HasSuffix(got, "/customers/"+pat) {
		t.Errorf("the customer in the admin is at %q; want Pat's page", got)
	}
	staff := newWalker(t, s, machine)
	do(t, staff.ctx, chromedp.Navigate(link), chromedp.WaitVisible(css(`main[data-portal="open"]`)))
	if got := read(t, staff.ctx, chromedp.Text(css("main"))); !strings.Contains(got, "Pat") {
		t.Errorf("the link opens %q; want Pat's portal", got)
	}
	dead := func(link, why, want string) {
		t.Helper()
		other := newWalker(t, s, machine)
		do(t, other.ctx, chromedp.Navigate(link), chromedp.WaitVisible(css(`main[data-outcome="forbidden"]`)))
		if got := read(t, other.ctx, chromedp.Text(css("main"))); !strings.Contains(got, want) || strings.Contains(got, "link for support") {
			t.Errorf("%s: the page reads %q; want %q, and nothing about support", why, got, want)
		}
		picture(t, other.ctx, "support-"+why, 390, 844)
	}
	again := func() string {
		t.Helper()
		m.clicks(tryForm + " button")
		m.sees(`#tried button[name="support"]`)
		m.clicks(`#tried button[name="support"]`)
		m.sees("#support-link")
		return m.reads("#support-link")
	}
	c.Add(time.Minute) // a double click is forgotten
	dead(link, "used", "This link has already been used.")
	link = again()
	c.Add(10 * time.Minute)
	dead(link, "expired", "This link is too old.")
	link = again()
	m.goes("Settings", "#support-switch")
	m.clicks("#support-switch")
	until(t, "links are off", func() bool { return strings.Contains(m.reads("#support"), "support are off.") })
	dead(link, "off", "This link is not valid, or has expired.")
}

// TestSupportForEveryone checks the parts of the app home that TestSupport uses with axe, on a phone and on a large
// screen, light and dark.
func TestSupportForEveryone(t *testing.T) {
	t.Parallel()
	s, in := start(t), newInspector(t)
	token := s.Store.SessionToken(sandbox.ClientID)
	open := func(page string) {
		in.open(t, s.AppURL()+page+"?embedded=1&shop="+s.Shop()+"&id_token="+token)
		// Axe does not look inside frames, and App Bridge works only in one.
		do(t, in.ctx, chromedp.Evaluate[chromedp.Void](`{
			const plain = window.fetch;
			window.fetch = (to, init) => plain(to, {...init, headers: {Authorization: 'Bearer ' + `+quoted(token)+`}});
		}`))
	}
	for _, scheme := range schemes() {
		in.prefer(t, scheme)
		open("/settings")
		in.inspect(t, scheme+", links for support")
		if scheme == schemes()[0] {
			do(t, in.ctx, chromedp.Click(css("#support-switch")), chromedp.WaitVisible(css("#support .note.good")))
		}
		open("/try")
		for typed, wait := range map[string]css{
			"x": `[data-result="invalid"]`, robin: `[data-result="not_a_subscriber"]`, "nobody@example.test": `[data-result="not_found"]`,
		} {
			do(t, in.ctx, chromedp.SetValue(css("#customer"), typed), chromedp.Click(css(tryForm+" button:enabled")), chromedp.WaitVisible(wait))
			in.inspect(t, scheme+", try "+typed)
		}
		do(t, in.ctx, chromedp.SetValue(css("#customer"), pat), chromedp.Click(css(tryForm+" button:enabled")),
			chromedp.Click(css(`#tried button[name="support"]`)), chromedp.WaitVisible(css("#support-link")))
		in.inspect(t, scheme+", a link for support")
		picture(t, in.ctx, "try-"+scheme, 390, 844)
		in.resize(t, wide)
		in.tab(t, scheme+", a link for support")
	}
}
