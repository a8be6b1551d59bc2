package rechargetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// proxyWindow is how far a forwarded request's timestamp may be from now, as in Shopify's own libraries.
const proxyWindow = 90 * time.Second

// shopifyParameters are the parameters that Shopify adds to a browser's query.
var shopifyParameters = []string{"shop", "logged_in_customer_id", "path_prefix", "timestamp", "signature"}

var pathPrefixShape = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)+$`)

// forwarded is the content of a request that a storefront forwarded with a valid signature.
type forwarded struct {
	shopifyCustomerID string     // "" if nobody is signed in
	prefix            string     // path_prefix: the storefront's path for /proxy
	own               url.Values // the browser's own parameters
}

// verifyForwarded checks a query with Shopify's algorithm for app proxies.
func (s *Server) verifyForwarded(u *url.URL) (forwarded, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return forwarded{}, fmt.Errorf("parse query: %w", err)
	}
	for _, name := range shopifyParameters {
		if len(query[name]) != 1 {
			return forwarded{}, fmt.Errorf("%s occurs %d times", name, len(query[name]))
		}
	}
	if s.opts.ClientSecret == "" { // anybody could sign with ""
		return forwarded{}, errors.New("no client secret")
	}
	if !hmac.Equal([]byte(query.Get("signature")), []byte(signature(s.opts.ClientSecret, query))) {
		return forwarded{}, errors.New("wrong signature")
	}
	seconds, err := strconv.ParseInt(query.Get("timestamp"), 10, 64)
	if err != nil || s.opts.Now().Sub(time.Unix(seconds, 0)).Abs() > proxyWindow {
		return forwarded{}, errors.New("timestamp out of the window")
	}
	if s.opts.Shop != "" && query.Get("shop") != s.opts.Shop {
		return forwarded{}, errors.New("another shop")
	}
	f := forwarded{shopifyCustomerID: query.Get("logged_in_customer_id"), prefix: query.Get("path_prefix"), own: query}
	if !pathPrefixShape.MatchString(f.prefix) {
		return forwarded{}, errors.New("path_prefix is no path")
	}
	for _, name := range shopifyParameters {
		f.own.Del(name)
	}
	return f, nil
}

// signature returns Shopify's signature of the query.
func signature(secret string, query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(values, ","))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.Join(pairs, "")))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveProxied answers the requests that a storefront forwards for its path /tools/recurring/...
func (s *Server) serveProxied(w http.ResponseWriter, r *http.Request, path []string) {
	pageHeaders(w)
	if !readOnly(w, r) {
		return
	}
	f, err := s.verifyForwarded(r.URL)
	if err != nil {
		http.Error(w, "forbidden: "+err.Error(), http.StatusForbidden) // an emulator may say why
		return
	}
	if shown, status, ok := s.moved("http://" + r.Header.Get("X-Forwarded-Host") + f.prefix + "/portal/"); ok {
		s.render(w, status, shown)
		return
	}
	path = trimSlash(path)
	switch {
	case len(path) == 1 && path[0] == "get-subscription-access":
		s.serveSubscriptionAccess(w, f, path)
	case len(path) >= 2 && path[0] == "pages":
		s.serveTask(w, r, f.prefix+"/portal/", path[1:], f.own)
	case len(path) >= 2 && path[0] == "portal":
		s.serveProxiedPortal(w, r, f, path)
	default:
		s.render(w, http.StatusNotFound, missingView())
	}
}

func (s *Server) serveProxiedPortal(w http.ResponseWriter, r *http.Request, f forwarded, path []string) {
	v := visit{prefix: f.prefix + "/portal/", hash: path[1], page: pagePath(path[2:]), query: f.own}
	if s.openByToken(w, r, v) {
		return
	}
	customer, ok := s.customerByHash(v.hash)
	switch {
	case f.shopifyCustomerID == "":
		redirectToLogin(w, f, path)
	case ok && customer.ShopifyCustomerID == f.shopifyCustomerID:
		s.open(w, r, v, customer, HowStorefront)
	default:
		s.renderClosed(w, v)
	}
}

// serveSubscriptionAccess answers Recharge's "Account Access link", which leads a signed-in shopper to the portal.
func (s *Server) serveSubscriptionAccess(w http.ResponseWriter, f forwarded, path []string) {
	const returned = "returned"
	if f.shopifyCustomerID == "" && f.own.Has(returned) {
		s.render(w, http.StatusOK, closedView(f.own))
		return
	}
	if f.shopifyCustomerID == "" {
		f.own.Set(returned, "1")
		redirectToLogin(w, f, path)
		return
	}
	customer, ok := s.accountOf(f.shopifyCustomerID)
	if !ok {
		s.render(w, http.StatusOK, nobodyView())
		return
	}
	redirect(w, f.prefix+"/portal/"+url.PathEscape(customer.Hash)+"/subscriptions")
}

// redirectToLogin makes a shopper sign in and come back to this address, without its dead token.
func redirectToLogin(w http.ResponseWriter, f forwarded, path []string) {
	back := f.prefix
	for _, segment := range path {
		back += "/" + url.PathEscape(segment)
	}
	f.own.Del("token")
	if len(f.own) > 0 {
		back += "?" + f.own.Encode()
	}
	redirect(w, "/customer_authentication/login?return_to="+url.QueryEscape(back))
}

// redirect sets Location itself: http.Redirect would resolve it against /proxy, not the storefront's path.
func redirect(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusFound)
}
