package recharge

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

var errPortalURL = errors.New("not the address of a portal")

// DefaultPortal returns the address of a portal that Recharge shows on the store's
// own host.
func DefaultPortal(shop string) *url.URL {
	return &url.URL{Scheme: "https", Host: shop, Path: "/tools/recurring/portal/"}
}

// ParsePortalURL reads the base of links by hash, as a merchant types it or Recharge
// sends it: https (http on a loopback address, for tests), with nothing after the
// path. The result ends in a slash.
func ParsePortalURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsFunc(text, notInURL) || len(text) > 300 ||
		!plain(u, text) || !goodHost(u) || !goodPath(u) {
		return nil, errPortalURL
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// plain reports whether a URL is absolute and has nothing but host and path.
func plain(u *url.URL, text string) bool {
	return u.Host != "" && u.Opaque == "" && u.User == nil && !strings.ContainsAny(text, "?#")
}

func goodHost(u *url.URL) bool {
	if loopback(u.Hostname()) {
		return u.Scheme == "https" || u.Scheme == "http"
	}
	return u.Scheme == "https" && hostShape.MatchString(strings.ToLower(u.Host))
}

// goodPath reports whether a path holds nothing that a browser would resolve and
// nothing that is escaped or would be in a link. The guard refuses such links.
func goodPath(u *url.URL) bool {
	path := u.EscapedPath()
	return u.RawPath == "" && !strings.Contains(path, "%") &&
		!strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
