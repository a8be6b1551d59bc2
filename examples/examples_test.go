// Package examples_test runs each example against the sandbox as a reader would, in its own
// language and with a shopper's browser.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/sandbox"
)

// example is an example and the command that serves it.
type example struct {
	file  string
	serve []string
	path  string // path that the shopper opens
	finds string // code that fails if the example's library is not installed
}

func examples() []example {
	return []example{
		{"express.mjs", []string{"node", "testdata/serve.mjs", "express"}, "/account", "require.resolve('express')"},
		{"hydrogen.mjs", []string{"node", "testdata/serve.mjs", "hydrogen"}, "/manage-subscriptions", "require.resolve('react-router')"},
		{"nextjs.mjs", []string{"node", "testdata/serve.mjs", "nextjs"}, "/manage-subscriptions", ""},
		{"portal.py", []string{"python3", "testdata/serve.py"}, "/manage-subscriptions", "import requests"},
		{"portal.rb", []string{"ruby", "testdata/serve.rb"}, "/account", "require 'webrick'"},
	}
}

// shoppers are the customers who are signed in to an example, as in its session.* file.
func shoppers() []struct{ session, name string } {
	return []struct{ session, name string }{
		{"of-pat", "Pat Doe"}, // by Shopify's ID
		{"of-kim", "Kim Lee"}, // by Recharge's
	}
}

// headlessStore starts the sandbox's headless store, until the test ends.
func headlessStore(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.Start(t.Context(), sandbox.Options{Headless: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestExamples: with each example, each shopper reaches their own portal, and a visitor whom the
// example does not know is asked to sign in.
func TestExamples(t *testing.T) {
	s := headlessStore(t)
	browser := chromium(t)
	for _, e := range examples() {
		t.Run(e.file, func(t *testing.T) {
			at := serve(t, s, e)
			for _, shopper := range shoppers() {
				ctx := window(t, browser)
				do(t, ctx, chromedp.Navigate(at+"/nowhere"), signedIn(shopper.session), chromedp.Navigate(at+e.path))
				if e.path == "/account" {
					do(t, ctx, chromedp.Click(chromedp.CSS("#manage")))
				}
				do(t, ctx, chromedp.WaitVisible(chromedp.CSS(`main[data-portal="open"]`)))
				got, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("main")))
				if err != nil || !strings.Contains(got, shopper.name) {
					t.Errorf("%s of %s shows %q, %v; want their own portal", e.path, shopper.name, got, err)
				}
			}
			ctx := window(t, browser)
			do(t, ctx, chromedp.Navigate(at+"/nowhere"), signedIn("of-nobody"), chromedp.Navigate(at+e.path))
			where, err := chromedp.Run(ctx, chromedp.Location())
			if err != nil || !strings.HasSuffix(where, "/login") {
				t.Errorf("a visitor is at %s, %v; want the sign-in", where, err)
			}
		})
	}
}

// TestExamplesFitInAPage: each example has fewer than 40 lines.
func TestExamplesFitInAPage(t *testing.T) {
	files := []string{"mobile.mjs"}
	for _, e := range examples() {
		files = append(files, e.file)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines >= 40 {
			t.Errorf("%s has %d lines; want fewer than 40", file, lines)
		}
	}
}

// serve runs an example's server, and returns its address.
func serve(t *testing.T, s *sandbox.Sandbox, e example) string {
	t.Helper()
	evaluate := "-e"
	if need(t, e.serve[0]); e.serve[0] == "python3" {
		evaluate = "-c"
	}
	if err := exec.CommandContext(t.Context(), e.serve[0], evaluate, e.finds).Run(); err != nil {
		suite.Missing(t, "not installed: "+e.finds)
	}
	_, key := s.Headless()
	command := exec.CommandContext(t.Context(), e.serve[0], e.serve[1:]...)
	command.Env = append(os.Environ(), "PORTAL_URL="+s.AppURL(), "PORTAL_API_KEY="+key, "SHOP="+s.Shop())
	command.Stderr = t.Output()
	command.WaitDelay = 5 * time.Second
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("serve %s: %v", e.file, err)
	}
	return strings.TrimSpace(line)
}

// need returns a program's path. If it is not installed, the test is skipped, or fails with CI=true.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	suite.Missing(t, program+" is not on the PATH")
	return ""
}

func chromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(need(t, "chromium")), chromedp.NoSandbox, // CI runs as root
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "chromium")))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	do(t, ctx)
	return ctx
}

// window opens a window for another shopper. It shares nothing with the others.
func window(t *testing.T, browser context.Context) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	do(t, ctx)
	return ctx
}

// signedIn gives the browser one of the example's sessions. The browser must show the example's page.
func signedIn(session string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[string](`document.cookie = "session=`+session+`; path=/"`)(ctx, target)
		return chromedp.Void{}, err
	}
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}
