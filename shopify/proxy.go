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
	CheckSignature Check = "signature" // not signed with any of the app's secrets
	CheckParameter Check = "parameter" // one of Shopify's parameters is missing or misshapen
	CheckTimestamp Check = "timestamp" // more than 90 s from our clock
	CheckRepeated  Check = "repeated"  // one of Shopify's parameters comes more than once
	CheckAmbiguous Check = "ambiguous" // one of Shopify's parameters may have another value; see ambiguous
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
// A request that fails CheckRepeated or CheckAmbiguous is Shopify's, but the visitor's own parameters
// hide which shop or customer it is for. Verify then returns an error and what is needed to ask again
// without them: PathPrefix, Destination and Query, but neither Shop nor Customer.
//
// go-shopify would also accept malformed pairs (and drop them), repeated parameters, any age, and a
// text that can be split in another way. A test compares the signatures.
func (v *Verifier) Verify(rawQuery, path string) (ProxyRequest, error) {
	query := parseQuery(rawQuery)
	text := signedText(query)
	if !v.signed(text, query["signature"]) {
		return ProxyRequest{}, &Refused{Check: CheckSignature}
	}
	if name := misshapen(query); name != "" {
		return ProxyRequest{}, &Refused{CheckParameter, name}
	}
	if !slices.ContainsFunc(query["timestamp"], v.fresh) {
		return ProxyRequest{}, &Refused{Check: CheckTimestamp}
	}
	refused := &Refused{CheckRepeated, repeated(query)}
	if refused.Name == "" {
		refused = &Refused{CheckAmbiguous, ambiguous(query, text)}
	}
	request := read(query, path)
	if refused.Name != "" {
		request.Shop, request.Customer = "", ""
		return request, refused
	}
	return request, nil
}

// parseQuery reads a query as browsers and Shopify do, and drops nothing: a ";" and a "%" that begins
// no escape stand for themselves. url.ParseQuery calls both errors.
func parseQuery(raw string) url.Values {
	query := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair != "" {
			name, value, _ := strings.Cut(pair, "=")
			name = unescape(name)
			query[name] = append(query[name], unescape(value))
		}
	}
	return query
}

func unescape(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(s) {
			var escaped [1]byte
			if _, err := hex.Decode(escaped[:], []byte(s[i+1:i+3])); err == nil {
				c = escaped[0]
				i += 2
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// misshapen returns the name of one of Shopify's parameters that has no value of its strict shape.
// Only logged_in_customer_id may be absent. Then nobody is signed in, and the click cannot open a
// portal.
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
	} {
		values := query[parameter.name]
		if !slices.ContainsFunc(values, parameter.matches) && (len(values) > 0 || !parameter.absent) {
			return parameter.name
		}
	}
	return ""
}

func repeated(query url.Values) string {
	for _, name := range reserved() {
		if len(query[name]) > 1 {
			return name
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

// signed reports whether one of the signatures is right. It tries every secret even after a match, so
// that its timing reveals nothing.
func (v *Verifier) signed(text string, signatures []string) bool {
	found := false
	for _, pool := range v.macs {
		mac := pool.Get().(hash.Hash)
		mac.Reset()
		mac.Write([]byte(text))
		want := mac.Sum(nil)
		pool.Put(mac)
		for _, signature := range signatures {
			given, err := hex.DecodeString(signature)
			if hmac.Equal(want, given) && err == nil && isSignature(signature) {
				found = true
			}
		}
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

// read takes Shopify's parameters out of the query. Of several path prefixes, it takes the last that
// has the shape of one.
func read(query url.Values, path string) ProxyRequest {
	request := ProxyRequest{
		Shop:        Shop(query.Get("shop")),
		Customer:    CustomerID(query.Get("logged_in_customer_id")),
		Destination: cleanDestination(path),
		Query:       query,
	}
	for _, prefix := range query["path_prefix"] {
		if isPathPrefix(prefix) {
			request.PathPrefix = prefix
		}
	}
	for _, name := range reserved() {
		delete(query, name)
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
