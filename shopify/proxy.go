// Package shopify reads and verifies what Shopify sends: app proxy requests, webhooks and session
// tokens. It wraps go-shopify, and its comments say where it does not rely on it.
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

// maxAge is how far a request's timestamp may be from our clock, in either direction. Shopify's own
// libraries use the same window.
const maxAge = 90 * time.Second

// ProxyRequest is a storefront visitor's request that Shopify has just signed and forwarded.
type ProxyRequest struct {
	Shop        Shop
	Customer    CustomerID // the signed-in customer; "" if nobody is signed in
	PathPrefix  string     // the proxy's path on the storefront, such as /apps/subscriptions; merchants can rename it
	Destination string     // the path after it: [a-z0-9-] and single inner slashes; "" for any other path
	Query       url.Values // the visitor's own parameters: signed, but chosen by the visitor
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

// Refused is Verify's error. It is for the log only, because the sender must not learn which check
// the request failed.
type Refused struct {
	Check Check
	Name  string // the parameter, if one is at fault
}

func (r *Refused) Error() string {
	return strings.TrimSpace("proxy request refused: " + string(r.Check) + " " + r.Name)
}

// Verifier verifies requests from Shopify.
type Verifier struct {
	apps []goshopify.App // for webhooks
	macs []*sync.Pool    // of hash.Hash, one for each secret; creating one takes longer than using it
	now  func() time.Time
}

// NewVerifier accepts a signature by any of the app's client secrets. After a rotation, Shopify
// signs with the old one for up to an hour.
func NewVerifier(secrets []string, now func() time.Time) (*Verifier, error) {
	if len(secrets) == 0 || slices.Contains(secrets, "") {
		return nil, errors.New("a client secret is empty, and anybody could sign with it")
	}
	v := &Verifier{now: now}
	for _, secret := range secrets {
		v.apps = append(v.apps, goshopify.App{ApiSecret: secret})
		v.macs = append(v.macs, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }})
	}
	return v, nil
}

// reserved returns the parameters that Shopify adds.
func reserved() []string {
	return []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature"}
}

// Verify reads a forwarded request from its raw query and from path, the part after the proxy's
// path. The path is not signed.
//
// go-shopify would also accept malformed pairs (and drop them), repeated parameters, any age, and a
// text that can be split in another way. Verify rejects all of these. A test compares the
// signatures.
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

// misshapen returns the name of one of Shopify's parameters that is not present exactly once in its
// strict shape. Only logged_in_customer_id may be absent. Then nobody is signed in, and the click
// cannot open a portal.
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

// resplit returns the name of one of Shopify's parameters that the signed text could also hold in
// another place or with another value.
//
// Shopify signs sorted "k=v" strings joined without a separator, so a=1&b=2 and a=1b%3D2 have one
// signature. But a name that appears once is where Shopify put it, and the strict shapes define
// where its value ends.
//
// One ambiguity is left. path_prefix can end anywhere before the next "=" if one of the visitor's
// parameters is sorted directly after it. That is harmless, since path_prefix is only used for
// links back to the same store.
func resplit(query url.Values, text string) string {
	for _, name := range reserved() {
		// signature is never part of the signed text, so none of it can be mistaken for Shopify's.
		if name != "signature" && strings.Count(text, name+"=") != len(query[name]) {
			return name
		}
	}
	return joined(text)
}

// Compiled once and never changed.
var (
	commaAny       = regexp.MustCompile(`,`)
	commaShop      = regexp.MustCompile(`,[a-z0-9-]+\.myshopify\.com`)
	commaTimestamp = regexp.MustCompile(`,[0-9]{9}`)
)

// joined returns the name of a parameter whose value may have been cut from a longer one.
//
// Shopify does not document whether it drops its own names from a visitor's query. If it does not,
// it signs both values with a comma between them. If customer 123 sends
// logged_in_customer_id=999m%3D1, the signed value is 999m=1,123, which can be read as customer 999
// and m=1,123. So a value must not be followed by a comma and a text that could be the true value.
// For a customer, that text can be empty.
func joined(text string) string {
	for _, of := range []struct {
		name, next string
		tail       *regexp.Regexp // the comma and what could be the true value
	}{
		{"logged_in_customer_id", "path_prefix", commaAny},
		{"shop", "timestamp", commaShop},
		{"timestamp", "", commaTimestamp},
	} {
		_, after, _ := strings.Cut(text, of.name+"=")
		if !strings.Contains(after, ",") {
			continue // almost always
		}
		if of.next != "" {
			after, _, _ = strings.Cut(after, of.next+"=")
		}
		if of.tail.MatchString(after) {
			return of.name
		}
	}
	return ""
}

// signedText returns the text that Shopify signs.
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

// signed tries every secret even after a match, so that its timing reveals nothing.
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

// Sign adds to a visitor's query what Shopify would for a visitor who is not signed in. It returns
// the query signed with an app's secret.
func Sign(query url.Values, shop Shop, prefix, secret string, now time.Time) string {
	query.Set("shop", string(shop))
	query.Set("logged_in_customer_id", "")
	query.Set("path_prefix", prefix)
	query.Set("timestamp", strconv.FormatInt(now.Unix(), 10))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signedText(query)))
	query.Set("signature", hex.EncodeToString(mac.Sum(nil)))
	return query.Encode()
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

// cleanDestination trims slashes. It returns "" for a path that cannot be a destination.
func cleanDestination(path string) string {
	path = strings.Trim(path, "/")
	strange := strings.Trim(path, "abcdefghijklmnopqrstuvwxyz0123456789-/") != ""
	if strange || strings.Contains(path, "//") || len(path) > 100 {
		return ""
	}
	return path
}
