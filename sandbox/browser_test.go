package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// start runs a sandbox for one test.
func start(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	return startWith(t, sandbox.Options{})
}

// startWith runs one with other options.
func startWith(t *testing.T, o sandbox.Options) *sandbox.Sandbox {
	t.Helper()
	o.Log = t.Output()
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return s
}

// patience is the time limit for a whole test in a browser on a busy machine.
const patience = 3 * time.Minute

// browser starts a fresh headless Chromium for one shopper.
func browser(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(chromium(t), patience)
	t.Cleanup(cancel)
	return ctx
}

// window opens another window of a Chromium for another shopper. It shares nothing with the others.
func window(t *testing.T, chromium context.Context) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a window: %v", err)
	}
	return ctx
}

// chromium starts a Chromium process.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		suite.Missing(t, "chromium is not on the PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // CI runs as root, where Chromium's own sandbox does not start
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		// The address bar's suggestions are two more pages for each window, a fifth of the browser's work.
		chromedp.Flag("disable-features", "Translate,BlinkGenPropertyTrees,WebUIOmniboxPopup,WebUIOmniboxAimPopup"),
		chromedp.UserDataDir(t.TempDir()),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// css is a CSS selector.
type css = chromedp.CSS

// do runs steps in the browser, and ends the test if one fails.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for _, step := range steps {
		read(t, ctx, step)
	}
}

// read returns what an action finds, and ends the test if it finds nothing.
func read[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	found, err := chromedp.Run(ctx, action)
	for err != nil && strings.Contains(err.Error(), "Could not find node") { // the page has just drawn it again
		found, err = chromedp.Run(ctx, action)
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// attribute returns an attribute of the first element that matches.
func attribute(t *testing.T, ctx context.Context, selector css, name string) string {
	t.Helper()
	return read(t, ctx, chromedp.AttributeValue(selector, name)).Value
}

// picture saves a screenshot if SCREENSHOTS names a folder.
func picture(t *testing.T, ctx context.Context, name string, width, height int64) {
	t.Helper()
	if os.Getenv("SCREENSHOTS") == "" {
		return
	}
	do(t, ctx, chromedp.EmulateViewport(width, height))
	// A picture beyond the viewport would be shifted where the page runs from right to left.
	whole := read(t, ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
	do(t, ctx, chromedp.EmulateViewport(width, max(height, whole)))
	save(t, name, read(t, ctx, chromedp.CaptureScreenshot()))
}

// signIn signs a shopper in, and leaves the browser on the account page.
func signIn(t *testing.T, ctx context.Context, s *sandbox.Sandbox, id string) {
	t.Helper()
	do(t, ctx,
		chromedp.Navigate(s.Store.URL+"/account"),
		chromedp.Click(css(`[data-shopper="`+id+`"]`)),
		chromedp.WaitVisible(css("#manage-subscriptions")),
	)
}

// TestShopperReachesOwnPortal tests the app's promise as a shopper experiences it.
func TestShopperReachesOwnPortal(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, shopper := range []struct{ id, name string }{
		{"6100200300400", "Pat Doe"},
		{"6100200300600", "Sam Poe"},
	} {
		t.Run(shopper.name, func(t *testing.T) {
			ctx := browser(t)
			signIn(t, ctx, s, shopper.id)
			do(t, ctx, chromedp.Click(css("#manage-subscriptions")), chromedp.WaitVisible(css(`main[data-portal="open"]`)))
			if got := read(t, ctx, chromedp.Text(css("main"))); !strings.Contains(got, shopper.name) {
				t.Errorf("the portal page reads %q; want the name %q on it", got, shopper.name)
			}
			if got := attribute(t, ctx, "main", "data-page"); got != "subscriptions" {
				t.Errorf("the portal opened at %q; want subscriptions", got)
			}
		})
	}
}

// TestFaultIsSeenByClicking uses the panel as a person does.
func TestFaultIsSeenByClicking(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx := browser(t)
	signIn(t, ctx, s, pat)
	do(t, ctx,
		chromedp.Click(css("#sandbox summary")),
		chromedp.Click(css(`[data-switch="down"]`)),
		chromedp.WaitVisible(css(`[data-switch="down"][aria-pressed="true"]`)),
		chromedp.Click(css("#manage-subscriptions")),
		chromedp.WaitVisible(css(`[data-outcome="unavailable"]`)),
	)
	if got := read(t, ctx, chromedp.Text(css("main"))); !strings.Contains(got, "cannot be opened right now") || !strings.Contains(got, "Contact Sandbox Coffee") {
		t.Errorf("the page reads %q; want what happened, and the store's contact", got)
	}
	if got := attribute(t, ctx, "[data-last-outcome]", "data-last-outcome"); got != "unavailable" {
		t.Errorf("the panel says %q; want unavailable", got)
	}
	picture(t, ctx, "unavailable", 1200, 800)
	do(t, ctx,
		chromedp.Click(css("#sandbox summary")),
		chromedp.Click(css(`[data-switch="down"]`)),
		chromedp.WaitVisible(css(`[data-switch="down"][aria-pressed="false"]`)),
		chromedp.Navigate(s.Store.URL+"/apps/subscriptions"),
		chromedp.WaitVisible(css(`main[data-portal="open"][data-customer="Pat Doe"]`)),
	)
}

// TestForbiddenLeadsOn: from the page of a forbidden click, a shopper gets to the portal or to their
// account, once the cause is gone. The visitor's parameters are gone, too.
func TestForbiddenLeadsOn(t *testing.T) {
	t.Parallel()
	ctx, s := browser(t), start(t)
	signIn(t, ctx, s, pat)
	for link, arrived := range map[css]css{`a[href="?"]`: `main[data-portal="open"]`, `a[href="/account"]`: "#manage-subscriptions"} {
		for _, wrong := range []bool{true, false} {
			if err := s.Switch("secret", wrong); err != nil {
				t.Fatal(err)
			}
			if wrong {
				do(t, ctx, chromedp.Navigate(s.Store.URL+"/apps/subscriptions/orders?a=1"), chromedp.WaitVisible(link))
			}
		}
		do(t, ctx, chromedp.Click(link), chromedp.WaitVisible(arrived))
		if at := read(t, ctx, chromedp.Location()); strings.Contains(at, "a=1") {
			t.Errorf("%s leads to %s; want no parameter of the visitor's", link, at)
		}
	}
}
