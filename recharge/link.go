package recharge

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Link opens a customer's portal at one page. Its URL is a secret.
type Link struct {
	URL     string
	Expires time.Time // zero if unknown
}

// Destination is a page of the portal: overview, subscriptions, schedule, orders, addresses, gifts,
// payment-methods or subscriptions/<id>. Or it is a task: payment-method/update, gifts/<id> or
// subscriptions/<id>/cancel. ParseDestination makes one.
type Destination string

// Subscriptions is the default, and the page behind a "Manage Subscriptions" link.
const Subscriptions Destination = "subscriptions"

var destinationShape = regexp.MustCompile(
	`^(overview|schedule|orders|addresses|payment-methods|payment-method/update|gifts(/[0-9]{1,19})?|` +
		`subscriptions(/[0-9]{1,19}(/cancel)?)?)$`)

// ParseDestination reads a destination. It returns the default for anything else.
func ParseDestination(s string) Destination {
	if !destinationShape.MatchString(s) {
		return Subscriptions
	}
	return Destination(s)
}

// names returns Recharge's names for a destination: the page_destination of portal_access, which
// cannot be a single subscription or a task, and the path after the hash.
func (d Destination) names() (access, path string) {
	switch {
	case d == "schedule":
		return "delivery_schedule", "schedule"
	case d == "addresses":
		return "shipping", "addresses"
	case strings.HasPrefix(string(d), "payment-method"):
		return "payment_methods", "payment_methods"
	case strings.HasPrefix(string(d), "gifts"): // no page of the portal is known to list them
		return "overview", "overview"
	case d.single():
		return string(Subscriptions), string(d)
	}
	return string(d), string(d)
}

// single reports whether the destination is about one subscription, or a task.
func (d Destination) single() bool { return strings.Contains(string(d), "/") }

// Locale is a language tag such as "fr" or "pt-BR"; "" leaves it to the portal.
type Locale string

var localeShape = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$`)

// ParseLocale reads a language tag. It returns "" for anything else.
func ParseLocale(s string) Locale {
	if !localeShape.MatchString(s) {
		return ""
	}
	return Locale(s)
}

// Country is two uppercase letters, such as "FR"; "" leaves it to the portal.
type Country string

var countryShape = regexp.MustCompile(`^[A-Za-z]{2}$`)

// ParseCountry reads a country in either case. It returns "" for anything else.
func ParseCountry(s string) Country {
	if !countryShape.MatchString(s) {
		return ""
	}
	return Country(strings.ToUpper(s))
}

// Visit is what a shopper wants to see in the portal.
type Visit struct {
	To      Destination
	Locale  Locale
	Country Country
	Return  string // where the page for a task leads back to; see WayBack
}

// query returns the parameters that a visit adds to an address. Recharge documents region_country
// for portal_access. We do not know whether the portal's pages read it.
func (v Visit) query() url.Values {
	query := url.Values{}
	if v.Locale != "" {
		query.Set("locale", string(v.Locale))
	}
	if v.Country != "" {
		query.Set("region_country", string(v.Country))
	}
	return query
}

// Access opens every page of one customer's portal until it expires. It is a secret.
type Access struct {
	Redacted

	Base      string // of the portal's addresses
	TempToken string
	Expires   time.Time // zero if unknown
}

const redacted = "[redacted]"

// Redacted is embedded in a type that must not be printed. Every way of printing it gives "[redacted]".
type Redacted struct{}

// Format covers every verb of fmt, %x and %d included.
func (Redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String covers printers that do not use fmt.
func (Redacted) String() string { return redacted }

// MarshalText covers log/slog, encoding/json and every other text encoder.
func (Redacted) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// url returns an address in the portal, or "" if a part is missing. It joins strings because that
// is fast, and most clicks do nothing else. The guard then parses the result and looks for the hash.
// As in Recharge's SDK, the page for a task is beside a portal, whose path ends in the segment portal.
func (c *Client) url(a Access, hash string, visit Visit) string {
	if a.Base == "" || a.TempToken == "" {
		return ""
	}
	base, query := strings.TrimSuffix(a.Base, "/"), visit.query()
	query.Set("token", a.TempToken)
	_, page := visit.To.names()
	kind, id, deeper := strings.Cut(string(visit.To), "/")
	id, cancels := strings.CutSuffix(id, "/cancel")
	beside, found := strings.CutSuffix(base, "/portal")
	found = found && !strings.HasSuffix(beside, "/") // that would be a host
	switch {
	case found && kind == "payment-method":
		query.Set("hash", hash)
		return beside + "/pages/" + accountPage + "?" + query.Encode()
	case found && cancels:
		query.Set("subscription", id)
		fallthrough
	case found && deeper && kind == "gifts":
		query.Set("redirect_to", c.WayBack(visit.Return))
		base, page = beside+"/pages", string(visit.To)
	}
	return base + "/" + hash + "/" + page + "?" + query.Encode()
}

// WayBack returns the address that the page for a task leads back to. Recharge may host that page, so a path
// becomes an address. If its host is not the store's or its portal's, or is Recharge's, it is the home page.
func (c *Client) WayBack(to string) string {
	home, _ := c.options.PortalURL.Parse("/")
	if c.ByEmail() == "" { // the portal is not on the host where the shopper is signed in to the store
		home = &url.URL{Scheme: "https", Host: c.options.Shop, Path: "/"}
	}
	back, err := home.Parse(to)
	if err != nil || back.User != nil || strings.ContainsFunc(to, notInURL) ||
		!c.guard.trusts(back) || strings.HasSuffix(back.Host, ".rechargeapps.com") {
		back = home
	}
	return back.String()
}

// SignedInLink builds a link from an access, which must be the customer's. It makes no call. The
// guard checks the link each time, because the configuration may have changed since the access was
// made.
// Errors: LinkRefused; Malformed if a part of the access is missing.
func (c *Client) SignedInLink(customer Customer, access Access, visit Visit) (Link, error) {
	const endpoint = "signed-in link"
	target := c.url(access, customer.Hash, visit)
	if target == "" {
		return Link{}, &Error{Endpoint: endpoint, Reason: Malformed}
	}
	return c.guarded(endpoint, target, customer, access.Expires)
}

// DefaultPortal returns the address of a portal that Recharge shows on the store's
// own host.
func DefaultPortal(shop string) string { return "https://" + shop + "/tools/recurring/portal/" }

// LinkByHash returns a link that needs no call. Recharge checks itself whether the shopper is
// signed in to the storefront, and asks for it if not.
// Errors: LinkRefused.
func (c *Client) LinkByHash(customer Customer, visit Visit) (Link, error) {
	_, path := visit.To.names()
	target := c.options.PortalURL.JoinPath(customer.Hash, path)
	target.RawQuery = visit.query().Encode()
	return c.guarded("link by hash", target.String(), customer, time.Time{})
}

// ByEmail returns the path on the store's own host where Recharge finds a customer by e-mail
// address, for shoppers who cannot be found by id. It returns "" if the portal is on another host,
// because Recharge then has no such page.
func (c *Client) ByEmail() string {
	if strings.TrimRight(c.options.PortalURL.Path, "/") != "/tools/recurring/portal" {
		return ""
	}
	return "/tools/recurring/get-subscription-access"
}
