package shopify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/shopify"
	"manage-subscriptions/shopify/shopifytest"
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
		{"+a=%zz"}, {"+a;b"}, {"+%73hop=x"}, {"+a=signature%3D"}, {"+a=timestamp&b==1"}, {"+ref=a%2Cb&ref=c"},
	} {
		f.Add(forwarded(append(changes, "-signature")...), true)
	}
	v := verifier(f, time.Unix(now, 0), secret)
	f.Fuzz(func(t *testing.T, rawQuery string, sign bool) {
		if strings.Count(rawQuery, "&") > 1000 {
			return // net/url rejects very many parameters; its limit is not tested here
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
// net/url, no regular expressions.
func decide(rawQuery string) (shopify.Check, map[string][]string) {
	values := map[string][]string{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, ok1 := decode(name)
		value, ok2 := decode(value)
		if !ok1 || !ok2 || strings.Contains(pair, ";") {
			return shopify.CheckQuery, nil
		}
		values[name] = append(values[name], value)
	}
	one := func(name string, shaped func(string) bool) bool {
		return len(values[name]) == 1 && shaped(values[name][0])
	}
	nobody := len(values["logged_in_customer_id"]) == 0
	if !one("shop", isShop) || !nobody && !one("logged_in_customer_id", isCustomer) ||
		!one("path_prefix", isPrefix) || !one("timestamp", isTimestamp) || !one("signature", isSignature) {
		return shopify.CheckParameter, nil
	}
	seconds := 0
	for _, digit := range values["timestamp"][0] {
		seconds = 10*seconds + int(digit-'0')
	}
	if seconds < now-90 || seconds > now+90 {
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
	for _, name := range []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp"} {
		want := len(values[name])
		for i := range len(text) {
			if strings.HasPrefix(text[i:], name+"=") {
				want--
			}
		}
		if want != 0 {
			return shopify.CheckResplit, nil
		}
	}
	if commaBetween(text, "logged_in_customer_id=", "path_prefix=", func(string) bool { return true }) ||
		commaBetween(text, "shop=", "timestamp=", beginsAsShop) ||
		commaBetween(text+"end=", "timestamp=", "end=", beginsAsTime) {
		return shopify.CheckResplit, nil
	}
	if shopifytest.Signature(secret, rawQuery) != values["signature"][0] {
		return shopify.CheckSignature, nil
	}
	return "", values
}

// commaBetween looks between two names for a comma after which a true value could begin.
func commaBetween(text, from, to string, could func(string) bool) bool {
	start := strings.Index(text, from)
	if start < 0 {
		return false
	}
	for i := start + len(from); i < len(text) && !strings.HasPrefix(text[i:], to); i++ {
		if text[i] == ',' && could(text[i+1:strings.LastIndex(text, to)]) {
			return true
		}
	}
	return false
}

func beginsAsShop(s string) bool {
	name, _, found := strings.Cut(s, ".myshopify.com")
	return found && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func beginsAsTime(s string) bool {
	return len(s) >= 9 && strings.Trim(s[:9], "0123456789") == ""
}

func decode(s string) (string, bool) {
	const hex = "0123456789abcdef"
	var out []byte
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			high, low := strings.IndexByte(hex, s[i+1]|0x20), strings.IndexByte(hex, s[i+2]|0x20)
			// |0x20 turns upper case into lower case, but also control characters into digits.
			if high < 0 || low < 0 || s[i+1] < '0' || s[i+2] < '0' {
				return "", false
			}
			out = append(out, byte(high<<4|low))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out), true
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
func isTimestamp(s string) bool { return only(s, digits, 1, 12) }
func isSignature(s string) bool { return only(s, "0123456789abcdef", 64, 64) }

func isPrefix(s string) bool {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 5 || parts[0] != "" {
		return false
	}
	return !slices.ContainsFunc(parts[1:], func(part string) bool {
		return !only(part, letters+strings.ToUpper(letters)+digits+"-_", 1, 64)
	})
}
