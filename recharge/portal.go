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
	switch {
	case err != nil || strings.ContainsFunc(text, notInURL) || len(text) > 300:
		return nil, errPortalURL
	case u.Host == "" || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return nil, errPortalURL
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, errPortalURL
	case u.Scheme == "https" && !loopback(u.Hostname()) && !hostShape.MatchString(u.Host):
		return nil, errPortalURL
	case strings.Contains(u.EscapedPath(), "%") || strings.Contains(u.Path, "//") || strings.Contains(u.Path, ".."):
		return nil, errPortalURL
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
