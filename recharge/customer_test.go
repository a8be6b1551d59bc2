package recharge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// record is one customer of a page. The JSON texts are inserted unchanged.
func record(id, hash, external, active string) string {
	return fmt.Sprintf(`{"id":%s,"hash":%s,"external_customer_id":%s,"subscriptions_active_count":%s}`, id, hash, external, active)
}

func pageOf(records ...string) string {
	return `{"next_cursor":null,"previous_cursor":null,"customers":[` + strings.Join(records, ",") + `]}`
}

const (
	own     = `{"ecommerce":"6100200300400"}`
	another = `{"ecommerce":"6999999999999"}`
)

func TestFindCustomerInFixtures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fixture string
		want    recharge.Customer
		reason  recharge.Reason
	}{
		{"customers_one_match_2021_11", pat(), ""},
		{"customers_empty_2021_11", recharge.Customer{}, recharge.NoCustomer},
		{"customers_filter_ignored_TRAP", recharge.Customer{}, recharge.FilterIgnored},
		{"customers_two_matches_AMBIGUOUS", recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811", Active: 1}, ""},
		// The older version puts the Shopify id elsewhere. We asked for 2021-11, so its records
		// name nobody we can compare.
		{"customers_2021_01", recharge.Customer{}, recharge.FilterIgnored},
		{"customer_single_2021_11_hash_30hex", recharge.Customer{}, recharge.Malformed},
	}
	for _, test := range tests {
		t.Run(test.fixture, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(fixture(t, test.fixture)))
			found, err := lookUp(t.Context(), newClient(t, srv.URL), shopifyID)
			got := found.Customer
			checkReason(t, "FindCustomer", err, test.reason)
			if got != test.want {
				t.Errorf("FindCustomer = %+v; want %+v", got, test.want)
			}
		})
	}
}

func TestFindCustomer(t *testing.T) {
	t.Parallel()
	quoted := strconv.Quote
	mine := func(id, hash string) string { return pageOf(record(id, hash, own, "1")) }
	named := func(external string) string { return pageOf(record("70100200", quoted(hash), external, "1")) }
	two := func(a, b string) string {
		return pageOf(record("70100200", quoted(hash), own, a), record("70100333", `"2e3d4c5b6a798811"`, own, b))
	}
	second := recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811"}
	withActive := func(c recharge.Customer, n int) recharge.Customer { c.Active = n; return c }
	withHash := func(h string) recharge.Customer { return recharge.Customer{ID: rechargeID, Hash: h, Active: 1} }
	none := recharge.Customer{}

	tests := []struct {
		name   string
		body   string
		want   recharge.Customer
		reason recharge.Reason
	}{
		// Several records of one Shopify customer: none is guessed.
		{"two, the second active", two("0", "1"), withActive(second, 1), ""},
		{"two, the first active", two("3", "0"), withActive(pat(), 3), ""},
		{"two, both active", two("1", "1"), none, recharge.Ambiguous},
		{"two, none active", two("0", "0"), none, recharge.Ambiguous},
		{"two, activity not told", two("null", "null"), none, recharge.Ambiguous},
		{"the same twice", pageOf(record("70100200", quoted(hash), own, "1"), record("70100200", quoted(hash), own, "1")), pat(), ""},
		{"the same twice, beside another", pageOf(record("70100200", quoted(hash), own, "1"), record("70100333", `"b"`, own, "0"), record("70100200", quoted(hash), own, "1")), pat(), ""},
		{"the same twice, none active", pageOf(record("70100200", quoted(hash), own, "0"), record("70100200", quoted(hash), own, "0")), withActive(pat(), 0), ""},
		{
			"three, one active",
			pageOf(record("1", `"a"`, own, "0"), record("2", `"b"`, own, "2"), record("3", `"c"`, own, "0")),
			recharge.Customer{ID: 2, Hash: "b", Active: 2}, "",
		},
		{
			"three, two active",
			pageOf(record("1", `"a"`, own, "1"), record("2", `"b"`, own, "2"), record("3", `"c"`, own, "0")),
			none, recharge.Ambiguous,
		},

		// Other people's records never count, even if they share everything else.
		{
			"someone else's record with the right e-mail",
			`{"customers":[{"id":70999001,"email":"pat@example.test","external_customer_id":{"ecommerce":"6999999999999"},"hash":"aaaabbbbccccdddd","subscriptions_active_count":1}]}`,
			none, recharge.FilterIgnored,
		},
		{
			"someone else's record whose Recharge id is the Shopify id asked for",
			pageOf(record(shopifyID, `"aaaabbbbccccdddd"`, another, "1")),
			none, recharge.FilterIgnored,
		},
		{
			"own record among others, which are active",
			pageOf(record("70999001", `"aaaabbbbccccdddd"`, another, "2"), record("70100200", quoted(hash), own, "0"), record("70999002", `"eeee"`, `{"ecommerce":null}`, "1")),
			withActive(pat(), 0), "",
		},
		{
			"own record beside a broken one of another",
			pageOf(record("70999001", `"../../x"`, another, "2"), record("70100200", quoted(hash), own, "1")),
			pat(), "",
		},

		// The external id, in all forms that it might take.
		{"external id as number", named(`{"ecommerce":6100200300400}`), pat(), ""},
		{"external id null", named(`{"ecommerce":null}`), none, recharge.FilterIgnored},
		{"external id missing", named(`{}`), none, recharge.FilterIgnored},
		{"external ids null", named(`null`), none, recharge.FilterIgnored},
		{"external ids missing", `{"customers":[{"id":70100200,"hash":"1f2e3d4c5b6a7988"}]}`, none, recharge.FilterIgnored},
		{"external id empty", named(`{"ecommerce":""}`), none, recharge.FilterIgnored},
		{"external id with a blank", named(`{"ecommerce":" 6100200300400"}`), none, recharge.FilterIgnored},
		{"external id with a leading zero", named(`{"ecommerce":"06100200300400"}`), none, recharge.FilterIgnored},
		{"external id longer", named(`{"ecommerce":"61002003004001"}`), none, recharge.FilterIgnored},
		{"external id as fraction", named(`{"ecommerce":6100200300400.0}`), none, recharge.FilterIgnored},
		{"external id with exponent", named(`{"ecommerce":6.1002003004e12}`), none, recharge.FilterIgnored},
		{"external id true", named(`{"ecommerce":true}`), none, recharge.Malformed},
		{"external id a list", named(`{"ecommerce":["6100200300400"]}`), none, recharge.Malformed},
		{"external ids a list", named(`[{"ecommerce":"6100200300400"}]`), none, recharge.Malformed},
		{"external id under another platform", named(`{"bigcommerce":"6100200300400"}`), none, recharge.FilterIgnored},

		// The hash becomes a path segment.
		{"hash of 30 hex", mine("70100200", `"0a1b2c3d4e5f60718293a4b5c6d7e8"`), withHash("0a1b2c3d4e5f60718293a4b5c6d7e8"), ""},
		{"hash that begins with the id", mine("70100200", `"70100200a1b2c3d4e5f60718"`), withHash("70100200a1b2c3d4e5f60718"), ""},
		{"hash with - and _", mine("70100200", `"aB-_9"`), withHash("aB-_9"), ""},
		{"hash of 128", mine("70100200", quoted(strings.Repeat("a", 128))), withHash(strings.Repeat("a", 128)), ""},
		{"hash of 129", mine("70100200", quoted(strings.Repeat("a", 129))), none, recharge.Malformed},
		{"hash empty", mine("70100200", `""`), none, recharge.Malformed},
		{"hash null", mine("70100200", `null`), none, recharge.Malformed},
		{"hash a number", mine("70100200", `12345678`), none, recharge.Malformed},
		{"hash climbing", mine("70100200", `"../x"`), none, recharge.Malformed},
		{"hash with a slash", mine("70100200", `"a/b"`), none, recharge.Malformed},
		{"hash a dot", mine("70100200", `"."`), none, recharge.Malformed},
		{"hash two dots", mine("70100200", `".."`), none, recharge.Malformed},
		{"hash with an escaped slash", mine("70100200", `"a%2fb"`), none, recharge.Malformed},
		{"hash with a blank", mine("70100200", `"a b"`), none, recharge.Malformed},
		{"hash with a query", mine("70100200", `"a?b"`), none, recharge.Malformed},
		{"hash with a fragment", mine("70100200", `"a#b"`), none, recharge.Malformed},
		{"hash with a newline at its end", mine("70100200", `"abc\n"`), none, recharge.Malformed},
		{"hash not ASCII", mine("70100200", `"\u0430bc"`), none, recharge.Malformed},

		// Recharge's own id.
		{"id as string", mine(`"70100200"`, quoted(hash)), pat(), ""},
		{"id of 64 bits", mine("9223372036854775807", quoted(hash)), recharge.Customer{ID: 1<<63 - 1, Hash: hash, Active: 1}, ""},
		{"id of more than 64 bits", mine("9223372036854775808", quoted(hash)), none, recharge.Malformed},
		{"id zero", mine("0", quoted(hash)), none, recharge.Malformed},
		{"id negative", mine("-70100200", quoted(hash)), none, recharge.Malformed},
		{"id null", mine("null", quoted(hash)), none, recharge.Malformed},
		{"id empty", mine(`""`, quoted(hash)), none, recharge.Malformed},
		{"id no number", mine(`"../1"`, quoted(hash)), none, recharge.Malformed},
		{"id a fraction", mine("70100200.5", quoted(hash)), none, recharge.Malformed},

		// Answers that are not a page.
		{"no customers", `{}`, none, recharge.Malformed},
		{"customers null", `{"customers":null}`, none, recharge.Malformed},
		{"null", `null`, none, recharge.Malformed},
		{"a record null", `{"customers":[null]}`, none, recharge.FilterIgnored},
		{"a record a list", `{"customers":[[]]}`, none, recharge.Malformed},
		{"text after the page", pageOf(record("70100200", quoted(hash), own, "1")) + `{}`, none, recharge.Malformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := newScript(t, says(test.body))
			found, err := lookUp(t.Context(), newClient(t, srv.URL), shopifyID)
			got := found.Customer
			checkReason(t, "FindCustomer", err, test.reason)
			if got != test.want {
				t.Errorf("FindCustomer(%s) = %+v; want %+v", test.body, got, test.want)
			}
		})
	}
}

// TestRetryStartsAfresh: values from a first, unreadable answer must not complete the records of
// the second. Here the second page's record names nobody, and the first page's record at the same
// place named the shopper.
func TestRetryStartsAfresh(t *testing.T) {
	t.Parallel()
	// A count sent as text has the wrong type, so this page is refused and the call retried.
	unreadable := edited(t, "customers_two_matches_AMBIGUOUS", `"subscriptions_active_count":1`, `"subscriptions_active_count":"1"`)
	srv := newScript(t, says(unreadable), says(fixture(t, "customers_filter_ignored_TRAP")))
	found, err := lookUp(t.Context(), newClient(t, srv.URL), shopifyID)
	got := found.Customer
	checkReason(t, "FindCustomer", err, recharge.FilterIgnored)
	if got != (recharge.Customer{}) {
		t.Errorf("FindCustomer = %+v, a customer of nobody's; want none", got)
	}
	if n := len(srv.requests()); n != 2 {
		t.Errorf("%d calls; want 2", n)
	}
}

// TestRecordsDoNotMix: encoding/json decodes a repeated key into the same slice, whose elements
// keep their old values.
func TestRecordsDoNotMix(t *testing.T) {
	t.Parallel()
	body := `{"customers":[` + record("70100200", strconv.Quote(hash), own, "1") + `],` +
		`"customers":[{"id":70999001,"hash":"aaaabbbbccccdddd"}]}`
	srv := newScript(t, says(body))
	found, err := lookUp(t.Context(), newClient(t, srv.URL), shopifyID)
	got := found.Customer
	checkSilent(t, "FindCustomer", err)
	if err == nil && got.ID != rechargeID {
		t.Errorf("FindCustomer(%s) = %+v, a record that names nobody", body, got)
	}
}

func TestFindCustomerAtAnEmulatedRecharge(t *testing.T) {
	t.Parallel()
	customer := func(id int64, hash, shopifyID string, subscriptions int) rechargetest.Customer {
		return rechargetest.Customer{
			ID: id, Hash: hash, ShopifyCustomerID: shopifyID,
			Subscriptions: make([]rechargetest.Subscription, subscriptions),
		}
	}
	srv := rechargetest.NewServer(rechargetest.Options{
		Shop:   shop,
		Tokens: []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers"}}},
		Customers: []rechargetest.Customer{
			customer(70999001, "aaaabbbbccccdddd", "6999999999999", 1),
			customer(70999002, "70999002eeeeffff00001111", "", 1),
			customer(rechargeID, hash, shopifyID, 1),
			customer(11, "h11", "611", 0), customer(12, "h12", "611", 2),
			customer(21, "h21", "622", 1), customer(22, "h22", "622", 1),
		},
	})
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)

	for _, ignored := range []bool{false, true} {
		srv.SetFaults(func(f *rechargetest.Faults) { f.IgnoreFilter = ignored })
		tests := []struct {
			shopifyID string
			want      recharge.Customer
			reason    recharge.Reason
		}{
			{shopifyID, pat(), ""},
			{"611", recharge.Customer{ID: 12, Hash: "h12", Active: 2}, ""},
			{"622", recharge.Customer{}, recharge.Ambiguous},
			{"6000000000000", recharge.Customer{}, map[bool]recharge.Reason{false: recharge.NoCustomer, true: recharge.FilterIgnored}[ignored]},
		}
		for _, test := range tests {
			what := fmt.Sprintf("with the filter ignored = %v, FindCustomer(%q)", ignored, test.shopifyID)
			found, err := lookUp(t.Context(), c, test.shopifyID)
			got := found.Customer
			checkReason(t, what, err, test.reason)
			if got != test.want {
				t.Errorf("%s = %+v; want %+v", what, got, test.want)
			}
			if alert := recharge.Is(found.Alert, recharge.FilterIgnored); err == nil && alert != ignored {
				t.Errorf("%s: alert %v; want %v", what, alert, ignored)
			}
		}
	}
}

func TestFindCustomerAsks(t *testing.T) {
	t.Parallel()
	srv := newScript(t, says(fixture(t, "customers_one_match_2021_11")))
	// The storefront token is for sessions only.
	c := newClient(t, srv.URL, func(o *recharge.Options) { o.StorefrontToken = storefrontToken })
	_, err := lookUp(t.Context(), c, shopifyID)
	checkReason(t, "FindCustomer", err, "")
	calls := srv.requests()
	if len(calls) != 1 {
		t.Fatalf("%d calls; want 1", len(calls))
	}
	got := calls[0]
	if got.method != http.MethodGet || got.path != "/customers" || got.body != "" {
		t.Errorf("asked %s %s with body %q; want GET /customers with none", got.method, got.path, got.body)
	}
	query, err := url.ParseQuery(got.query)
	if want := (url.Values{"external_customer_id": {shopifyID}, "limit": {"10"}}); err != nil || !cmp.Equal(query, want) {
		t.Errorf("query = %v, %v; want %v", query, err, want)
	}
	for name, want := range map[string][]string{
		"X-Recharge-Access-Token":            {adminToken},
		"X-Recharge-Version":                 {"2021-11"},
		"Accept":                             {"application/json"},
		"Content-Type":                       nil,
		"X-Recharge-Storefront-Access-Token": nil,
	} {
		if !cmp.Equal(got.header.Values(name), want) {
			t.Errorf("header %s = %q; want %q", name, got.header.Values(name), want)
		}
	}
}

// TestShopifyIDStaysInItsParameter: the signature is checked elsewhere, but here, too, the id must
// not be able to change the request.
func TestShopifyIDStaysInItsParameter(t *testing.T) {
	t.Parallel()
	srv := newScript(t, says(fixture(t, "customers_filter_ignored_TRAP")))
	c := newClient(t, srv.URL)
	ids := []string{
		"6100200300400&limit=250", "6100200300400&external_customer_id=6999999999999", "../customers/1", "?x=1", "#x", "%26", "%", "1;2",
		"a b+c", "é", "\x00", "1\r\nHost: evil.example", "\xff", "null", "0",
	}
	for _, id := range ids {
		_, err := lookUp(t.Context(), c, id)
		checkReason(t, fmt.Sprintf("FindCustomer(%q)", id), err, recharge.FilterIgnored)
		calls := srv.requests()
		got := calls[len(calls)-1]
		query, err := url.ParseQuery(got.query)
		if want := (url.Values{"external_customer_id": {id}, "limit": {"10"}}); err != nil || got.path != "/customers" || !cmp.Equal(query, want) {
			t.Errorf("FindCustomer(%q) asked %s?%s; want /customers with %v", id, got.path, got.query, want)
		}
	}
	if n := len(srv.requests()); n != len(ids) {
		t.Errorf("%d calls; want %d", n, len(ids))
	}
}

// TestNobodyIsNotLookedUp: Recharge would ignore an empty filter.
func TestNobodyIsNotLookedUp(t *testing.T) {
	t.Parallel()
	srv := newScript(t, says(fixture(t, "customers_one_match_2021_11")))
	_, err := lookUp(t.Context(), newClient(t, srv.URL), "")
	checkReason(t, `FindCustomer("")`, err, recharge.NoCustomer)
	if n := len(srv.requests()); n != 0 {
		t.Errorf(`FindCustomer("") made %d calls; want 0`, n)
	}
}

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzCustomers uses any two bodies as the answers to the lookup and its retry. A customer must
// come from one record of the body read last, and that record itself must name the requested id.
func FuzzCustomers(f *testing.F) {
	for _, name := range []string{
		"customers_one_match_2021_11", "customers_empty_2021_11", "customers_filter_ignored_TRAP",
		"customers_two_matches_AMBIGUOUS", "customer_single_2021_11_hash_30hex", "customers_2021_01", "error_404",
	} {
		f.Add(fixture(f, name), "")
		f.Add("", fixture(f, name))
	}
	f.Add(pageOf(record(`"70100200"`, `"a"`, `{"ecommerce":6100200300400}`, "null")), `{"customers":[null]}`)
	// Answers and lists that could leave something behind for the next one.
	f.Add(pageOf(record("1", `"a"`, own, `"1"`)), pageOf(`{"id":2,"hash":"b"}`))
	f.Add(`{"customers":[`+record("1", `"a"`, own, "1")+`],"customers":[{"id":2,"hash":"b"}]}`, "")
	f.Fuzz(func(t *testing.T, first, second string) {
		synctest.Test(t, func(t *testing.T) {
			answers, calls := []string{first, second}, 0
			c := newClient(t, pipesURL)
			c.AnswerBy(roundTrip(func(r *http.Request) (*http.Response, error) {
				body := answers[calls]
				calls++
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			}))
			found, err := lookUp(t.Context(), c, shopifyID)
			got := found.Customer
			if err != nil {
				checkSilent(t, "FindCustomer", err)
				if got != (recharge.Customer{}) {
					t.Errorf("FindCustomer = %+v, %v; want no customer beside an error", got, err)
				}
				return
			}
			if body := answers[calls-1]; !holds(body, got, shopifyID) {
				t.Errorf("FindCustomer = %+v, which no record in %q says of %s", got, body, shopifyID)
			}
		})
	})
}

// holds reads the body a second time, naively: it keeps repeated keys and looks for one record that
// holds everything.
func holds(body string, c recharge.Customer, shopifyID string) bool {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	document, err := readValue(decoder)
	if err != nil {
		return false
	}
	for _, list := range values(document, "customers") {
		records, _ := list.([]any)
		for _, record := range records {
			if said(values(record, "id"), strconv.FormatInt(c.ID, 10)) && said(values(record, "hash"), c.Hash) && names(record, shopifyID) {
				return true
			}
		}
	}
	return false
}

func names(record any, shopifyID string) bool {
	for _, external := range values(record, "external_customer_id") {
		if said(values(external, "ecommerce"), shopifyID) {
			return true
		}
	}
	return false
}

// said reports whether one of the values reads as text. Numbers are also compared as integers,
// because an id in a string may have leading zeros.
func said(list []any, text string) bool {
	for _, value := range list {
		written := fmt.Sprint(value)
		if written == text {
			return true
		}
		if a, err := strconv.ParseInt(written, 10, 64); err == nil && strconv.FormatInt(a, 10) == text {
			return true
		}
	}
	return false
}

type member struct {
	key   string
	value any
}

// values returns an object's values under a key. It ignores case, as encoding/json does.
func values(object any, key string) []any {
	members, _ := object.([]member)
	var list []any
	for _, m := range members {
		if strings.EqualFold(m.key, key) {
			list = append(list, m.value)
		}
	}
	return list
}

func readValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := []member{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := readValue(d)
			if err != nil {
				return nil, err
			}
			object = append(object, member{key.(string), value})
		}
		_, err := d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, err := readValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := d.Token()
		return list, err
	}
	return token, nil
}
