package shopify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// A signed query's text has no delimiters. These tests split it in another way, keep its signature,
// and look for a split whose meaning differs from what Shopify signed.

// param is a decoded parameter.
type param struct{ name, value string }

// click is a query as Shopify forwards it. Shopify does not document what becomes of a reserved name
// that the browser sends: it may be dropped, or stand before or behind Shopify's own. Nor does it say
// whether it sorts by names or by whole pairs; its example sorts pairs.
type click struct {
	shop, customer, prefix, timestamp string
	browser                           []param
	behind                            bool // the browser's parameters stand behind Shopify's
	byName                            bool
}

func (c click) params() []param {
	own := []param{
		{"shop", c.shop}, {"logged_in_customer_id", c.customer}, {"path_prefix", c.prefix}, {"timestamp", c.timestamp},
	}
	if c.behind {
		return append(own, c.browser...)
	}
	return append(slices.Clone(c.browser), own...)
}

// text returns the text that Shopify signs, and its pairs.
func (c click) text() (string, []string) {
	values := map[string][]string{}
	for _, p := range c.params() {
		values[p.name] = append(values[p.name], p.value)
	}
	delete(values, "signature")
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		pairs = append(pairs, name+"="+strings.Join(values[name], ","))
	}
	if !c.byName {
		slices.Sort(pairs)
	}
	return strings.Join(pairs, ""), pairs
}

// signature returns Shopify's signature of the click.
func (c click) signature() string {
	text, _ := c.text()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// encode makes a raw query. escape encodes a name or a value.
func encode(params []param, escape func(string) string) string {
	var pairs []string
	for _, p := range params {
		pairs = append(pairs, escape(p.name)+"="+escape(p.value))
	}
	return strings.Join(pairs, "&")
}

func escapeAll(s string) string {
	var out strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&out, "%%%02x", s[i])
	}
	return out.String()
}

// run returns the signed text from Shopify's prefix to the next "=", which is how far the prefix could
// extend.
func run(signed string) string {
	_, behind, _ := strings.Cut(signed, "path_prefix=/")
	run, _, _ := strings.Cut(behind, "=")
	return "/" + run
}

// otherThan returns how a verified re-split of the click differs from what Shopify signed, or "".
// Shop, customer and timestamp must be the same. The prefix may end elsewhere, but only before the
// next "=", and only if one of the browser's own parameters is sorted directly after it.
func (c click) otherThan(params []param, got shopify.ProxyRequest) string {
	i := slices.IndexFunc(params, func(p param) bool { return p.name == "timestamp" })
	switch {
	case string(got.Shop) != c.shop:
		return "shop " + string(got.Shop)
	case string(got.Customer) != c.customer:
		return "customer " + string(got.Customer)
	case i < 0 || params[i].value != c.timestamp:
		return "timestamp"
	case got.PathPrefix == c.prefix:
		return ""
	}
	if slices.ContainsFunc(c.browser, func(p param) bool { return p.name == "path_prefix" }) {
		return "" // the visitor may choose a path of the same store
	}
	signed, pairs := c.text()
	behind := pairs[slices.Index(pairs, "path_prefix="+c.prefix)+1]
	if behind == "shop="+c.shop || !strings.HasPrefix(run(signed), got.PathPrefix) {
		return "path_prefix " + got.PathPrefix
	}
	return ""
}

// dangerous reports whether a re-split reads as another click, because a value is missing or not the
// true one. Then only the check of the text stops it.
func (c click) dangerous(params []param) bool {
	values := map[string][]string{}
	for _, p := range params {
		values[p.name] = append(values[p.name], p.value)
	}
	truth := map[string]string{"shop": c.shop, "logged_in_customer_id": c.customer, "timestamp": c.timestamp}
	for name, value := range truth {
		if len(values[name]) == 1 && values[name][0] != value {
			return true
		}
	}
	return len(values["logged_in_customer_id"]) == 0
}

func clicks() *rapid.Generator[click] {
	pieces := []string{
		"=", "=", "&", ",", "0", "1", "42", "a", "l", "m", "p", "q", "r", "s", "t", "u", "z", "é", " ", "%", "/", "-", "!", "=1",
		".myshopify.com", "evil.myshopify.com", "/apps/x", "//evil.example",
	}
	names := []string{
		"shop", "shop=", "s", "hop=", "logged_in_customer_id", "logged_in_customer_id=", "_id=", "path_prefix",
		"path_prefix=", "path_prefix!", "timestamp", "timestamp=", "timestamp!", "stamp=", "shop2", "signature", "signature=",
	}
	// Texts that an attacker would put after something harmless, and beginnings of a parameter that
	// swallows the true one.
	attacks := []string{
		"logged_in_customer_id=999m=", "logged_in_customer_id=m=", "shop=evil.myshopify.comt=",
		"timestamp=1735689660u=", "timestamp=1735689660", "path_prefix=/apps/xr=",
		"path_prefix=/apps/evilq=logged_in_customer_id=", "shop=evil.myshopify.comt=1735689600",
		"999m=", "999mm=1,", "evil.myshopify.comt=", "1735689660u=", ",999", ",evil.myshopify.com", ",1735689660", ",",
	}
	ordinary := rapid.SampledFrom([]string{"a", "ids", "m", "q", "ref", "r", "t", "z"})
	join := func(tokens []string, least, most int) *rapid.Generator[string] {
		parts := rapid.SliceOfN(rapid.SampledFrom(tokens), least, most)
		return rapid.Map(parts, func(parts []string) string { return strings.Join(parts, "") })
	}
	tokens := slices.Concat(pieces, names)
	attack := rapid.Custom(func(t *rapid.T) string {
		return join(tokens, 0, 2).Draw(t, "before") + rapid.SampledFrom(attacks).Draw(t, "attack") + join(tokens, 0, 2).Draw(t, "behind")
	})
	return rapid.Custom(func(t *rapid.T) click {
		c := click{
			shop:      rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,6}`).Draw(t, "shop") + ".myshopify.com",
			customer:  rapid.StringMatching(`[0-9]{0,20}`).Draw(t, "customer"),
			prefix:    rapid.StringMatching(`(/[A-Za-z0-9_-]{1,5}){1,4}`).Draw(t, "prefix"),
			timestamp: fmt.Sprint(now + rapid.Int64Range(-90, 90).Draw(t, "age")),
		}
		// Only a click without a reserved name in it has a re-split that verifies.
		name, value := rapid.OneOf(join(pieces, 0, 3), ordinary), join(pieces, 0, 5)
		if rapid.Bool().Draw(t, "hostile") {
			name, value = rapid.OneOf(join(tokens, 0, 3), ordinary), rapid.OneOf(join(tokens, 0, 5), attack)
		}
		for range rapid.IntRange(0, 4).Draw(t, "of the browser") {
			c.browser = append(c.browser, param{name.Draw(t, "name"), value.Draw(t, "value")})
		}
		reserved := []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature"}
		switch rapid.SampledFrom([]string{"dropped", "dropped", "before", "behind"}).Draw(t, "reserved names of the browser") {
		case "dropped":
			c.browser = slices.DeleteFunc(c.browser, func(p param) bool { return slices.Contains(reserved, p.name) })
		case "behind":
			c.behind = true
		}
		c.byName = rapid.IntRange(0, 3).Draw(t, "sorted by names") == 0
		return c
	})
}

// splitter splits a signed text in another way, at random.
type splitter struct {
	*rand.Rand
	budget int // steps that one split may take
}

// split cuts text into sorted pairs that each contain "=", since only those join to the same text
// again. It returns nil if it finds none.
func (s *splitter) split(text, before string, cuts []int, at int) []string {
	s.budget--
	if s.budget < 0 {
		return nil
	}
	for _, cut := range cuts {
		if cut <= at {
			continue
		}
		pair, behind := text[at:cut], text[cut:]
		switch {
		case !strings.Contains(pair, "=") || pair < before:
		case behind == "":
			return []string{pair}
		case behind >= pair && strings.Contains(behind, "="):
			if pairs := s.split(text, pair, cuts, cut); pairs != nil {
				return append([]string{pair}, pairs...)
			}
		}
	}
	return nil
}

// cuts returns places to cut at: some of the true ones, some that an attacker would like, and some
// others. Leaving out a true one merges two neighbours, adding one splits a pair, and both together
// move a boundary.
func (s *splitter) cuts(text string, pairs []string) []int {
	cuts := []int{len(text)}
	often := 1 + s.IntN(6) // few cuts merge many pairs, many cuts make many pieces
	sometimes := func(at int) {
		if at > 0 && at < len(text) && s.IntN(7) < often {
			cuts = append(cuts, at)
		}
	}
	all, at := s.IntN(2) == 0, 0
	for _, pair := range pairs {
		at += len(pair)
		if all {
			cuts = append(cuts, at)
		}
		sometimes(at)
	}
	for _, name := range []string{"shop=", "logged_in_customer_id=", "path_prefix=", "timestamp=", "signature="} {
		for i := range text {
			if strings.HasPrefix(text[i:], name) {
				sometimes(i)
			}
		}
	}
	for i := range text {
		if text[i] == '=' { // a name of one letter begins before it
			sometimes(i - 1)
		}
	}
	for range s.IntN(6) {
		sometimes(s.IntN(len(text)))
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// params reads pairs as parameters. A name may contain "=" (which renames it), and a value with
// commas may be several.
func (s *splitter) params(pairs []string) []param {
	var params []param
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		for s.IntN(8) == 0 && strings.Contains(value, "=") {
			more, rest, _ := strings.Cut(value, "=")
			name, value = name+"="+more, rest
		}
		for s.IntN(2) == 0 && strings.Contains(value, ",") {
			first, rest, _ := strings.Cut(value, ",")
			params = append(params, param{name, first})
			value = rest
		}
		params = append(params, param{name, value})
	}
	return params
}

func (s *splitter) escape() func(string) string {
	return []func(string) string{url.QueryEscape, escapeAll}[s.IntN(2)]
}

// TestNoResplitVerifies tests the property that makes the missing delimiters harmless. It counts
// its attempts, so that it cannot pass by trying nothing.
func TestNoResplitVerifies(t *testing.T) {
	var checks, resplits, taken, dangerous int
	v := verifier(t, time.Unix(now, 0), secret)
	rapid.Check(t, func(t *rapid.T) {
		checks++
		c := clicks().Draw(t, "click")
		s := &splitter{Rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
		trueQuery := encode(c.params(), url.QueryEscape)
		signature := c.signature()
		trueText, truePairs := c.text()
		for range 200 {
			s.budget = 100
			pairs := s.split(trueText, "", s.cuts(trueText, truePairs), 0)
			params := s.params(pairs)
			s.Shuffle(len(params), func(i, j int) {
				// The order of equal names is part of the text.
				if params[i].name != params[j].name && len(pairs) == len(params) {
					params[i], params[j] = params[j], params[i]
				}
			})
			query := encode(params, s.escape())
			if pairs == nil || slices.Equal(pairs, truePairs) || shopifytest.Signature(secret, query) != signature {
				continue // not a re-split, or another text
			}
			resplits++
			query += "&signature=" + signature
			got, err := v.Verify(query, "")
			if err != nil {
				if refusedFor(err, shopify.CheckAmbiguous) && c.dangerous(params) {
					dangerous++
				}
				if refusedFor(err, shopify.CheckSignature) {
					t.Fatalf("Verify(%q) = %v; its text is the one signed", query, err)
				}
				continue
			}
			taken++
			if other := c.otherThan(params, got); other != "" {
				t.Fatalf("signed: %s\nsplit anew: %s\nverifies as another %s", trueQuery, query, other)
			}
		}
	})
	t.Logf("%d checks: %d re-splits of the same text, %d of them verified, %d stopped by their text alone", checks, resplits, taken, dangerous)
	for _, tt := range []struct {
		what      string
		got, want int
	}{
		{"re-splits of the same text", resplits, 20 * checks},
		{"re-splits that verified", taken, checks / 2},
		{"re-splits stopped by their text alone", dangerous, checks / 2},
	} {
		if tt.got < tt.want {
			t.Errorf("%d checks tried %d %s; want at least %d", checks, tt.got, tt.what, tt.want)
		}
	}
}

// TestNoHonestClickIsRefused checks that whatever a visitor adds, a click is accepted, or asked again
// without that.
func TestNoHonestClickIsRefused(t *testing.T) {
	var accepted, again int
	v := verifier(t, time.Unix(now, 0), secret)
	rapid.Check(t, func(t *rapid.T) {
		c := clicks().Draw(t, "click")
		c.byName = false // our reading of the query gives another text
		query := encode(c.params(), url.QueryEscape) + "&signature=" + c.signature()
		got, err := v.Verify(query, "")
		switch {
		case err == nil:
			accepted++
			if string(got.Shop) != c.shop || string(got.Customer) != c.customer {
				t.Fatalf("Verify(%q) = %+v; want %+v", query, got, c)
			}
		case refusedFor(err, shopify.CheckAmbiguous), refusedFor(err, shopify.CheckRepeated):
			again++
			if got.Shop != "" || got.Customer != "" || !isPrefix(got.PathPrefix) {
				t.Fatalf("Verify(%q) = %+v, %v; want only a path", query, got, err)
			}
		default:
			t.Fatalf("Verify(%q) = %v; want it accepted or ambiguous", query, err)
		}
	})
	t.Logf("%d accepted, %d to be asked again", accepted, again)
	if accepted == 0 || again == 0 {
		t.Errorf("%d accepted, %d to be asked again; want some of both", accepted, again)
	}
}

// TestEverySplit tries all splits of some texts, while TestNoResplitVerifies tries some splits of many texts.
func TestEverySplit(t *testing.T) {
	another := param{"a", "logged_in_customer_id=9m="}
	tests := []struct {
		name    string
		browser []param
		with    click // what else is special
	}{
		{"nothing of the browser's", nil, click{}},
		{"another customer", []param{another}, click{}},
		{"another customer, in a name", []param{{"logged_in_customer_id=9m", ""}}, click{}},
		{"another customer, and the true one before a name almost as the prefix's", []param{another, {"path_prefix!", "1"}}, click{}},
		{"another customer, and the true one before a name of the visitor's", []param{{"a", "path_prefix=logged_in_customer_id=9m="}, {"n", "1"}}, click{}},
		{"another customer, and the true one the first of several", []param{another, {"logged_in_customer_id", "x"}}, click{behind: true}},
		{"another customer, and the true one the last of several", []param{another, {"logged_in_customer_id", "x"}}, click{}},
		{"another customer, sorted by names", []param{another, {"logged_in_customer_id2", "1"}}, click{byName: true}},
		{"the last of several, before a name almost as the prefix's", []param{{"logged_in_customer_id", "9m="}, {"path_prefix!", "1"}}, click{}},
		{"the last of several, before a name of the visitor's", []param{{"a", "path_prefix="}, {"logged_in_customer_id", "9m="}, {"n", "1"}}, click{}},
		{"the last of several, sorted by names", []param{{"logged_in_customer_id", "9m="}, {"logged_in_customer_id2", "1"}}, click{byName: true}},
		{"nobody", []param{{"a", "logged_in_customer_id=m="}}, click{}},
		{"another shop", []param{{"r", "shop=b.myshopify.comt="}}, click{}},
		{"another shop, and the true one before a name almost as the time's", []param{{"r", "shop=b.myshopify.comt="}, {"timestamp!", "1"}}, click{}},
		{"another shop, sorted by names", []param{{"r", "shop=b.myshopify.comt="}, {"shop2", "1"}}, click{byName: true}},
		{"another time", []param{{"t", "timestamp=1735689601u="}}, click{}},
		{"another time behind", []param{{"timestamp2", "timestamp=1735689601"}}, click{}},
		{"another time, sorted by names", []param{{"t", "timestamp=1735689601u="}, {"timestamp2", "1"}}, click{byName: true}},
		{"behind the customer", []param{{"m", "1=2"}}, click{}},
		{"behind the prefix", []param{{"qr/s", "1"}}, click{}},
		{"behind the shop", []param{{"shopt", ".myshopify.com"}, {"t", "0"}}, click{}},
		{"behind the time", []param{{"u", "5"}}, click{}},
		{"signature", []param{{"sig", "signature=0"}}, click{}},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := click{shop: "a.myshopify.com", customer: "12", prefix: "/a/bs", timestamp: "1735689600", browser: tt.browser, behind: tt.with.behind, byName: tt.with.byName}
			signature := c.signature()
			trueText, _ := c.text()
			tried := 0
			var split func(rest string, pairs []string)
			split = func(rest string, pairs []string) {
				if rest == "" {
					tried++
					// A reserved parameter's name ends at the first "=".
					var params []param
					for _, pair := range pairs {
						name, value, _ := strings.Cut(pair, "=")
						params = append(params, param{name, value})
					}
					named := func(name string) bool {
						return slices.ContainsFunc(params, func(p param) bool { return p.name == name })
					}
					if !named("shop") || !named("path_prefix") || !named("timestamp") {
						return // no click at all, as most splits
					}
					query := encode(params, url.QueryEscape) + "&signature=" + signature
					got, err := v.Verify(query, "")
					if err != nil {
						return
					}
					if other := c.otherThan(params, got); other != "" {
						t.Errorf("%s\nsplit as %q verifies as another %s", trueText, pairs, other)
					}
					return
				}
				before := ""
				if len(pairs) > 0 {
					before = pairs[len(pairs)-1]
				}
				if rest < before { // as is every prefix of it
					return
				}
				for end := strings.Index(rest, "=") + 1; end > 0 && end <= len(rest); end++ {
					if rest[:end] >= before && (end == len(rest) || strings.Contains(rest[end:], "=")) {
						split(rest[end:], append(pairs[:len(pairs):len(pairs)], rest[:end]))
					}
				}
			}
			split(trueText, nil)
			t.Logf("%d splits of %s", tried, trueText)
			if tried < 10 {
				t.Errorf("tried %d splits; want at least 10", tried)
			}
		})
	}
}

// TestPathPrefixMayEndElsewhere shows the freedom that is left. If the browser's own parameter is
// sorted directly after the prefix, the prefix can lose its tail to it or take its head. It stays a
// path of the same shop.
func TestPathPrefixMayEndElsewhere(t *testing.T) {
	tests := []struct {
		name, browser, anew string
		want                string
	}{
		{"loses its tail", "ref=1", "path_prefix=/apps/sub&scriptionsref=1", "/apps/sub"},
		{"takes a head", "qr=1", "path_prefix=/apps/subscriptionsq&r=1", "/apps/subscriptionsq"},
		{"takes a path", "q%2Fevilr=1", "path_prefix=/apps/subscriptionsq/evil&r=1", "/apps/subscriptionsq/evil"},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		others := "shop=" + shop + "&logged_in_customer_id=" + customer + "&timestamp=1735689600&"
		signature := shopifytest.Signature(secret, others+"path_prefix="+prefix+"&"+tt.browser)
		got, err := v.Verify(others+tt.anew+"&signature="+signature, "")
		if err != nil || got.PathPrefix != tt.want {
			t.Errorf("%s: Verify(%q).PathPrefix = %q, %v; want %q", tt.name, tt.anew, got.PathPrefix, err, tt.want)
		}
		if got.Shop != shop || got.Customer != customer {
			t.Errorf("%s: Verify(%q) = %q, %q; want the true shop and customer", tt.name, tt.anew, got.Shop, got.Customer)
		}
	}
}

// TestReservedNamesFromTheBrowser covers a question that Shopify's documentation leaves open: what
// happens to a reserved name that the browser sends. If Shopify keeps it and appends its own, both
// are one pair of the signed text, which has the name once, in a place that the visitor chose.
func TestReservedNamesFromTheBrowser(t *testing.T) {
	tests := []struct{ name, browser, anew string }{
		{"customer", "logged_in_customer_id=999m%3D1", "shop=" + shop + "&path_prefix=" + prefix + "&timestamp=1735689600&logged_in_customer_id=999&m=1,"},
		{"shop", "shop=evil.myshopify.comt%3D1", "logged_in_customer_id=" + customer + "&path_prefix=" + prefix + "&timestamp=1735689600&shop=evil.myshopify.com&t=1,"},
		{"timestamp", "timestamp=1735689660u%3D1", "shop=" + shop + "&logged_in_customer_id=" + customer + "&path_prefix=" + prefix + "&timestamp=1735689660&u=1,"},
	}
	own := map[string]string{"customer": customer, "shop": shop, "timestamp": "1735689600"}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			signed := tt.browser + "&shop=" + shop + "&logged_in_customer_id=" + customer + "&path_prefix=" + prefix + "&timestamp=1735689600"
			signature := shopifytest.Signature(secret, signed)
			if _, err := v.Verify(signed+"&signature="+signature, ""); !refusedFor(err, shopify.CheckRepeated) {
				t.Errorf("Verify(%q) = %v; want refused: repeated", signed, err)
			}
			anew := tt.anew + own[tt.name]
			if shopifytest.Signature(secret, anew) != signature {
				t.Fatalf("%q has another text than %q", anew, signed)
			}
			if got, err := v.Verify(anew+"&signature="+signature, ""); err == nil {
				t.Errorf("signed: %s\nsplit anew: %s\nverifies as %+v", signed, anew, got)
			}
		})
	}
}

// TestOtherSigners has texts as Shopify would sign them if it did not do as it documents: it signs a
// bare name without "=", sorts before it decodes, or puts its own value between a visitor's. Another
// customer, shop or time must not be read from them either.
func TestOtherSigners(t *testing.T) {
	const end = "path_prefix=/xshop=a.myshopify.comtimestamp=1735689600"
	const tail = "&path_prefix=/x&shop=a.myshopify.com&timestamp=1735689600"
	tests := []struct{ name, text, anew string }{
		{"bare name, customer", "a=logged_in_customer_id=9m=logged_in_customer_id=12m" + end, "a=&logged_in_customer_id=9&m=logged_in_customer_id%3D12m" + tail},
		{
			"bare name, shop", "logged_in_customer_id=12path_prefix=/xr=shop=b.myshopify.comt=shop=a.myshopify.comttimestamp=1735689600",
			"logged_in_customer_id=12&path_prefix=/x&r=&shop=b.myshopify.com&t=shop%3Da.myshopify.comt&timestamp=1735689600",
		},
		{
			"bare name, time", "logged_in_customer_id=12path_prefix=/xshop=a.myshopify.comt=timestamp=1735689690u=timestamp=1735689600u",
			"logged_in_customer_id=12&path_prefix=/x&shop=a.myshopify.com&t=&timestamp=1735689690&u=timestamp%3D1735689600u",
		},
		{
			"sorted before decoding", "a=logged_in_customer_id=9m=logged_in_customer_id=12path_prefiz=1" + end,
			"a=&logged_in_customer_id=9&m=logged_in_customer_id%3D12path_prefiz%3D1" + tail,
		},
		{"between a visitor's", "logged_in_customer_id=9m=,12,x" + end, "logged_in_customer_id=9&m=,12,x" + tail},
	}
	v := verifier(t, time.Unix(now, 0), secret)
	for _, tt := range tests {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(tt.text))
		query := tt.anew + "&signature=" + hex.EncodeToString(mac.Sum(nil))
		if got, err := v.Verify(query, ""); !refusedFor(err, shopify.CheckAmbiguous) {
			t.Errorf("%s: %q, split anew as %q, is %+v, %v; want ambiguous", tt.name, tt.text, tt.anew, got, err)
		}
	}
}

// TestVerifyTakesNoTime has the longest queries that the server reads, made to take long.
func TestVerifyTakesNoTime(t *testing.T) {
	v := verifier(t, time.Unix(now, 0), secret)
	for name, query := range map[string]string{
		"commas":             forwarded("+t=" + strings.Repeat(",", 15000) + strings.Repeat(".myshopify.co", 1150)),
		"commas at the end":  forwarded("+z=" + strings.Repeat(",", 30000)),
		"digits":             forwarded("+z=," + strings.Repeat("1", 30000)),
		"names":              forwarded("+a=" + strings.Repeat("shop=", 6000)),
		"stray percents":     strings.Repeat("%", 31000),
		"stray percents too": forwarded("+a=" + strings.Repeat("%zz", 10000)),
		"signatures":         forwarded() + strings.Repeat("&signature=0", 2500),
	} {
		shortest := time.Hour
		for range 10 {
			start := time.Now()
			_, _ = v.Verify(query, "")
			shortest = min(shortest, time.Since(start))
		}
		t.Logf("%s: %v", name, shortest)
		if shortest > 20*time.Millisecond { // it was a second when it grew with the square of the length
			t.Errorf("%s: %d bytes take %v; want at most 20 ms", name, len(query), shortest)
		}
	}
}
