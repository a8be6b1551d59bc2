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
	"strings"
	"syscall"
	"time"
)

const (
	accountsTimeout = 5 * time.Second
	accountsHops    = 4
	accountsBody    = 256 << 10
)

// DetectAccounts detects which customer accounts a store has from its sign-in page. It
// returns "new", "legacy", or "" if the page does not show it. Shopify's Admin API would
// need a token.
func DetectAccounts(ctx context.Context, p Platform, shop Shop) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, accountsTimeout)
	defer cancel()
	client := &http.Client{
		Transport:     visitor(p),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	at := p.ShopURL(shop) + "/account/login"
	for range accountsHops {
		found, next, err := visit(ctx, client, at)
		if err != nil || found != "" || next == "" {
			return found, err
		}
		at = next
	}
	return "", nil
}

// visit reads one page. A store with legacy accounts has a form there. One with new
// accounts redirects to Shopify. A redirect to the same page on another host leads to the
// store's own domain.
func visit(ctx context.Context, client *http.Client, at string) (found, next string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", "", errNoVisit
	}
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "manage-subscriptions")
	response, err := client.Do(request)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errNoVisit, errors.Unwrap(err)) // without the address
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, accountsBody))
	if err != nil {
		return "", "", errNoVisit
	}
	if response.StatusCode == http.StatusOK {
		return readLogin(string(body)), "", nil
	}
	to, err := response.Location()
	if err != nil {
		return "", "", nil // no redirect either
	}
	return readRedirect(request.URL, to)
}

var errNoVisit = errors.New("the store's sign-in cannot be seen")

// loginForm is the sign-in form of legacy accounts, in any language of the store.
// Compiled once and never changed.
var loginForm = regexp.MustCompile(`action="(/[A-Za-z]{2,3}(-[A-Za-z]{2,4})?)?/account/login["?]`)

func readLogin(page string) string {
	if loginForm.MatchString(page) {
		return "legacy"
	}
	return ""
}

func readRedirect(from, to *url.URL) (found, next string, err error) {
	switch {
	case strings.HasPrefix(to.Path, "/customer_authentication/"), to.Host == "shopify.com",
		strings.HasPrefix(to.Host, "account."):
		return "new", "", nil
	case to.Path == "/password":
		return "", "", nil
	case to.Scheme != from.Scheme || !strings.HasSuffix(to.Path, "/account/login"), !writable(to):
		return "", "", nil
	}
	return "", to.String(), nil
}

// writable reports whether a URL can be written and read again. A host of odd bytes can
// only be read.
func writable(u *url.URL) bool {
	_, err := url.Parse(u.String())
	return err == nil
}

// visitor dials public addresses only. A merchant chooses the store's own domain, which
// could resolve to a machine in this network. An emulator does.
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

// notPublic returns ranges that netip has no method for.
// https://www.iana.org/assignments/iana-ipv4-special-registry
func notPublic() []string {
	return []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10",
	}
}

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, text := range notPublic() {
		if prefix, err := netip.ParsePrefix(text); err != nil || prefix.Contains(ip) {
			return false
		}
	}
	return true
}
