package shopify

import (
	"context"
	"errors"
	"fmt"
	"io"
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

var errNoVisit = errors.New("the store's sign-in cannot be seen")

// DetectAccounts reads from a store's sign-in page which customer accounts the store has, because
// Shopify's Admin API would need a token. It returns "new", "legacy", or "" if the page does not
// show it. Its errors name an address only if it cannot be reached.
func DetectAccounts(ctx context.Context, p Platform, shop Shop) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, accountsTimeout)
	defer cancel()
	isNew := false
	client := &http.Client{Transport: visitor(p), CheckRedirect: func(next *http.Request, via []*http.Request) error {
		var follow bool
		if isNew, follow = readRedirect(via[0].URL, next.URL); follow && len(via) < accountsHops {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ShopURL(shop)+"/account/login", nil)
	if err != nil {
		return "", errNoVisit
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "manage-subscriptions")
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoVisit, errors.Unwrap(err))
	}
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(response.Body, accountsBody))
	switch {
	case isNew:
		return "new", nil
	case err != nil:
		return "", errNoVisit
	case response.StatusCode == http.StatusOK && loginForm.Match(page):
		return "legacy", nil
	}
	return "", nil
}

// readRedirect reports whether a redirect leads to the sign-in of new accounts. If it does not,
// follow reports whether it leads to the sign-in page on the store's own domain.
func readRedirect(from, to *url.URL) (isNew, follow bool) {
	isNew = strings.HasPrefix(to.Path, "/customer_authentication/") || to.Host == "shopify.com" ||
		strings.HasPrefix(to.Host, "account.")
	return isNew, !isNew && to.Scheme == from.Scheme && strings.HasSuffix(to.Path, "/account/login")
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
