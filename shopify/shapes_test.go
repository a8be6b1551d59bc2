package shopify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"regexp"
	"strings"
	"testing"

	goshopify "github.com/bold-commerce/go-shopify/v4"
)

var (
	wantShop       = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com$`)
	wantCustomer   = regexp.MustCompile(`^[0-9]{0,20}$`)
	wantPathPrefix = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,4}$`)
	wantTimestamp  = regexp.MustCompile(`^[1-9][0-9]{9}$`)
	wantSignature  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// FuzzShapes compares the functions that read a click with equivalent regular expressions.
func FuzzShapes(f *testing.F) {
	for _, s := range []string{
		"", "a", "-", "shop.myshopify.com", "-shop.myshopify.com", "s-.myshopify.com", "Shop.myshopify.com", ".myshopify.com", "shop.myshopify.com\n",
		strings.Repeat("a", 63) + ".myshopify.com", strings.Repeat("a", 64) + ".myshopify.com", "a.b.myshopify.com",
		"1", "12345678901234567890", "123456789012345678901", "١", "1234567890", "0123456789", "12345678901",
		"/", "/a", "/a/", "//a", "/a/b/c/d", "/a/b/c/d/e", "/a.b", "/" + strings.Repeat("a", 64), "/" + strings.Repeat("a", 65), "a/b", "/apps/my_subs-1",
		strings.Repeat("0", 64), strings.Repeat("f", 63), strings.Repeat("g", 64), strings.Repeat("F", 64), strings.Repeat("a", 65),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for what, is := range map[string][2]bool{
			"shop":        {isShop(s), wantShop.MatchString(s)},
			"customer":    {isCustomer(s), wantCustomer.MatchString(s)},
			"path prefix": {isPathPrefix(s), wantPathPrefix.MatchString(s)},
			"timestamp":   {isTimestamp(s), wantTimestamp.MatchString(s)},
			"signature":   {isSignature(s), wantSignature.MatchString(s)},
		} {
			if is[0] != is[1] {
				t.Errorf("%q is a %s: %v; the shape says %v", s, what, is[0], is[1])
			}
		}
	})
}

// FuzzSignature compares the signature with go-shopify's.
func FuzzSignature(f *testing.F) {
	const secret = "hush"
	for _, query := range []string{
		"", "a=1", "a=1&a=2", "a=1,2", "b=2&a=1", "a=%20&b=+", "a=1&A=2", "=1", "a", "a=&b=", "shop=s.myshopify.com&timestamp=1&extra=1&extra=2", "a%3D1=2", "é=ü", "signature=x", "a=50%", "a;b", "%zz=%4", "a=%%41",
	} {
		f.Add(query)
	}
	v, err := NewVerifier([]string{"other", secret}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		values := parseQuery(query)
		text := signedText(values)
		values.Del("signature")
		signature := sign(secret, text)
		theirs := (goshopify.App{ApiSecret: secret}).VerifySignature(&url.URL{RawQuery: values.Encode() + "&signature=" + signature})
		if ours := v.signed(text, []string{"", signature, "zz"}); !ours || !theirs {
			t.Errorf("%q: signed says %v, go-shopify %v; want both true", query, ours, theirs)
		}
		wrong := "0" + signature[1:]
		if signature[0] == '0' {
			wrong = "1" + signature[1:]
		}
		if v.signed(text, []string{wrong, "", "zz", strings.ToUpper(signature + "a")}) || v.signed(text+"x", []string{signature}) || v.signed(text, nil) {
			t.Errorf("%q: a wrong signature passes", query)
		}
	})
}

// sign returns the signature of a text.
func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}
