package shopify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// FuzzVerify compares Verify with a second implementation that shares no code with it:
// shopifytest's signature, and decide for the rest.
func FuzzVerify(f *testing.F) {
	good := forwarded()
	for _, seed := range []string{
		"", "&", "=", "%", ";", "shop", "signature=", good, good + "&", good + "&signature=",
		forwarded("logged_in_customer_id="), forwarded("-logged_in_customer_id"), forwarded("shop=evil.example"),
		forwarded("+utm_source=a+b%20c&ids=1&ids=2&ids[]=3&bare&=x&%C3%BC=%FF"),
	} {
		f.Add(seed, false)
	}
	for _, changes := range [][]string{
		{}, {"-shop"}, {"+shop=" + shop}, {"timestamp=1735689690"}, {"timestamp=1735689691"}, {"timestamp=-1"},
		{"logged_in_customer_id="}, {"+a=1%3D2&b=shop%3D"}, {"+workshop=1"}, {"path_prefix=//a"}, {"path_prefix=/a"},
		{"+a=%zz"}, {"+a;b"}, {"+%73hop=x"}, {"+a=signature%3D"}, {"+a=timestamp&b==1"}, {"+ref=a%2Cb&ref=c"}, {"+order=1%2C2"},
		{"+timestamp=1735689601u%3D1"}, {"+a=logged_in_customer_id%3D9m%3D"}, {"+logged_in_customer_id=9,"}, {"+z=1,1735689601"},
		{"+path_prefix!=1&a=logged_in_customer_id%3D9"}, {"+r=shop%3Db.myshopify.comt%3D"}, {"+signature=0"}, {"+shop2=1&a=shop%3Db.myshopify.com"},
	} {
		f.Add(forwarded(append(changes, "-signature")...), true)
	}
	v := verifier(f, time.Unix(now, 0), secret)
	f.Fuzz(func(t *testing.T, rawQuery string, sign bool) {
		if len(rawQuery) > 2000 {
			return // decide takes long
		}
		if sign {
			rawQuery += "&signature=" + shopifytest.Signature(secret, rawQuery)
		}
		want, values := decide(rawQuery)
		got, err := v.Verify(rawQuery, "")
		var check shopify.Check
		if refused := (*shopify.Refused)(nil); errors.As(err, &refused) {
			check = refused.Check
		} else if err != nil {
			t.Fatalf("Verify(%q) = %v; want a *Refused", rawQuery, err)
		}
		if check != want {
			t.Fatalf("Verify(%q) refused for %q; want %q", rawQuery, check, want)
		}
		if err != nil {
			return
		}
		for _, tt := range []struct{ name, got string }{
			{"shop", string(got.Shop)}, {"logged_in_customer_id", string(got.Customer)}, {"path_prefix", got.PathPrefix},
		} {
			if want := strings.Join(values[tt.name], ","); tt.got != want {
				t.Errorf("Verify(%q): %s = %q; want %q", rawQuery, tt.name, tt.got, want)
			}
			delete(values, tt.name)
		}
		delete(values, "timestamp")
		delete(values, "signature")
		if len(got.Query) != len(values) {
			t.Errorf("Verify(%q).Query = %q; want %q", rawQuery, got.Query, values)
		}
		for name, want := range values {
			if !slices.Equal(got.Query[name], want) {
				t.Errorf("Verify(%q).Query[%q] = %q; want %q", rawQuery, name, got.Query[name], want)
			}
		}
	})
}

// decide returns the check that a query fails, or "", and its values. It is kept simple: no
// net/url, no regular expressions, and every place of the text is tried.
func decide(rawQuery string) (shopify.Check, map[string][]string) {
	values := map[string][]string{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		values[decode(name)] = append(values[decode(name)], decode(value))
	}
	if !slices.Contains(values["signature"], shopifytest.Signature(secret, rawQuery)) {
		return shopify.CheckSignature, nil
	}
	some := func(name string, shaped func(string) bool) bool { return slices.ContainsFunc(values[name], shaped) }
	nobody := len(values["logged_in_customer_id"]) == 0
	if !some("shop", isShop) || !nobody && !some("logged_in_customer_id", isCustomer) ||
		!some("path_prefix", isPrefix) || !some("timestamp", isTimestamp) {
		return shopify.CheckParameter, nil
	}
	if !some("timestamp", func(s string) bool {
		seconds := 0
		for _, digit := range s {
			seconds = 10*seconds + int(digit-'0')
		}
		return isTimestamp(s) && seconds >= now-90 && seconds <= now+90
	}) {
		return shopify.CheckTimestamp, nil
	}
	var pairs []string
	for name, list := range values {
		if name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(list, ","))
		}
	}
	slices.Sort(pairs)
	text := strings.Join(pairs, "")
	for _, name := range []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature"} {
		if len(values[name]) > 1 {
			return shopify.CheckRepeated, nil
		}
	}
	prefixes := 0
	for i := range text {
		if strings.HasPrefix(text[i:], "path_prefix=/") {
			prefixes++
		}
	}
	for _, p := range []struct {
		name, next string
		shaped     func(string) bool
	}{{"logged_in_customer_id=", "path_prefix=", isCustomer}, {"shop=", "timestamp=", isShop}, {"timestamp=", "end=", isTimestamp}} {
		value := strings.Join(values[strings.TrimSuffix(p.name, "=")], "")
		whole := text
		if p.next == "end=" {
			whole += p.next
		}
		for from := range whole {
			for to := from; to <= len(whole) && to < from+80; to++ {
				if p.shaped(whole[from:to]) && whole[from:to] != value && stands(whole, p.name, p.next, from, to) {
					return shopify.CheckAmbiguous, nil
				}
			}
		}
	}
	if prefixes != 1 {
		return shopify.CheckAmbiguous, nil
	}
	return "", values
}

// stands reports whether text[from:to] could be the value that Shopify signed for name: directly
// behind it, or behind a comma. Then another comma follows, or a pair of next, with pairs between them
// or none.
func stands(text, name, next string, from, to int) bool {
	if strings.HasSuffix(text[:from], name) {
		return wholeValue(text, from, to)
	}
	if !strings.HasSuffix(text[:from], ",") || !strings.Contains(text[:from], name) {
		return false
	}
	if strings.HasPrefix(text[to:], ",") {
		return true
	}
	for at := to; at < len(text); at++ {
		if !strings.HasPrefix(text[at:], next) || next == "end=" && at+len(next) < len(text) {
			continue
		}
		between := text[to:at]
		sorted := strings.Contains(between, "=") && between >= strings.TrimSuffix(name, "=") && (next == "end=" || between < next)
		if between == "" || sorted {
			return true
		}
	}
	return false
}

// wholeValue reports whether a value is not only the beginning of a number.
func wholeValue(text string, from, to int) bool {
	digit := func(i int) bool { return i < len(text) && text[i] >= '0' && text[i] <= '9' }
	return !digit(to) || from < to && !digit(to-1)
}

// decode takes an escape that is none literally.
func decode(s string) string {
	const hex = "0123456789abcdef"
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '+' {
			out = append(out, ' ')
			continue
		}
		if s[i] == '%' && i+2 < len(s) {
			high, low := strings.IndexByte(hex, s[i+1]|0x20), strings.IndexByte(hex, s[i+2]|0x20)
			// |0x20 turns upper case into lower case, but also control characters into digits.
			if high >= 0 && low >= 0 && s[i+1] >= '0' && s[i+2] >= '0' {
				out = append(out, byte(high<<4|low))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// only reports whether s has least to most bytes, all of them in of.
func only(s, of string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, of) == ""
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyz"
)

func isShop(s string) bool {
	label, ok := strings.CutSuffix(s, ".myshopify.com")
	return ok && only(label, letters+digits+"-", 1, 63) && label[0] != '-'
}

func isCustomer(s string) bool  { return only(s, digits, 0, 20) }
func isTimestamp(s string) bool { return only(s, digits, 10, 10) && s[0] != '0' }

func isPrefix(s string) bool {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 5 || parts[0] != "" {
		return false
	}
	return !slices.ContainsFunc(parts[1:], func(part string) bool {
		return !only(part, letters+strings.ToUpper(letters)+digits+"-_", 1, 64)
	})
}
