package portallink_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/portallink"
)

// The vector of docs/headless.md, computed independently: by hand, and with openssl.
const (
	vectorKey  = "example-key-of-16-or-more-characters"
	vectorText = "25:manage-subscriptions/go/1,22:my-store.myshopify.com,13:7123456789012,6:orders,5:pt-BR,10:1735689600,16:abcdefghij123456,"
	vectorSum  = "085c186ecd1a6642412bf495acc8a779e49153db589f5332b26eda8fed05e1e3"
)

func vector() portallink.Signed {
	return portallink.Signed{
		Link:    portallink.Link{Shop: "my-store.myshopify.com", Customer: "7123456789012", Destination: "orders", Locale: "pt-BR"},
		Expires: time.Unix(1735689600, 0), Nonce: "abcdefghij123456",
	}
}

func TestVector(t *testing.T) {
	doc, err := os.ReadFile("../docs/headless.md")
	if err != nil {
		t.Fatal(err)
	}
	for what, value := range map[string]string{"key": vectorKey, "text": vectorText, "signature": vectorSum} {
		if row := "| " + what + " | `" + value + "` |"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/headless.md lacks %s", row)
		}
	}
	if got := vector().Text(); got != vectorText {
		t.Errorf("Text() = %q; want %q", got, vectorText)
	}
	for want, link := range map[string]portallink.Link{
		"2:FR,0:,":                           {Country: "FR"},
		"0:,25:https://www.brand.example,":   {ReturnTo: "https://www.brand.example"},
		"2:FR,25:https://www.brand.example,": {Country: "FR", ReturnTo: "https://www.brand.example"},
	} {
		signed := vector()
		signed.Country, signed.ReturnTo = link.Country, link.ReturnTo
		if got := signed.Text(); got != vectorText+want {
			t.Errorf("Text() with %+v = %q; want %q", link, got, vectorText+want)
		}
	}
	query, err := vector().Query(portallink.SecretOf(vectorKey))
	if err != nil || !strings.Contains(query, "signature="+vectorSum) {
		t.Errorf("Query() = %s, %v; want the signature %s", query, err, vectorSum)
	}
}

// TestSign: a signed link parses back to the same link and is valid now.
func TestSign(t *testing.T) {
	signer, err := portallink.NewSigner("https://subscriptions.example.com/base/", vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	nonces := map[string]bool{}
	for _, link := range []portallink.Link{
		{Shop: "my-store.myshopify.com", Customer: "7123456789012"},
		{Shop: "a.myshopify.com", Customer: "gid://shopify/Customer/1", Destination: "subscriptions/5/cancel", Locale: "fr"},
		{Shop: "a.myshopify.com", Customer: "recharge:18819267", Country: "FR", ReturnTo: "https://a.example/b?c=d&e"},
	} {
		address, err := signer.Sign(link)
		if err != nil {
			t.Fatal(err)
		}
		at, query, _ := strings.Cut(address, "?")
		signed, err := portallink.Parse(query)
		if err != nil || at != "https://subscriptions.example.com/base/go" || signed.Link != link {
			t.Errorf("Sign(%+v) = %s, which reads as %+v, %v", link, address, signed, err)
		}
		if !signed.SignedBy(portallink.SecretOf("another-key-0123456"), portallink.SecretOf(vectorKey)) || signed.SignedBy(portallink.SecretOf("another-key-0123456")) || signed.SignedBy() {
			t.Errorf("Sign(%+v) = %s; want it signed by its key and no other", link, address)
		}
		if err := signed.At(time.Now()); err != nil {
			t.Errorf("Sign(%+v) = %s, which is not valid: %v", link, address, err)
		}
		nonces[signed.Nonce] = true
	}
	if len(nonces) != 3 {
		t.Errorf("the nonces %v; want each to be new", nonces)
	}
}

func TestSignRefuses(t *testing.T) {
	signer, err := portallink.NewSigner("http://127.0.0.1:8080", vectorKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []portallink.Link{
		{}, {Shop: "my-store.myshopify.com"}, {Customer: "1"}, {Shop: "brand.example", Customer: "1"},
		{Shop: "a.myshopify.com", Customer: "0"}, {Shop: "a.myshopify.com", Customer: "1,2"}, {Shop: "a.myshopify.com", Customer: "someone@example.com"},
		{Shop: "a.myshopify.com", Customer: "recharge:"}, {Shop: "a.myshopify.com", Customer: "1", Destination: "https://evil.example"},
		{Shop: "a.myshopify.com", Customer: "1", Country: "FRA"}, {Shop: "a.myshopify.com", Customer: "1", Country: "F1"},
		{Shop: "a.myshopify.com", Customer: "1", ReturnTo: "/account"}, {Shop: "a.myshopify.com", Customer: "1", ReturnTo: "javascript:alert(1)"},
		{Shop: "a.myshopify.com", Customer: "1", ReturnTo: "https://a.example/b c"}, {Shop: "a.myshopify.com", Customer: "1", ReturnTo: "https://a.example/" + strings.Repeat("b", 300)},
		{Shop: "a.myshopify.com", Customer: "1", Locale: "fr_FR"}, {Shop: "a.myshopify.com\n", Customer: "1"},
	} {
		if address, err := signer.Sign(link); err == nil {
			t.Errorf("Sign(%+v) = %s; want an error", link, address)
		}
	}
	for _, bad := range []struct{ url, key string }{
		{"", vectorKey}, {"subscriptions.example.com", vectorKey}, {"ftp://a.example", vectorKey}, {"https://", vectorKey}, {"https://a.example", "tiny"},
	} {
		if _, err := portallink.NewSigner(bad.url, bad.key); err == nil || strings.Contains(err.Error(), bad.key) && bad.key != "" {
			t.Errorf("NewSigner(%q) = %v; want an error without the key", bad.url, err)
		}
	}
}

func TestAt(t *testing.T) {
	now := time.Unix(1735689600, 0)
	for _, test := range []struct {
		left time.Duration
		want error
	}{
		{-time.Second, portallink.ErrOver}, {0, portallink.ErrOver}, {time.Second, nil},
		{5 * time.Minute, nil}, {5*time.Minute + time.Second, portallink.ErrTooLong}, {time.Hour, portallink.ErrTooLong},
	} {
		signed := portallink.Signed{Expires: now.Add(test.left)}
		if err := signed.At(now); !errors.Is(err, test.want) {
			t.Errorf("At, with %v left = %v; want %v", test.left, err, test.want)
		}
		signed.Expires = signed.Expires.Add(5 * time.Minute)
		if err := signed.Within(now.Add(5*time.Minute), portallink.Longest); !errors.Is(err, test.want) {
			t.Errorf("Within, with %v left = %v; want %v", test.left, err, test.want)
		}
		if err := signed.Within(now, 10*time.Minute); errors.Is(err, portallink.ErrTooLong) != (test.left > 5*time.Minute) {
			t.Errorf("Within ten minutes, with %v left = %v", test.left+5*time.Minute, err)
		}
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	secret := portallink.SecretOf(vectorKey)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, secret); got != "[redacted]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// FuzzParse: the signature of a parsed link covers exactly its values, so each text can be read in
// only one way.
func FuzzParse(f *testing.F) {
	secret := portallink.SecretOf(vectorKey)
	good, err := vector().Query(secret)
	if err != nil {
		f.Fatal(err)
	}
	for _, query := range []string{good, "", good + "&shop=b.myshopify.com", good + ";", good + "&%zz", strings.Replace(good, "orders", "", 1), strings.ReplaceAll(good, "=", "%3D")} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		signed, err := portallink.Parse(query)
		if err != nil {
			return
		}
		again, err := signed.Query(secret)
		if err != nil {
			t.Fatalf("%q is read as %+v, which cannot be signed: %v", query, signed, err)
		}
		reread, err := portallink.Parse(again)
		if err != nil || reread.Text() != signed.Text() || !reread.SignedBy(secret) {
			t.Fatalf("%q is read as %q, and signed anew as %q", query, signed.Text(), reread.Text())
		}
		if signed.SignedBy(secret) && signed.Text() != vectorText {
			t.Fatalf("%q is signed by a key that has signed another text: %q", query, signed.Text())
		}
		fields, optional := split(signed.Text()), []string{signed.Country, signed.ReturnTo}
		if !slices.Equal(fields[1:5], []string{signed.Shop, signed.Customer, signed.Destination, signed.Locale}) ||
			len(fields) > 7 && !slices.Equal(fields[7:], optional) || len(fields) == 7 && optional[0]+optional[1] != "" {
			t.Fatalf("%q is signed as %q", query, fields)
		}
	})
}

// split reads a text as docs/headless.md defines it.
func split(text string) []string {
	var fields []string
	for text != "" {
		var size int
		length, rest, _ := strings.Cut(text, ":")
		if _, err := fmt.Sscan(length, &size); err != nil || len(rest) <= size || rest[size] != ',' {
			return append(fields, "not of the form")
		}
		fields, text = append(fields, rest[:size]), rest[size+1:]
	}
	return fields
}

// FuzzTexts: different links have different texts.
func FuzzTexts(f *testing.F) {
	f.Add("a.myshopify.com", "1", "", "a.myshopify.com", "1", "")
	f.Add("a.myshopify.com", "12", "3", "a.myshopify.com", "1", "23")
	f.Add("1:a,", "", "", "", "1:a,", "")
	f.Add("", "", "0:,", "", "", "")
	f.Fuzz(func(t *testing.T, shop, customer, to, shop2, customer2, to2 string) {
		one := portallink.Signed{Link: portallink.Link{Shop: shop, Customer: customer, Destination: to, ReturnTo: to2}}
		other := portallink.Signed{Link: portallink.Link{Shop: shop2, Customer: customer2, Destination: to2, Country: to}}
		if same := one.Link == other.Link; (one.Text() == other.Text()) != same {
			t.Errorf("%+v and %+v have the texts %q and %q", one.Link, other.Link, one.Text(), other.Text())
		}
	})
}

func ExampleSigner_Sign() {
	signer, err := portallink.NewSigner("https://subscriptions.example.com", "example-key-of-16-or-more-characters")
	if err != nil {
		panic(err)
	}
	address, err := signer.Sign(portallink.Link{Shop: "my-store.myshopify.com", Customer: "7123456789012", Destination: "orders"})
	if err != nil {
		panic(err)
	}
	link, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	fmt.Println(link.Host, link.Path, link.Query().Get("customer"))
	// Output: subscriptions.example.com /go 7123456789012
}
