// Package shopify knows what Shopify sends: app proxy requests and the shops
// and customers in them. It wraps go-shopify, and says where it does not rely
// on it.
package shopify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goshopify "github.com/bold-commerce/go-shopify/v4"
)

// maxAge is how far a request's timestamp may be from our clock, both ways:
// the window that Shopify's own libraries use.
const maxAge = 90 * time.Second

// ProxyRequest is what Shopify vouches for: a request that a storefront's
// visitor made and Shopify forwarded just now.
type ProxyRequest struct {
	Shop        Shop
	Customer    CustomerID // the signed-in customer; "" if nobody is
	PathPrefix  string     // the proxy's path on the storefront, such as /apps/subscriptions; merchants can rename it
	Destination string     // the path after it, cleaned: small letters, digits, "-" and single inner slashes; "" if there is none
	Query       url.Values // what the browser sent beside; signed, but chosen by the visitor
}

// Check names a check that a request failed.
type Check string

// The checks of Verify, in their order.
const (
	CheckQuery     Check = "query"     // not a well-formed query string
	CheckParameter Check = "parameter" // one of Shopify's parameters is missing, repeated or misshapen
	CheckTimestamp Check = "timestamp" // more than 90 s from our clock
	CheckResplit   Check = "resplit"   // the signed text can be read in more than one way
	CheckSignature Check = "signature" // not signed with any of the app's secrets
)

// Refused is Verify's error. It is for the log: whoever sent the request must
// not learn which check it failed.
type Refused struct {
	Check Check
	Name  string // the parameter, where it is about one
}

func (r *Refused) Error() string {
	return strings.TrimSpace("proxy request refused: " + string(r.Check) + " " + r.Name)
}

// Verifier tells Shopify's requests from all others.
type Verifier struct {
	apps []goshopify.App // for webhooks
	macs []*sync.Pool    // of hash.Hash, one for each secret: to set one up takes longer than to use it
	now  func() time.Time
}

// NewVerifier verifies with every one of secrets, the app's client secrets:
// while one is rotated, Shopify signs with the old one for up to an hour.
func NewVerifier(secrets []string, now func() time.Time) (*Verifier, error) {
	if len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("a client secret is empty: everybody could sign with it")
	}
	v := &Verifier{now: now}
	for _, secret := range secrets {
		v.apps = append(v.apps, goshopify.App{ApiSecret: secret})
		v.macs = append(v.macs, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }})
	}
	return v, nil
}

// reserved are the parameters that Shopify adds to the browser's own.
func reserved() []string {
	return []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature"}
}

// Verify reads a forwarded request from its raw query and from path, which is
// what stands behind the path that Shopify forwards to. The path is not signed.
//
// go-shopify would also take a query with malformed pairs (and drop them), with
// parameters repeated, of any age, and one whose text was split anew; all of that
// is refused here. The signature is the same; a test compares the two.
func (v *Verifier) Verify(rawQuery, path string) (ProxyRequest, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return ProxyRequest{}, &Refused{Check: CheckQuery}
	}
	if name := misshapen(query); name != "" {
		return ProxyRequest{}, &Refused{CheckParameter, name}
	}
	if !v.fresh(query.Get("timestamp")) {
		return ProxyRequest{}, &Refused{Check: CheckTimestamp}
	}
	text := signedText(query)
	if name := resplit(query, text); name != "" {
		return ProxyRequest{}, &Refused{CheckResplit, name}
	}
	if !v.signed(text, query.Get("signature")) {
		return ProxyRequest{}, &Refused{Check: CheckSignature}
	}
	return read(query, path), nil
}

// misshapen names a parameter of Shopify's that is not there exactly once in
// its strict shape. Only logged_in_customer_id may be absent: that is a click of
// nobody, which can open nothing.
func misshapen(query url.Values) string {
	for _, parameter := range []struct {
		name    string
		matches func(string) bool
		absent  bool
	}{
		{"shop", isShop, false},
		{"logged_in_customer_id", isCustomer, true},
		{"path_prefix", isPathPrefix, false},
		{"timestamp", isTimestamp, false},
		{"signature", isSignature, false},
	} {
		values := query[parameter.name]
		if len(values) == 0 && parameter.absent {
			continue
		}
		if len(values) != 1 || !parameter.matches(values[0]) {
			return parameter.name
		}
	}
	return ""
}

func (v *Verifier) fresh(timestamp string) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	return v.now().Sub(time.Unix(seconds, 0)).Abs() <= maxAge
}

// resplit names a parameter of Shopify's that the signed text can be read to have
// in another place, or with another value.
//
// Shopify signs "k=v" strings that are sorted and joined by nothing, so a=1&b=2
// and a=1b%3D2 have one signature. Where each name stands just once, though, it
// stands where Shopify put it, and the strict shapes say where its value ends.
//
// One freedom is left. path_prefix may end anywhere before the next "=", if one
// of the visitor's own parameters is sorted directly behind it. That is harmless:
// it is only used for links back into the same store.
func resplit(query url.Values, text string) string {
	for _, name := range reserved() {
		parsed := len(query[name])
		if name == "signature" { // never part of the signed text
			parsed = 0
		}
		if strings.Count(text, name+"=") != parsed {
			return name
		}
	}
	return joined(text)
}

// joined names a parameter whose value may have been cut out of a longer one.
//
// Whether Shopify drops a name of its own that the visitor sends is not known. If
// it does not, it signs both values with a comma between: 999m=1,123 for a
// visitor who is 123 and sends logged_in_customer_id=999m%3D1. Read anew, that is
// customer 999 and m=1,123. So behind a value, no comma may come with what could
// be the true one: for a customer that may be nothing at all.
func joined(text string) string {
	for _, of := range []struct {
		name, next string
		tail       *regexp.Regexp
	}{
		{"logged_in_customer_id", "path_prefix", commaAny},
		{"shop", "timestamp", commaShop},
		{"timestamp", "", commaTimestamp},
	} {
		_, behind, _ := strings.Cut(text, of.name+"=")
		if !strings.Contains(behind, ",") {
			continue // by far most often
		}
		if of.next != "" {
			behind, _, _ = strings.Cut(behind, of.next+"=")
		}
		if of.tail.MatchString(behind) {
			return of.name
		}
	}
	return ""
}

// signedText is the text under Shopify's signature.
// https://shopify.dev/docs/apps/build/online-store/app-proxies/authenticate-app-proxies
func signedText(query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(values, ","))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "")
}

// signed tries every secret, found or not, so that its time tells nothing.
func (v *Verifier) signed(text, signature string) bool {
	given, err := hex.DecodeString(signature)
	found := false
	for _, pool := range v.macs {
		mac := pool.Get().(hash.Hash)
		mac.Reset()
		mac.Write([]byte(text))
		if hmac.Equal(mac.Sum(nil), given) && err == nil {
			found = true
		}
		pool.Put(mac)
	}
	return found
}

func read(query url.Values, path string) ProxyRequest {
	request := ProxyRequest{
		Shop:        Shop(query.Get("shop")),
		Customer:    CustomerID(query.Get("logged_in_customer_id")),
		PathPrefix:  query.Get("path_prefix"),
		Destination: cleanDestination(path),
		Query:       query,
	}
	for _, name := range reserved() {
		query.Del(name)
	}
	return request
}

// cleanDestination drops slashes at the ends, and all of a path that no
// destination could have.
func cleanDestination(path string) string {
	path = strings.Trim(path, "/")
	strange := strings.Trim(path, "abcdefghijklmnopqrstuvwxyz0123456789-/") != ""
	if strange || strings.Contains(path, "//") || len(path) > 100 {
		return ""
	}
	return path
}
