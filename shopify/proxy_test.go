package shopify_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

const (
	secret   = "fixture-app-secret"
	now      = 1735689600
	shop     = "fixture-shop.myshopify.com"
	customer = "6100200300400"
	prefix   = "/apps/subscriptions"
)

func verifier(t testing.TB, at time.Time, secrets ...string) *shopify.Verifier {
	t.Helper()
	v, err := shopify.NewVerifier(secrets, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// forwarded returns the raw query of a click, as Shopify forwards it. A change "name=value"
// replaces a parameter, "+name=value" adds one, "-name" drops one. The query is signed after the
// changes, so that a refusal is due to the change itself. Changes to the signature are made to the
// true one.
func forwarded(changes ...string) string {
	pairs := []string{
		"shop=" + shop, "logged_in_customer_id=" + customer,
		"path_prefix=" + url.QueryEscape(prefix), "timestamp=1735689600",
	}
	ofSignature := func(change string) bool { return strings.HasPrefix(strings.Trim(change, "+-"), "signature") }
	for _, change := range changes {
		if !ofSignature(change) {
			pairs = apply(pairs, change)
		}
	}
	pairs = append(pairs, "signature="+shopifytest.Signature(secret, strings.Join(pairs, "&")))
	for _, change := range changes {
		if ofSignature(change) {
			pairs = apply(pairs, change)
		}
	}
	return strings.Join(pairs, "&")
}

func apply(pairs []string, change string) []string {
	if added, ok := strings.CutPrefix(change, "+"); ok {
		return append(pairs, added)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(change, "-"), "=")
	i := slices.IndexFunc(pairs, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
	if strings.HasPrefix(change, "-") {
		return slices.Delete(pairs, i, i+1)
	}
	pairs[i] = change
	return pairs
}

// The test vectors of Shopify's documentation, go-shopify, shopify_app and our own.
func TestVerifyVectors(t *testing.T) {
	tests := []struct {
		name, secret, query, signature string
		at                             int64
		want                           shopify.ProxyRequest
	}{
		{
			"Shopify's documentation", "hush",
			"extra=1&extra=2&shop=shop-name.myshopify.com&logged_in_customer_id=1&path_prefix=%2Fapps%2Fawesome_reviews&timestamp=1317327555",
			"4c68c8624d737112c91818c11017d24d334b524cb5c2b8ba08daa056f7395ddb", 1317327555,
			shopify.ProxyRequest{
				Shop: "shop-name.myshopify.com", Customer: "1", PathPrefix: "/apps/awesome_reviews",
				Query: url.Values{"extra": {"1", "2"}},
			},
		},
		{
			"go-shopify", "hush",
			"extra=1&extra=2&shop=shop-name.myshopify.com&path_prefix=%2Fapps%2Fawesome_reviews&timestamp=1317327555",
			"a9718877bea71c2484f91608a7eaea1532bdf71f5c56825065fa4ccabe549ef3", 1317327555,
			shopify.ProxyRequest{
				Shop: "shop-name.myshopify.com", PathPrefix: "/apps/awesome_reviews",
				Query: url.Values{"extra": {"1", "2"}},
			},
		},
		{
			"shopify_app", "secret",
			"shop=some-random-store.myshopify.com&path_prefix=%2Fapps%2Fmy-app&timestamp=1466106083",
			"f5cd7233558b1c50102a6f33c0b63ad1e1072a2fc126cb58d4500f75223cefcd", 1466106083,
			shopify.ProxyRequest{Shop: "some-random-store.myshopify.com", PathPrefix: "/apps/my-app", Query: url.Values{}},
		},
		{
			"a customer", secret,
			"shop=fixture-shop.myshopify.com&logged_in_customer_id=6100200300400&path_prefix=%2Fapps%2Fsubscriptions&timestamp=1735689600",
			"179325b9d3d6783e8bfde714988cd3f4d09aa1a81fed11f423d6de2ea2ad2ee0", now,
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{}},
		},
		{
			"nobody", secret,
			"shop=fixture-shop.myshopify.com&logged_in_customer_id=&path_prefix=%2Fapps%2Fsubscriptions&timestamp=1735689600",
			"6d9874fe0bf95314aed64d8b0ef02fe70d2d1d584976e82afa6efd0e4f271a21", now,
			shopify.ProxyRequest{Shop: shop, PathPrefix: prefix, Query: url.Values{}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := verifier(t, time.Unix(tt.at, 0), tt.secret)
			query := tt.query + "&signature=" + tt.signature
			got, err := v.Verify(query, "")
			if err != nil {
				t.Fatalf("Verify(%q) = %v; want it taken", query, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Verify(%q): -want +got\n%s", query, diff)
			}
			for _, added := range []string{"notok=true", "evil=1", "extra=3", "a", "=", "z=%00"} {
				if _, err := v.Verify(query+"&"+added, ""); !refusedFor(err, shopify.CheckSignature) {
					t.Errorf("Verify(… + %q) = %v; want refused: signature", added, err)
				}
			}
		})
	}
}

func refusedFor(err error, check shopify.Check) bool {
	var refused *shopify.Refused
	return errors.As(err, &refused) && refused.Check == check
}

func TestVerifyRefuses(t *testing.T) {
	const (
		parameter = shopify.CheckParameter
		timestamp = shopify.CheckTimestamp
		signature = shopify.CheckSignature
	)
	digits := strings.Repeat("0123456789", 7)
	_, trueSignature, _ := strings.Cut(forwarded(), "&signature=")
	tests := []struct {
		name      string
		changes   []string
		wantCheck shopify.Check
		wantName  string
	}{
		{"no shop", []string{"-shop"}, parameter, "shop"},
		{"empty shop", []string{"shop="}, parameter, "shop"},
		{"upper-case shop", []string{"shop=Fixture-Shop.myshopify.com"}, parameter, "shop"},
		{"shop with a port", []string{"shop=" + shop + ":443"}, parameter, "shop"},
		{"shop with a suffix", []string{"shop=" + shop + ".evil.example"}, parameter, "shop"},
		{"shop behind a slash", []string{"shop=evil.example/" + shop}, parameter, "shop"},
		{"shop behind an at sign", []string{"shop=evil.example%40" + shop}, parameter, "shop"},
		{"shop on another domain", []string{"shop=fixture-shop.example"}, parameter, "shop"},
		{"shop's domain without a dot", []string{"shop=fixture-shopmyshopify.com"}, parameter, "shop"},
		{"shop of two labels", []string{"shop=a." + shop}, parameter, "shop"},
		{"two shops in one", []string{"shop=" + shop + "%2Cevil.myshopify.com"}, parameter, "shop"},
		{"shop and a line break", []string{"shop=" + shop + "%0A"}, parameter, "shop"},
		{"shop and a null", []string{"shop=" + shop + "%00"}, parameter, "shop"},
		{"shop in other letters", []string{"shop=f%C4%B1xture-shop.myshopify.com"}, parameter, "shop"},
		{"shop of 64 letters", []string{"shop=" + strings.Repeat("a", 64) + ".myshopify.com"}, parameter, "shop"},
		{"shop only with another case", []string{"-shop", "+Shop=" + shop}, parameter, "shop"},
		{"shop as a list", []string{"-shop", "+shop[]=" + shop}, parameter, "shop"},

		{"id with a plus", []string{"logged_in_customer_id=%2B1"}, parameter, "logged_in_customer_id"},
		{"id with a space", []string{"logged_in_customer_id=+1"}, parameter, "logged_in_customer_id"},
		{"id with a space behind", []string{"logged_in_customer_id=1%20"}, parameter, "logged_in_customer_id"},
		{"negative id", []string{"logged_in_customer_id=-1"}, parameter, "logged_in_customer_id"},
		{"id of 21 digits", []string{"logged_in_customer_id=" + digits[:21]}, parameter, "logged_in_customer_id"},
		{"id and a line break", []string{"logged_in_customer_id=1%0A"}, parameter, "logged_in_customer_id"},
		{"id of other digits", []string{"logged_in_customer_id=%D9%A1%D9%A2"}, parameter, "logged_in_customer_id"},
		{"id of wide digits", []string{"logged_in_customer_id=%EF%BC%91"}, parameter, "logged_in_customer_id"},
		{"two ids in one", []string{"logged_in_customer_id=1%2C2"}, parameter, "logged_in_customer_id"},
		{"id in hex", []string{"logged_in_customer_id=0x1"}, parameter, "logged_in_customer_id"},
		{"id with an exponent", []string{"logged_in_customer_id=1e3"}, parameter, "logged_in_customer_id"},
		{"global id", []string{"logged_in_customer_id=gid%3A%2F%2Fshopify%2FCustomer%2F1"}, parameter, "logged_in_customer_id"},

		{"no prefix", []string{"-path_prefix"}, parameter, "path_prefix"},
		{"empty prefix", []string{"path_prefix="}, parameter, "path_prefix"},
		{"relative prefix", []string{"path_prefix=apps%2Fx"}, parameter, "path_prefix"},
		{"prefix of another host", []string{"path_prefix=%2F%2Fevil.example"}, parameter, "path_prefix"},
		{"prefix of another host without dots", []string{"path_prefix=%2F%2Fevil"}, parameter, "path_prefix"},
		{"absolute prefix", []string{"path_prefix=https%3A%2F%2Fevil.example"}, parameter, "path_prefix"},
		{"prefix that is the root", []string{"path_prefix=%2F"}, parameter, "path_prefix"},
		{"prefix with a slash behind", []string{"path_prefix=%2Fapps%2Fx%2F"}, parameter, "path_prefix"},
		{"prefix with a slash too many", []string{"path_prefix=%2Fapps%2F%2Fx"}, parameter, "path_prefix"},
		{"prefix with dots", []string{"path_prefix=%2Fapps%2F.."}, parameter, "path_prefix"},
		{"prefix with dots within", []string{"path_prefix=%2Fapps%2F..%2Fx"}, parameter, "path_prefix"},
		{"prefix with a backslash", []string{"path_prefix=%2F%5Cevil"}, parameter, "path_prefix"},
		{"prefix with a query", []string{"path_prefix=%2Fapps%2Fx%3Fa"}, parameter, "path_prefix"},
		{"prefix with a fragment", []string{"path_prefix=%2Fapps%2Fx%23a"}, parameter, "path_prefix"},
		{"prefix escaped twice", []string{"path_prefix=%252Fapps%252Fx"}, parameter, "path_prefix"},
		{"prefix and a line break", []string{"path_prefix=%2Fapps%2Fx%0A"}, parameter, "path_prefix"},
		{"prefix of five parts", []string{"path_prefix=%2Fa%2Fb%2Fc%2Fd%2Fe"}, parameter, "path_prefix"},
		{"prefix with a long part", []string{"path_prefix=%2F" + strings.Repeat("a", 65)}, parameter, "path_prefix"},

		{"no timestamp", []string{"-timestamp"}, parameter, "timestamp"},
		{"empty timestamp", []string{"timestamp="}, parameter, "timestamp"},
		{"negative timestamp", []string{"timestamp=-1735689600"}, parameter, "timestamp"},
		{"timestamp with a plus", []string{"timestamp=%2B1735689600"}, parameter, "timestamp"},
		{"fractional timestamp", []string{"timestamp=1735689600.0"}, parameter, "timestamp"},
		{"timestamp in milliseconds", []string{"timestamp=1735689600000"}, parameter, "timestamp"},
		{"timestamp not a number", []string{"timestamp=NaN"}, parameter, "timestamp"},
		{"timestamp in words", []string{"timestamp=2025-01-01T00%3A00%3A00Z"}, parameter, "timestamp"},
		{"timestamp with a space", []string{"timestamp=+1735689600"}, parameter, "timestamp"},
		{"timestamp and a line break", []string{"timestamp=1735689600%0A"}, parameter, "timestamp"},
		{"timestamp as a list", []string{"-timestamp", "+timestamp[]=1735689600"}, parameter, "timestamp"},

		{"no signature", []string{"-signature"}, signature, ""},
		{"empty signature", []string{"signature="}, signature, ""},
		{"signature in upper case", []string{"signature=" + strings.ToUpper(trueSignature)}, signature, ""},
		{"signature cut short", []string{"signature=" + trueSignature[:63]}, signature, ""},
		{"signature too long", []string{"signature=" + trueSignature + "0"}, signature, ""},
		{"signature and a line break", []string{"signature=" + trueSignature + "%0A"}, signature, ""},
		{"signature not hex", []string{"signature=" + strings.Repeat("g", 64)}, signature, ""},

		{"timestamp of 1970", []string{"timestamp=0"}, parameter, "timestamp"},
		{"timestamp of 33658", []string{"timestamp=999999999999"}, parameter, "timestamp"},
		{"91 s old", []string{"timestamp=1735689509"}, timestamp, ""},
		{"91 s early", []string{"timestamp=1735689691"}, timestamp, ""},

		{"another's signature", []string{"signature=" + digits[:64]}, signature, ""},
		{"signature of another customer", []string{"logged_in_customer_id=1", "signature=" + trueSignature}, signature, ""},
		{"signature of another shop", []string{"shop=evil.myshopify.com", "signature=" + trueSignature}, signature, ""},
		{"signature of another time", []string{"timestamp=1735689601", "signature=" + trueSignature}, signature, ""},
		{"signature of another prefix", []string{"path_prefix=%2Fapps%2Fx", "signature=" + trueSignature}, signature, ""},
		{"signature of nobody", []string{"-logged_in_customer_id", "signature=" + trueSignature}, signature, ""},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query := forwarded(tt.changes...)
			got, err := v.Verify(query, "subscriptions")
			var refused *shopify.Refused
			if !errors.As(err, &refused) {
				t.Fatalf("Verify(%q) = %v; want a *Refused", query, err)
			}
			if refused.Check != tt.wantCheck || refused.Name != tt.wantName {
				t.Errorf("Verify(%q) refused for %q %q; want %q %q", query, refused.Check, refused.Name, tt.wantCheck, tt.wantName)
			}
			// The error has only the check and the parameter's name, never a value.
			if got, want := err.Error(), strings.TrimSpace("proxy request refused: "+string(tt.wantCheck)+" "+tt.wantName); got != want {
				t.Errorf("error = %q; want %q", got, want)
			}
			if diff := cmp.Diff(shopify.ProxyRequest{}, got); diff != "" {
				t.Errorf("a refused request gave something:\n%s", diff)
			}
		})
	}
}

// TestVerifyAmbiguous covers requests of Shopify's whose text could hold another value of one of its
// parameters. They name neither a shop nor a customer.
func TestVerifyAmbiguous(t *testing.T) {
	tests := []struct {
		name     string
		changes  []string
		wantName string
	}{
		{"two shops", []string{"+shop=evil.myshopify.com"}, "shop"},
		{"shop twice the same", []string{"+shop=" + shop}, "shop"},
		{"shop and its name escaped", []string{"+%73hop=evil.myshopify.com"}, "shop"},
		{"shop and a bare shop", []string{"+shop"}, "shop"},
		{"two customers", []string{"+logged_in_customer_id=1"}, "logged_in_customer_id"},
		{"nobody and a customer", []string{"logged_in_customer_id=", "+logged_in_customer_id=1"}, "logged_in_customer_id"},
		{"nobody twice", []string{"logged_in_customer_id=", "+logged_in_customer_id="}, "logged_in_customer_id"},
		{"two prefixes", []string{"+path_prefix=%2Fapps%2Fx"}, "path_prefix"},
		{"two timestamps", []string{"+timestamp=1735689601"}, "timestamp"},
		{"two signatures", []string{"+signature=0"}, "signature"},
		{"signature and an empty one", []string{"+signature="}, "signature"},
		{"a second customer in a value", []string{"+a=logged_in_customer_id%3D1"}, "logged_in_customer_id"},
		{"a second customer in a name", []string{"+logged_in_customer_id%3D1m=2"}, "logged_in_customer_id"},
		{"a customer where there is none", []string{"-logged_in_customer_id", "+a=logged_in_customer_id%3D1"}, "logged_in_customer_id"},
		{"a second prefix in a value", []string{"+a=path_prefix%3D%2Fx"}, "path_prefix"},
		{"a number behind a comma, before the prefix", []string{"+order=1,2"}, "logged_in_customer_id"},
		{"another number behind a comma, before the prefix", []string{"+page=1,2"}, "logged_in_customer_id"},
		{"nobody behind a comma, before the prefix", []string{"+n=1,&o=2"}, "logged_in_customer_id"},
		{"a number twice, before the prefix", []string{"+ms_returned=1&ms_returned=1"}, "logged_in_customer_id"},
		{"a customer behind a comma, and a name to follow", []string{"+m=1,9mm=2"}, "logged_in_customer_id"},
		{"a customer and a name almost as the prefix's", []string{"+a=logged_in_customer_id=9&path_prefix!=1"}, "logged_in_customer_id"},
		{"a customer with a comma", []string{"+a=logged_in_customer_id=9,"}, "logged_in_customer_id"},
		{"a shop behind a comma", []string{"+t=1,evil.myshopify.com"}, "shop"},
		{"a long shop behind a comma", []string{"+t=1," + strings.Repeat("a", 63) + ".myshopify.com"}, "shop"},
		{"a shop and a name to follow", []string{"+r=shop=evil.myshopify.comt="}, "shop"},
		{"a shop and a name almost as the time's", []string{"+r=shop=evil.myshopify.com&timestamp!=1"}, "shop"},
		{"a shop, whatever follows", []string{"+a=1shop=evil.myshopify.com"}, "shop"},
		{"a time, whatever follows", []string{"+b=timestamp=1735689601"}, "timestamp"},
		{"nobody, whatever follows", []string{"+a_logged_in_customer_id=x"}, "logged_in_customer_id"},
		{"a time at the end", []string{"+z=timestamp=1735689601"}, "timestamp"},
		{"a time behind a comma", []string{"+z=1,1735689601"}, "timestamp"},
		{"a time and a name to follow", []string{"+a=timestamp=1735689601u="}, "timestamp"},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		query := forwarded(append(tt.changes, "+!=fr")...)
		got, err := v.Verify(query, "orders")
		want := &shopify.Refused{Check: shopify.CheckAmbiguous, Name: tt.wantName}
		if values, _ := url.ParseQuery(query); len(values[tt.wantName]) > 1 {
			want.Check = shopify.CheckRepeated
		}
		if err == nil || err.Error() != want.Error() {
			t.Errorf("%s: Verify(%q) = %v; want %v", tt.name, query, err, want)
		}
		if got.Shop != "" || got.Customer != "" {
			t.Errorf("%s: Verify(%q) names shop %q and customer %q; want neither", tt.name, query, got.Shop, got.Customer)
		}
		if got.PathPrefix != prefix && tt.name != "two prefixes" || got.Destination != "orders" || got.Query.Get("!") != "fr" {
			t.Errorf("%s: Verify(%q) = %+v; want the page and the visitor's parameters", tt.name, query, got)
		}
		// The signature comes first, and so does the age.
		if _, err := v.Verify(strings.Replace(query, "&signature=", "&signature=0", 1), ""); !refusedFor(err, shopify.CheckSignature) {
			t.Errorf("%s, not signed: %v; want refused: signature", tt.name, err)
		}
		if _, err := verifier(t, time.Unix(now+200, 0), secret).Verify(query, ""); !refusedFor(err, shopify.CheckTimestamp) {
			t.Errorf("%s, too old: %v; want refused: timestamp", tt.name, err)
		}
	}
}

func TestVerifyAge(t *testing.T) {
	tests := []struct {
		age  time.Duration
		want bool
	}{
		{0, true},
		{90 * time.Second, true},
		{-90 * time.Second, true},
		{90*time.Second + time.Nanosecond, false},
		{-90*time.Second - time.Nanosecond, false},
		{91 * time.Second, false},
		{-91 * time.Second, false},
		{24 * time.Hour, false},
		{-24 * time.Hour, false},
	}
	for _, tt := range tests {
		_, err := verifier(t, time.Unix(now, 0).Add(tt.age), secret).Verify(forwarded(), "")
		if tt.want && err != nil || !tt.want && !refusedFor(err, shopify.CheckTimestamp) {
			t.Errorf("Verify(%v old) = %v; want taken %t", tt.age, err, tt.want)
		}
	}
}

func TestVerifySecrets(t *testing.T) {
	tests := []struct {
		secrets []string
		want    bool
	}{
		{[]string{secret}, true},
		{[]string{"new", secret}, true},
		{[]string{secret, "old"}, true},
		{[]string{"newest", "new", secret}, true},
		{[]string{"other"}, false},
		{[]string{"other", "another"}, false},
		{[]string{secret + " "}, false},
		{[]string{strings.ToUpper(secret)}, false},
	}
	for _, tt := range tests {
		_, err := verifier(t, time.Unix(now, 0), tt.secrets...).Verify(forwarded(), "")
		if tt.want && err != nil || !tt.want && !refusedFor(err, shopify.CheckSignature) {
			t.Errorf("Verify with %q = %v; want taken %t", tt.secrets, err, tt.want)
		}
	}
}

func TestNewVerifierNeedsSecrets(t *testing.T) {
	for _, secrets := range [][]string{nil, {}, {""}, {"", "old"}, {"new", ""}} {
		if v, err := shopify.NewVerifier(secrets, time.Now); err == nil || v != nil {
			t.Errorf("NewVerifier(%q) = %v, %v; want an error", secrets, v, err)
		}
	}
}

func TestVerifyReads(t *testing.T) {
	tests := []struct {
		name    string
		changes []string
		want    shopify.ProxyRequest
	}{
		{"a customer", nil, shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{}}},
		{"nobody", []string{"logged_in_customer_id="},
			shopify.ProxyRequest{Shop: shop, PathPrefix: prefix, Query: url.Values{}}},
		{"nobody, bare", []string{"logged_in_customer_id"},
			shopify.ProxyRequest{Shop: shop, PathPrefix: prefix, Query: url.Values{}}},
		{"no customer at all", []string{"-logged_in_customer_id"},
			shopify.ProxyRequest{Shop: shop, PathPrefix: prefix, Query: url.Values{}}},
		{"id of 20 digits", []string{"logged_in_customer_id=12345678901234567890"},
			shopify.ProxyRequest{Shop: shop, Customer: "12345678901234567890", PathPrefix: prefix, Query: url.Values{}}},
		{"another prefix", []string{"path_prefix=%2Fcommunity%2FMy_abo-2"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: "/community/My_abo-2", Query: url.Values{}}},
		{"prefix under a locale", []string{"path_prefix=%2Ffr-ca%2Fapps%2Fx"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: "/fr-ca/apps/x", Query: url.Values{}}},
		{"prefix with its slashes as they are", []string{"path_prefix=/apps/subscriptions"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{}}},
		{"reserved names escaped", []string{"-shop", "+%73%68%6f%70=" + shop},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{}}},
		{"the browser's own", []string{"+utm_source=mail&utm_campaign=a%2Cb&locale=fr&ref=x"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"utm_source": {"mail"}, "utm_campaign": {"a,b"}, "locale": {"fr"}, "ref": {"x"},
			}}},
		{"repeated", []string{"+ids=1&ids=2&ids[]=3&ids=1"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"ids": {"1", "2", "1"}, "ids[]": {"3"}}}},
		{"other alphabets", []string{"+%C3%BC=%E2%82%AC&bytes=%FF%00"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"ü": {"€"}, "bytes": {"\xff\x00"}}}},
		{"spaces both ways", []string{"+a=1+2&b=1%202&c=1%2B2"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"a": {"1 2"}, "b": {"1 2"}, "c": {"1+2"}}}},
		{"bare and empty", []string{"+bare&empty=&&=nameless&equal==", "+"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"bare": {""}, "empty": {""}, "": {"nameless"}, "equal": {"="},
			}}},
		{"a signature in a value", []string{"+a=signature%3D" + strings.Repeat("0", 64)},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"a": {"signature=" + strings.Repeat("0", 64)}}}},
		{"a signature's name at a name's end", []string{"+url_signature=1"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"url_signature": {"1"}}}},
		{"stray percent signs", []string{"+a=50%&b=%zz%41%4&%=100%25"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"a": {"50%"}, "b": {"%zzA%4"}, "%": {"100%"}}}},
		{"semicolons", []string{"+a=1;b=2&;"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{"a": {"1;b=2"}, ";": {""}}}},
		{"names that end in a reserved one", []string{"+workshop=1&utm_shop=x&click_timestamp=1&my_path_prefix=2"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"workshop": {"1"}, "utm_shop": {"x"}, "click_timestamp": {"1"}, "my_path_prefix": {"2"},
			}}},
		{"a reserved name with what is not a value of Shopify's", []string{"+a=1shop=evil.example&b=timestamp=2025&ref=?shop=x"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"a": {"1shop=evil.example"}, "b": {"timestamp=2025"}, "ref": {"?shop=x"},
			}}},
		{"commas where Shopify's value could not follow", []string{"+note=tea,2m&variant=44012345678901,44012345678902&mtm=spring,summer&ref=1,2&u=1,b.myshopify.com"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"note": {"tea,2m"}, "variant": {"44012345678901,44012345678902"}, "mtm": {"spring,summer"}, "ref": {"1,2"},
				"u": {"1,b.myshopify.com"},
			}}},
		{"names that only look reserved", []string{"+shops=1&Shop=2&shop[]=3&shop2=4&timestamps=5&signatures=6&path_prefix.x=7"},
			shopify.ProxyRequest{Shop: shop, Customer: customer, PathPrefix: prefix, Query: url.Values{
				"shops": {"1"}, "Shop": {"2"}, "shop[]": {"3"}, "shop2": {"4"}, "timestamps": {"5"}, "signatures": {"6"}, "path_prefix.x": {"7"},
			}}},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query := forwarded(tt.changes...)
			got, err := v.Verify(query, "")
			if err != nil {
				t.Fatalf("Verify(%q) = %v; want it taken", query, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Verify(%q): -want +got\n%s", query, diff)
			}
		})
	}
}

func TestVerifyTakesAnyOrder(t *testing.T) {
	pairs := strings.Split(forwarded("+a=1&b=2"), "&")
	for i := range pairs {
		query := strings.Join(slices.Concat(pairs[i:], pairs[:i]), "&")
		if _, err := verifier(t, time.Unix(now, 0), secret).Verify(query, ""); err != nil {
			t.Errorf("Verify(%q) = %v; want it taken", query, err)
		}
	}
}

func TestVerifyDestination(t *testing.T) {
	long := strings.Repeat("a", 100)
	tests := []struct{ path, want string }{
		{"", ""},
		{"/", ""},
		{"///", ""},
		{"subscriptions", "subscriptions"},
		{"/subscriptions", "subscriptions"},
		{"subscriptions/", "subscriptions"},
		{"//subscriptions//", "subscriptions"},
		{"payment-methods", "payment-methods"},
		{"subscriptions/123/cancel/", "subscriptions/123/cancel"},
		{"subscriptions//123", ""},
		{"Subscriptions", ""},
		{"..", ""},
		{"subscriptions/../x", ""},
		{"subscriptions/./x", ""},
		{"a b", ""},
		{"a%2Fb", ""},
		{"a?b=c", ""},
		{"a#b", ""},
		{`a\b`, ""},
		{"a:b", ""},
		{"a_b", ""},
		{"é", ""},
		{"a\n", ""},
		{"a\x00", ""},
		{"a\xff", ""},
		{long, long},
		{"/" + long + "/", long},
		{long + "a", ""},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		got, err := v.Verify(forwarded(), tt.path)
		if err != nil || got.Destination != tt.want {
			t.Errorf("Verify(…, %q).Destination = %q, %v; want %q", tt.path, got.Destination, err, tt.want)
		}
	}
}
