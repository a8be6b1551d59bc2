package recharge

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

var errPortalURL = errors.New("not the address of a portal")

// DefaultPortal is where a store's portal is that Recharge shows on the store's
// own host.
func DefaultPortal(shop string) *url.URL {
	return &url.URL{Scheme: "https", Host: shop, Path: "/tools/recurring/portal/"}
}

// ParsePortalURL reads the base of links by hash, as a merchant types it or
// Recharge says it: https (http is for a loopback address, which is a test), with
// nothing behind the path. It ends in a slash afterwards.
func ParsePortalURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsFunc(text, notInURL) || len(text) > 300 || !plain(u, text) || !goodHost(u) || !goodPath(u) {
		return nil, errPortalURL
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// plain tells an absolute URL with nothing but host and path.
func plain(u *url.URL, text string) bool {
	return u.Host != "" && u.Opaque == "" && u.User == nil && !strings.ContainsAny(text, "?#")
}

func goodHost(u *url.URL) bool {
	if loopback(u.Hostname()) {
		return u.Scheme == "https" || u.Scheme == "http"
	}
	return u.Scheme == "https" && hostShape.MatchString(strings.ToLower(u.Host))
}

// goodPath has nothing in it that a browser would resolve, and nothing that is
// escaped, or that is when a link is put together: the guard lets out no such link.
func goodPath(u *url.URL) bool {
	path := u.EscapedPath()
	return u.RawPath == "" && !strings.Contains(path, "%") && !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
