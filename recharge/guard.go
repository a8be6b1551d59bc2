package recharge

// This file is the last to see a link before a shopper gets it.

import (
	"net/url"
	"regexp"
	"strings"
)

// guard lets a link out only if it is https, leads to a host of Recharge's, of the
// shop or of the configured portal, and has the customer's own hash in its path.
type guard struct {
	shop   string
	portal *url.URL
}

// refuses returns what is wrong with a link, without repeating it; "" if nothing is.
func (g guard) refuses(link, hash string) string {
	u, err := url.Parse(link)
	switch {
	case err != nil || strings.ContainsFunc(link, notInURL):
		return "not a URL"
	case u.User != nil || u.Opaque != "" || u.Fragment != "":
		return "user, opaque part or fragment"
	case !g.trusts(u):
		return "host " + printable(u, hash) + " is neither Recharge's, the shop's nor RECHARGE_PORTAL_URL's, or not https"
	case !hasSegment(u, hash):
		return "the customer's hash is not in its path"
	}
	return ""
}

// notInURL reports whether browsers read a rune differently from net/url: to them a
// backslash is a slash, and a tab or newline is nothing.
func notInURL(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }

func (g guard) trusts(u *url.URL) bool {
	if u.Scheme == g.portal.Scheme && u.Host == g.portal.Host {
		return true // https, or http on a test's loopback address: config takes nothing else
	}
	recharge := strings.HasSuffix(u.Host, ".rechargeapps.com")
	return u.Scheme == "https" && (u.Host == g.shop || recharge && hostShape.MatchString(u.Host))
}

// hostShape has no port: none of these hosts has one.
var hostShape = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

func hasSegment(u *url.URL, hash string) bool {
	found := false
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if segment == "." || segment == ".." || strings.Contains(segment, "%") {
			return false // a browser may resolve these to another path
		}
		found = found || segment == hash
	}
	return found && hash != ""
}

// printable returns the host of a refused link, for the operator who has to
// configure it. A host that holds a secret or has no host's shape is not shown.
func printable(u *url.URL, hash string) string {
	token := u.Query().Get("token")
	secret := strings.Contains(u.Host, hash) || token != "" && strings.Contains(u.Host, token)
	if secret || len(u.Host) > 100 || !hostShape.MatchString(u.Host) {
		return "(strange)"
	}
	return u.Host
}
