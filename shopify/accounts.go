package shopify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	accountsTimeout = 5 * time.Second
	accountsHops    = 4
	accountsBody    = 256 << 10
)

// loginForm is the sign-in form of legacy accounts, in any language of the store.
// Compiled once and never changed.
var loginForm = regexp.MustCompile(`action="(/[A-Za-z]{2,3}(-[A-Za-z]{2,4})?)?/account/login["?]`)

// ErrNotSeen means that a store's sign-in could not be looked at, which says nothing about it. Shopify
// also limits how often programs that do not identify themselves may look.
var ErrNotSeen = errors.New("the store's sign-in could not be looked at")

// Accounts describe the customer accounts of a store.
type Accounts struct {
	Kind string // "new", "legacy", or "" if the sign-in does not show it
	Host string // where new ones are, such as "shopify.com" or "account.brand.example"; "" if not seen
}

// DetectAccounts reads from a store's sign-in page which customer accounts the store has, because
// Shopify's Admin API would need a token. The headers in signed, nil for none, identify us to the
// storefront and go to no other host.
// Errors: ErrNotSeen. They name an address only if it cannot be reached.
func DetectAccounts(ctx context.Context, p Platform, shop Shop, signed http.Header) (accounts Accounts, err error) {
	ctx, cancel := context.WithTimeout(ctx, accountsTimeout)
	defer cancel()
	client := &http.Client{Transport: visitor(p), CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Host != via[0].URL.Host {
			maps.DeleteFunc(next.Header, func(name string, _ []string) bool { return signed[name] != nil })
		}
		if accounts.follow(via[0].URL, next.URL) && len(via) < accountsHops {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ShopURL(shop)+"/account/login", nil)
	if err != nil {
		return Accounts{}, ErrNotSeen
	}
	maps.Copy(request.Header, signed)
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "manage-subscriptions")
	response, err := client.Do(request)
	if err == nil {
		defer func() { _ = response.Body.Close() }()
	}
	switch {
	case accounts.Kind != "": // the rest of the way does not matter
		return accounts, nil
	case err != nil:
		return Accounts{}, fmt.Errorf("%w: %w", ErrNotSeen, errors.Unwrap(err))
	}
	page, err := io.ReadAll(io.LimitReader(response.Body, accountsBody))
	status := response.StatusCode
	switch {
	case err != nil:
		return Accounts{}, ErrNotSeen
	case status != http.StatusOK: // such as 403, 429 and 430 for a robot, or the way to a password page
		return Accounts{}, fmt.Errorf("%w: %d", ErrNotSeen, status)
	case loginForm.Match(page):
		accounts.Kind = "legacy"
	}
	return accounts, nil
}

// follow notes what a redirect shows, and reports whether to follow it. It leads to the sign-in page on
// the store's own domain, or on from the storefront to the host of current accounts.
func (a *Accounts) follow(from, to *url.URL) bool {
	host := strings.TrimSuffix(strings.ToLower(to.Host), ":443")
	signIn := strings.HasSuffix(to.Path, "/account/login") && host != "shopify.com"
	storefront := strings.HasPrefix(to.Path, "/customer_authentication/")
	elsewhere := host == "shopify.com" || strings.HasPrefix(host, "account.") && !signIn && !storefront ||
		a.Kind == "new" && strings.HasPrefix(to.Path, "/authentication/")
	if to.Scheme != from.Scheme {
		return false
	}
	if elsewhere {
		a.Host = host
	}
	if storefront || elsewhere {
		a.Kind = "new"
	}
	return !elsewhere && (storefront || signIn)
}

// visitor dials public addresses only. A merchant chooses the store's own domain, which could resolve to a
// machine in this network. An emulated shop is on a private address, so any address will do there.
func visitor(p Platform) *http.Transport {
	dialer := &net.Dialer{Timeout: accountsTimeout}
	if len(p.Shops) == 0 {
		dialer.Control = publicOnly
	}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: accountsTimeout, ForceAttemptHTTP2: true,
	}
}

func publicOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || at.Port() != 443 || !public(at.Addr().Unmap()) {
		return errors.New("not a public address")
	}
	return nil
}

// public also excludes special ranges that netip has no method for.
// https://www.iana.org/assignments/iana-ipv4-special-registry
func public(ip netip.Addr) bool {
	special := []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10",
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !slices.ContainsFunc(special, func(prefix string) bool {
		return netip.MustParsePrefix(prefix).Contains(ip)
	})
}
