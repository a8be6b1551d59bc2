package sandbox_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// TestGalleryByKeyboard chooses a language and a page with the arrow keys alone.
func TestGalleryByKeyboard(t *testing.T) {
	t.Parallel()
	s, ctx := start(t), browser(t)
	do(t, ctx, chromedp.Navigate(s.Store.URL+"/sandbox/gallery"), chromedp.WaitVisible(css("section")))
	names := read(t, ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll('option[lang]')].map((option) => option.text)`))
	for _, name := range []string{"Deutsch", "日本語", "português (Brasil)", "English"} {
		if !slices.Contains(names, name) {
			t.Errorf("the languages are %q; want %s", names, name)
		}
	}
	text := func(of string) string { // in one step, since a choice replaces the elements
		return read(t, ctx, chromedp.Evaluate[string](`document.querySelector('`+of+`')?.innerText ?? ''`))
	}
	do(t, ctx, chromedp.Focus(css(`[name="language"]`)), chromedp.KeyEvent(kb.ArrowDown)) // the one after English
	next := names[slices.Index(names, "English")+1]
	until(t, "the pages are in "+next, func() bool {
		return strings.HasPrefix(text("figcaption"), next+", ")
	})
	do(t, ctx, chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(kb.Tab)) // the focus has stayed
	if got := read(t, ctx, chromedp.Evaluate[string](`document.activeElement.name`)); got != "state" {
		t.Errorf("after a choice and the Tab key the focus is on %q; want the next field", got)
	}
	do(t, ctx, chromedp.KeyEvent(kb.End)) // the last page
	until(t, "one page is shown", func() bool {
		return text("[role=status]") == "1 page"
	})
	if at := read(t, ctx, chromedp.Location()); !strings.HasSuffix(at, "?language=en&state=app-outside") {
		t.Errorf("the address is %s; want the one of what is shown", at)
	}
}

// TestGalleryShowsTheAdmin looks at each page for merchants in its frame, in German.
func TestGalleryShowsTheAdmin(t *testing.T) {
	t.Parallel()
	s, ctx := startWith(t, sandbox.Options{Index: true}), browser(t) // without imports there are no campaigns
	for state, shown := range map[string]css{
		"app-home": "#health", "app-campaigns": "#campaigns", "app-try": "#try", "app-keys": "#keys", "app-settings": "#settings",
		"app-outage": "[data-outage]", "app-token-refused": ".note.bad", "app-outside": ".outside",
	} {
		do(t, ctx, chromedp.Navigate(s.Store.URL+"/sandbox/gallery?language=de&state="+state))
		if got := read(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll('iframe').length`)); got != 2 {
			t.Errorf("%s has %d pictures; want a narrow and a wide one", state, got)
		}
		until(t, state+" is in its frame, in German", func() bool { // the frame's document changes while it loads
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			frames, err := chromedp.Run(ctx, chromedp.Nodes(css("iframe")))
			return err == nil && chromedp.Do(ctx, chromedp.WaitReady(`html[lang="de"] `+shown, chromedp.FromNode(frames[0]))) == nil
		})
		picture(t, ctx, "gallery-"+state, 1400, 700)
	}
	do(t, ctx, chromedp.Navigate(galleryPage(s, "app-keys", "de", "")), chromedp.WaitVisible(css("iframe#app")))
	if source := read(t, ctx, chromedp.Evaluate[string](`document.querySelector('iframe#app').src`)); !strings.Contains(source, "locale=de") {
		t.Errorf("a caption leads to %s; want it in German", source)
	}
}

// TestGalleryOfTheAdminForEveryone inspects the pages for merchants that are not in the app home.
func TestGalleryOfTheAdminForEveryone(t *testing.T) {
	t.Parallel()
	s, in := start(t), newInspector(t)
	in.open(t, s.Store.URL)
	for _, state := range []string{"app-outage", "app-token-refused", "app-outside"} {
		in.turnTo(t, galleryPage(s, state, "de", ""))
		in.inspect(t, state).speaks(t, state, "de")
	}
}
