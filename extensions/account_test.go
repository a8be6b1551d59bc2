package extensions_test

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"slices"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/extensions"
)

// TestAccountDestinations: the account extension offers every page that the theme's blocks offer.
func TestAccountDestinations(t *testing.T) {
	t.Parallel()
	config, err := fs.ReadFile(extensions.Account(), "shopify.extension.toml")
	if err != nil {
		t.Fatal(err)
	}
	choices := regexp.MustCompile(`(?s)key = "destination".*?value = '(.*?)'`).FindSubmatch(config)
	if choices == nil {
		t.Fatal("the account extension has no choices of destination")
	}
	var got []string
	if err := json.Unmarshal(choices[1], &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range glob(t, "blocks/*.liquid") {
		for _, want := range parse(t, read(t, name)).setting("destination").values() {
			if !slices.Contains(got, want) {
				t.Errorf("the account extension offers the destinations %q; want %s of %s, too", got, want, name)
			}
		}
	}
}
