package rechargetest_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// TestVisits: a browser's way through the portal is one visit, and each further browser is another. With
// OneVisit, the further ones stay outside.
func TestVisits(t *testing.T) {
	t.Parallel()
	for _, oneVisit := range []bool{false, true} {
		w := newWorld(t)
		w.SetFaults(func(f *rechargetest.Faults) { f.OneVisit = oneVisit })
		link := w.access(pat, "&page_destination=subscriptions").PortalURL
		token := link[strings.Index(link, "token=")+len("token="):]
		open := func(browser *http.Client, method, address string) bool {
			t.Helper()
			request, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := browser.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			page, _ := io.ReadAll(response.Body)
			return strings.Contains(string(page), "House blend")
		}
		uses := func(when string, want int) {
			t.Helper()
			if got := w.TokenUses(); got[token] != want || len(got) > 1 {
				t.Errorf("OneVisit %v, %s: the token has opened %d of %v; want %d", oneVisit, when, got[token], got, want)
			}
		}
		first, second := browser(t), browser(t)
		open(first, http.MethodHead, link)
		open(first, http.MethodGet, strings.Replace(link, "/subscriptions?", "/nothing?", 1))
		uses("by HEAD and at a page that does not exist", 0)
		for _, page := range []string{"/subscriptions?", "/overview?", "/subscriptions?"} {
			if !open(first, http.MethodGet, strings.Replace(link, "/subscriptions?", page, 1)) {
				t.Errorf("OneVisit %v: %s does not open on the first visit", oneVisit, page)
			}
		}
		uses("after the first visit", 1)
		if got := open(second, http.MethodGet, link); got == oneVisit {
			t.Errorf("OneVisit %v: a second browser gets in: %v; want the opposite", oneVisit, got)
		}
		uses("after the second visit", map[bool]int{false: 2, true: 1}[oneVisit])
		if !open(first, http.MethodGet, link) {
			t.Errorf("OneVisit %v: the first browser is put out", oneVisit)
		}
	}
}

func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport}
}

// TestVisitOnStorefront: Shopify lets no cookie through, so the pages after the first one open because the shopper
// is signed in to the store.
func TestVisitOnStorefront(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetFaults(func(f *rechargetest.Faults) { f.OneVisit = true })
	token := w.access(pat, "").TempToken
	for _, want := range []string{rechargetest.HowToken, rechargetest.HowStorefront} {
		w.get(w.forwarded("/portal/"+pat.Hash+"/subscriptions", "token="+token, pat.ShopifyCustomerID))
		if all := w.Openings(); len(all) == 0 || all[len(all)-1].How != want {
			t.Errorf("the portal opened by %+v; want by %s", all, want)
		}
	}
	if got := slices.Collect(maps.Values(w.TokenUses())); !slices.Equal(got, []int{1}) {
		t.Errorf("uses = %v; want one", got)
	}
}
