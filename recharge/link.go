package recharge

import (
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Link opens a customer's portal. Its URL is a secret: whoever has it is in.
type Link struct {
	URL     string
	Expires time.Time // zero: not known
}

// Destination is a page of the portal: overview, subscriptions, schedule,
// orders, addresses, payment-methods, subscriptions/<id> or
// subscriptions/<id>/cancel. ParseDestination makes one.
type Destination string

// Subscriptions is the default: where "Manage Subscriptions" leads.
const Subscriptions Destination = "subscriptions"

var singleShape = regexp.MustCompile(`^subscriptions/[0-9]{1,19}(/cancel)?$`)

// ParseDestination reads a destination; anything else is the default.
func ParseDestination(s string) Destination {
	if _, page := pages()[Destination(s)]; page || singleShape.MatchString(s) {
		return Destination(s)
	}
	return Subscriptions
}

// page is what Recharge calls a destination.
type page struct {
	access string // page_destination of portal_access
	path   string // under the hash, in a link by hash
}

func pages() map[Destination]page {
	return map[Destination]page{
		"overview":        {"overview", "overview"},
		"subscriptions":   {"subscriptions", "subscriptions"},
		"schedule":        {"delivery_schedule", "schedule"},
		"orders":          {"orders", "orders"},
		"addresses":       {"shipping", "addresses"},
		"payment-methods": {"payment_methods", "payment_methods"},
	}
}

// single tells a destination inside one subscription.
func (d Destination) single() bool { return strings.Contains(string(d), "/") }

func (d Destination) portalAccess() string {
	if d.single() {
		d = Subscriptions
	}
	return pages()[d].access
}

func (d Destination) path() string {
	if d.single() {
		return string(d)
	}
	return pages()[d].path
}

// Locale is a language tag such as "fr" or "pt-BR"; "" leaves it to the portal.
type Locale string

var localeShape = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$`)

// ParseLocale reads a language tag; anything else is none.
func ParseLocale(s string) Locale {
	if !localeShape.MatchString(s) {
		return ""
	}
	return Locale(s)
}

// LinkByHash returns a link that needs no call: Recharge checks the storefront's
// sign-in itself, or asks for it.
// Errors: LinkRefused.
func (c *Client) LinkByHash(customer Customer, to Destination, locale Locale) (Link, error) {
	query := url.Values{}
	if locale != "" {
		query.Set("locale", string(locale))
	}
	target := portalPage(c.options.PortalURL, customer.Hash, to, query)
	if detail := c.guard.refuses(target, customer.Hash); detail != "" {
		return Link{}, &Error{Endpoint: "link by hash", Reason: LinkRefused, Detail: detail}
	}
	return Link{URL: target}, nil
}

// ByEmail is the path on the store's own host where Recharge finds a customer by
// e-mail address, for shoppers whom the id does not find. It is "" where the
// portal is not on that host, as Recharge then has no page there.
func (c *Client) ByEmail() string { return c.byEmail }

func byEmail(portal *url.URL) string {
	if strings.TrimRight(portal.Path, "/") != "/tools/recurring/portal" {
		return ""
	}
	return "/tools/recurring/get-subscription-access"
}

func portalPage(base *url.URL, hash string, to Destination, query url.Values) string {
	target := base.JoinPath(hash, to.path())
	target.RawQuery = query.Encode()
	return target.String()
}

// guard is the last to see a link. It lets one out only for https, a host of
// Recharge's, the shop's own or the configured portal's, with the customer's
// own hash in its path.
type guard struct {
	shop   string
	portal *url.URL
}

// refuses says what is wrong with a link, without repeating it; "" if nothing is.
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

// notInURL finds what browsers read otherwise than net/url: a backslash is a
// slash to them, a tab or newline nothing.
func notInURL(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }

func (g guard) trusts(u *url.URL) bool {
	if u.Scheme == g.portal.Scheme && u.Host == g.portal.Host {
		return true // https, or a test's loopback http: config takes no other
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

// printable is the host of a refused link, for the operator who has to configure
// it. It keeps out of the log what must not be there, wherever Recharge puts it.
func printable(u *url.URL, hash string) string {
	token := u.Query().Get("token")
	secret := strings.Contains(u.Host, hash) || token != "" && strings.Contains(u.Host, token)
	if secret || len(u.Host) > 100 || !hostShape.MatchString(u.Host) {
		return "(strange)"
	}
	return u.Host
}

// Allows tells whether a remembered link may still leave: it passes the guard
// anew, since the configuration may have changed since it was made.
func (c *Client) Allows(link Link, customer Customer) bool {
	return link.URL != "" && c.guard.refuses(link.URL, customer.Hash) == ""
}
