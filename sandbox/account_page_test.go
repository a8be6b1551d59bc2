package sandbox_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// accountPages are the gallery's states that show the account extension, by the target whose block they draw, or "".
func accountPages() map[string]string {
	return map[string]string{
		"profile-block":      "customer-account.profile.block.render",
		"orders-block":       "customer-account.order-index.block.render",
		"order-status-block": "customer-account.order-status.block.render",
		"order-status-guest": "",
		"thank-you-block":    "purchase.thank-you.block.render",
		"thank-you-once":     "",
	}
}

// TestGalleryShowsEachTarget: the gallery has a page for each place of the account extension, with
// its words in every language and a link to the portal.
func TestGalleryShowsEachTarget(t *testing.T) {
	t.Parallel()
	config, err := fs.ReadFile(extensions.Account(), "shopify.extension.toml")
	if err != nil {
		t.Fatal(err)
	}
	var drawn []string
	for _, target := range accountPages() {
		drawn = append(drawn, target)
	}
	for _, target := range regexp.MustCompile(`(?m)^target = "(.+)"$`).FindAllStringSubmatch(string(config), -1) {
		if !slices.Contains(drawn, target[1]) {
			t.Errorf("the gallery does not show %s", target[1])
		}
	}
	pages := templates.Load()
	s := start(t)
	person := &person{t, s, &http.Client{Timeout: 30 * time.Second}}
	for state, target := range accountPages() {
		for _, language := range pages.Languages() {
			page := person.get("/sandbox/page?state=" + state + "&scheme=light&language=" + language)
			if target == "" {
				if strings.Contains(page, "data-target") {
					t.Errorf("%s, %s: has a block; want none", state, language)
				}
				continue
			}
			href := "/apps/subscriptions?locale=" + language
			if target == "purchase.thank-you.block.render" {
				href += "&amp;ms_ordered=1"
			}
			want := []string{`data-target="` + target + `"`, `href="` + href + `"`}
			for _, text := range accountWords(t, language) {
				want = append(want, ">"+text+"<")
			}
			for _, part := range want {
				if !strings.Contains(page, part) {
					t.Errorf("%s, %s: lacks %s", state, language, part)
				}
			}
		}
	}
}

func accountWords(t *testing.T, language string) map[string]string {
	t.Helper()
	if language == "en" {
		language = "en.default"
	}
	source, err := fs.ReadFile(extensions.Account(), "locales/"+language+".json")
	if err != nil {
		t.Fatal(err)
	}
	var words map[string]string
	if err := json.Unmarshal(source, &words); err != nil {
		t.Fatal(err)
	}
	return words
}
