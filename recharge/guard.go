package recharge

// This file holds the rules for where a link may lead. They are the last check before a shopper
// gets a link.

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// guard allows a link only if it is https, leads to a host of Recharge, of the shop or of the
// configured portal, and names the customer by their own hash.
type guard struct {
	shop   string
	portal *url.URL // from ParsePortalURL
}

// guarded returns target as a link if the guard allows it.
// Errors: LinkRefused.
func (c *Client) guarded(endpoint, target string, customer Customer, expires time.Time) (Link, error) {
	if detail := c.guard.refuses(target, customer.Hash); detail != "" {
		return Link{}, &Error{Endpoint: endpoint, Reason: LinkRefused, Detail: detail}
	}
	return Link{URL: target, Expires: expires}, nil
}

// refuses returns what is wrong with a link, without quoting it, or "" if nothing is.
func (g guard) refuses(link, hash string) string {
	u, err := url.Parse(link)
	switch {
	case err != nil || strings.ContainsFunc(link, notInURL):
		return "not a URL"
	case u.User != nil || u.Opaque != "" || u.Fragment != "":
		return "user, opaque part or fragment"
	case !g.trusts(u):
		return "host " + printable(u, hash) + " is neither Recharge's, the shop's nor RECHARGE_PORTAL_URL's, or not https"
	case !names(u, hash):
		return "the customer's hash is not in its path"
	}
	return ""
}

// notInURL reports whether browsers read a rune differently from net/url. Browsers take a backslash
// for a slash, and ignore tabs and newlines.
func notInURL(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }

// trusts reports whether a link may lead to this scheme and host.
func (g guard) trusts(u *url.URL) bool {
	if u.Scheme == g.portal.Scheme && u.Host == g.portal.Host {
		return true
	}
	recharge := strings.HasSuffix(u.Host, ".rechargeapps.com")
	return u.Scheme == "https" && (u.Host == g.shop || recharge && hostShape.MatchString(u.Host))
}

// hostShape allows no port, because none of these hosts has one.
var hostShape = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

// accountPage is the only page that has the hash in its query.
const accountPage = "account/payment-methods"

// names reports whether a link has the hash where Recharge reads it, which is a segment of the path,
// except on accountPage.
func names(u *url.URL, hash string) bool {
	inQuery := strings.HasSuffix(u.Path, "/pages/"+accountPage)
	found := inQuery && !strings.Contains(u.RawQuery, ";") && slices.Equal(u.Query()["hash"], []string{hash})
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if segment == "." || segment == ".." || strings.Contains(segment, "%") {
			return false // a browser may resolve these to another path
		}
		found = found || !inQuery && segment == hash
	}
	return found && hash != ""
}

// printable returns the host of a refused link, for the operator who has to configure it. It hides
// a host that is malformed or contains a secret.
func printable(u *url.URL, hash string) string {
	token := u.Query().Get("token")
	secret := strings.Contains(u.Host, hash) || token != "" && strings.Contains(u.Host, token)
	if secret || len(u.Host) > 100 || !hostShape.MatchString(u.Host) {
		return "(strange)"
	}
	return u.Host
}

var errPortalURL = errors.New("not the address of a portal")

// ParsePortalURL parses the base of hash links, as a merchant types it or Recharge sends it. It
// must be https (or http on a loopback address, for tests), with nothing after the path. Its host may be
// private only if the one of app is, where Shopify reaches this server. The result ends in a slash.
func ParsePortalURL(text string, app *url.URL) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > 300 || strings.ContainsFunc(text, notInURL) || strings.ContainsAny(text, "?#") ||
		u.User != nil || u.Opaque != "" || !portalHost(u) || !portalPath(u) || private(u) && !private(app) {
		return nil, errPortalURL
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func portalHost(u *url.URL) bool {
	if Loopback(u.Hostname()) {
		return u.Scheme == "https" || u.Scheme == "http"
	}
	return u.Scheme == "https" && hostShape.MatchString(strings.ToLower(u.Host))
}

// private reports whether a host has no public name, because its last label is reserved, starts with a
// digit (as in 127.0.0.1 and 0x7f.1), or is the only one (as in localhost, 2130706433 and ::1).
func private(u *url.URL) bool {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	domain := host[strings.LastIndex(host, ".")+1:]
	reserved := []string{"arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"}
	return domain == host || domain < "a" || slices.Contains(reserved, domain)
}

// portalPath reports whether a path has nothing escaped and nothing that a browser would resolve,
// because names refuses links that do.
func portalPath(u *url.URL) bool {
	path := u.EscapedPath()
	return u.RawPath == "" && !strings.Contains(path, "%") &&
		!strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

// Loopback reports whether a host, without its port, is this machine.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
