package shopify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

const form = `<form method="post" action="/account/login">`

// detect calls DetectAccounts on a store that answers with this handler.
func detect(t *testing.T, answer http.HandlerFunc) (string, error) {
	t.Helper()
	store := httptest.NewServer(answer)
	defer store.Close()
	accounts, err := DetectAccounts(t.Context(), Platform{Shops: map[Shop]string{"": store.URL}}, "some-shop.myshopify.com", nil)
	return accounts.Kind, err
}

func TestDetectAccountsOfTheEmulator(t *testing.T) {
	for _, want := range []string{"new", "legacy"} {
		store := shopifytest.NewServer(shopifytest.Options{Shop: "some-shop.myshopify.com", Accounts: want})
		got, err := DetectAccounts(t.Context(), Platform{Shops: map[Shop]string{"": store.URL}}, "some-shop.myshopify.com", nil)
		if got.Kind != want || err != nil {
			t.Errorf("DetectAccounts = %q, %v; want %s", got, err, want)
		}
		store.Close()
	}
}

func TestDetectAccountsPages(t *testing.T) {
	for name, test := range map[string]struct{ page, want string }{
		"a form":              {form, "legacy"},
		"with a query":        {`<form action="/account/login?locale=en">`, "legacy"},
		"with a language":     {`<form action="/fr/account/login">`, "legacy"},
		"with a region":       {`<form action="/pt-br/account/login">`, "legacy"},
		"another form":        {`<form action="/account/login-help">`, ""},
		"another store's":     {`<form action="https://evil.example/account/login">`, ""},
		"behind much":         {strings.Repeat(" ", accountsBody-len(form)) + form, "legacy"},
		"behind far too much": {strings.Repeat(" ", accountsBody) + form, ""},
	} {
		got, err := detect(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, test.page) })
		if got != test.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		}
	}
}

// TestDetectAccountsInALanguage: a store may redirect visitors to their own language.
func TestDetectAccountsInALanguage(t *testing.T) {
	got, err := detect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/account/login" {
			http.Redirect(w, r, "/fr/account/login", http.StatusFound)
			return
		}
		fmt.Fprint(w, `<form method="post" action="/fr/account/login">`)
	})
	if got != "legacy" || err != nil {
		t.Errorf("DetectAccounts = %q, %v; want legacy", got, err)
	}
}

// TestDetectAccountsEnds: no store can hold us up, or make us send more than a few requests.
func TestDetectAccountsEnds(t *testing.T) {
	asked := 0
	if got, err := detect(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, fmt.Sprintf("/%d/account/login", asked), http.StatusFound)
	}); got != "" || !errors.Is(err, ErrNotSeen) || asked != accountsHops {
		t.Errorf("without end: %q, %v after %d requests; want ErrNotSeen after %d", got, err, asked, accountsHops)
	}
	for name, begin := range map[string]string{"at once": "", "in the page": "<html>"} {
		ctx, giveUp := context.WithCancel(t.Context())
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if begin != "" {
				fmt.Fprint(w, begin)
				_ = http.NewResponseController(w).Flush()
			}
			giveUp()
			<-r.Context().Done()
		}))
		got, err := DetectAccounts(ctx, Platform{Shops: map[Shop]string{"": store.URL}}, "some-shop.myshopify.com", nil)
		if got != (Accounts{}) || err == nil || strings.Contains(err.Error(), store.URL) {
			t.Errorf("hanging %s: %q, %v; want an error without the address", name, got, err)
		}
		store.Close()
	}
}

// TestDetectAccountsSigned: a store that refuses unsigned bots is seen with a crawler's signature, which goes
// to no other host.
func TestDetectAccountsSigned(t *testing.T) {
	signed := http.Header{}
	for _, name := range []string{"Signature", "Signature-Input", "Signature-Agent"} {
		signed.Set(name, "hush-hush")
	}
	store := shopifytest.NewServer(shopifytest.Options{Shop: "some-shop.myshopify.com", Accounts: "new"})
	defer store.Close()
	store.SetFaults(func(f *shopifytest.Faults) { f.Bots = 430 })
	at := func(url string) Platform { return Platform{Shops: map[Shop]string{"": url}} }
	if got, err := DetectAccounts(t.Context(), at(store.URL), "some-shop.myshopify.com", nil); !errors.Is(err, ErrNotSeen) || got != (Accounts{}) {
		t.Errorf("unsigned: %+v, %v; want not seen", got, err)
	}
	if got, err := DetectAccounts(t.Context(), at(store.URL), "some-shop.myshopify.com", signed); got.Kind != "new" || got.Host == "" || err != nil {
		t.Errorf("signed: %+v, %v; want new, and where", got, err)
	}

	var came []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came = append(came, r.Header)
		fmt.Fprint(w, form)
	}))
	defer other.Close()
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came = append(came, r.Header)
		target := other.URL + "/account/login"
		if r.URL.Path == "/account/login" {
			target = "/fr/account/login"
		}
		http.Redirect(w, r, target, http.StatusFound)
	}))
	defer moved.Close()
	got, err := DetectAccounts(t.Context(), at(moved.URL), "some-shop.myshopify.com", signed)
	if got.Kind != "legacy" || err != nil || len(came) != 3 {
		t.Fatalf("%+v, %v after %d requests; want legacy after 3", got, err, len(came))
	}
	for i, want := range []int{3, 3, 0} {
		n := 0
		for name := range signed {
			n += len(came[i][name])
		}
		if n != want || came[i].Get("User-Agent") == "" {
			t.Errorf("request %d has %d of the headers; want %d", i+1, n, want)
		}
	}
}

// TestVisitorStaysOutside: only the transport that visits real stores has the guard.
func TestVisitorStaysOutside(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer inside.Close()
	for name, test := range map[string]struct {
		platform Platform
		reaches  bool
	}{
		"Shopify": {Platform{}, false}, "an emulator": {Platform{Shops: map[Shop]string{"": inside.URL}}, true},
	} {
		transport := visitor(test.platform)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, inside.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if (err == nil) != test.reaches {
			t.Errorf("%s: %v; want this machine reached: %v", name, err, test.reaches)
		}
		transport.CloseIdleConnections()
	}
}

// TestDetectAccountsNotSeen: a store that is closed by a password, frozen or gone shows nothing.
func TestDetectAccountsNotSeen(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"password page":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/password", http.StatusFound) },
		"401":                 func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"402, a frozen store": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(402) },
		"404":                 func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
	} {
		if kind, err := detect(t, answer); !errors.Is(err, ErrNotSeen) {
			t.Errorf("%s: %q, %v; want ErrNotSeen", name, kind, err)
		}
	}
}

// TestDetectAccountsOfAnOwnDomain: neither a domain that begins with "account." nor a redirect to anywhere makes an
// account host.
func TestDetectAccountsOfAnOwnDomain(t *testing.T) {
	from, _ := url.Parse("https://some-shop.myshopify.com/account/login")
	for to, want := range map[string]Accounts{
		"https://account.coffee/account/login":               {},
		"http://account.coffee/x":                            {},
		"https://evil.example/authentication/x":              {},
		"https://Account.Brand.com:443/authentication/oauth": {Kind: "new", Host: "account.brand.com"},
	} {
		u, _ := url.Parse(to)
		var a Accounts
		a.follow(from, u)
		if a != want {
			t.Errorf("%s: %+v; want %+v", to, a, want)
		}
	}
}
