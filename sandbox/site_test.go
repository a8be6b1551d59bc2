package sandbox_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
)

const siteBase = "/manage-subscriptions/" // where GitHub Pages serves the site

// TestSite builds the website from docs/ and uses it in a browser.
func TestSite(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("../node_modules/vitepress"); err != nil {
		suite.Missing(t, "node_modules is not there: npm ci")
	}
	folder := t.TempDir()
	suite.Command(t, "..", "npm", "run", "site", "--", "--outDir", folder)
	checkSiteLinks(t, folder)

	mux := http.NewServeMux()
	mux.Handle(siteBase, http.StripPrefix(siteBase, http.FileServer(http.Dir(folder))))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	site := server.URL + siteBase
	ctx := browser(t)
	do(t, ctx, chromedp.EmulateViewport(1200, 900), chromedp.Navigate(site), chromedp.Click(css("#local-search button")),
		chromedp.SendKeys(css("#localsearch-input"), "invariants"), chromedp.WaitVisible(css(".result.selected")),
		chromedp.SendKeys(css("#localsearch-input"), kb.Enter), chromedp.WaitVisible(css(".chart svg")))
	if at := read(t, ctx, chromedp.Location()); at != site+"architecture.html#invariants" {
		t.Errorf("the search leads to %s; want the invariants", at)
	}
	loaded := read(t, ctx, chromedp.Evaluate[[]string](`performance.getEntriesByType("resource").map(entry => entry.name)`))
	if len(loaded) == 0 {
		t.Error("the browser lists nothing that the site has loaded")
	}
	for _, address := range loaded {
		if !strings.HasPrefix(address, site) {
			t.Errorf("the site loads %s", address)
		}
	}
	picture(t, ctx, "site-wide", 1200, 900)
	picture(t, ctx, "site-narrow", 390, 800)
}

// checkSiteLinks reads every page of the site. Each has to have a title, because VitePress exits with 0
// although it could not render a page. Each link within the site has to lead to an element. VitePress
// itself looks only at the page that a link leads to.
func checkSiteLinks(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.html"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the site has the pages %q, %v", files, err)
	}
	below, err := filepath.Glob(filepath.Join(folder, "*", "*.html"))
	if err != nil {
		t.Fatal(err)
	}
	html, ids := map[string]string{}, map[string]bool{}
	for _, file := range append(files, below...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, err := filepath.Rel(folder, file)
		if err != nil {
			t.Fatal(err)
		}
		html[page] = string(text)
		for _, id := range regexp.MustCompile(`<h[1-6] id="([^"]+)"`).FindAllStringSubmatch(html[page], -1) {
			ids[page+"#"+id[1]] = true
		}
		if page != "404.html" && !strings.Contains(html[page], "<h1 id=") {
			t.Errorf("%s has no title", page)
		}
	}
	for page, text := range html {
		for _, link := range regexp.MustCompile(`href="([^":#]*)#([^"]+)"`).FindAllStringSubmatch(text, -1) {
			to := page
			if link[1] != "" {
				to = path.Join(path.Dir(page), link[1])
			}
			if !ids[to+"#"+link[2]] && link[2] != "VPContent" {
				t.Errorf("%s links to %s#%s, which is not there", page, to, link[2])
			}
		}
	}
}
