package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"manage-subscriptions/recharge"
)

const (
	// proxySettings are what the app's proxy needs, as Shopify's page names it.
	proxySettings = "in the app's configuration set the proxy to prefix apps, subpath subscriptions, url APP_URL" +
		proxyPath + ", release it, and install the app in the store"
	noPassword = "remove the password in Online Store, Preferences: the proxy cannot be checked before"
	// statusSuspicious is Shopify's own, for a client that looks like a machine.
	statusSuspicious = 430
)

// proxy checks the way through Shopify.
func (d *doctor) proxy(ctx context.Context) []Check {
	return each(ctx, []step{
		{"proxy.reach", "GET " + d.path() + "/status on the storefront", "", func(ctx context.Context) result {
			if d.StoreURL == "" {
				return skipped("the storefront is not known", "pass --store-url, the storefront's address")
			}
			got, at, err := d.visit(ctx, "status")
			switch {
			case err != nil:
				return unreachable(err, "--store-url", "the storefront")
			case !got.signedOut():
				return notReached(got, at)
			}
			return got.answers("this program answers")
		}},
		{"proxy.redirect", "whether the 302 of a signed-out click arrives at the browser", "proxy.reach",
			func(ctx context.Context) result {
				got, at, err := d.visit(ctx, "")
				if err != nil {
					return unreachable(err, "--store-url", "the storefront")
				}
				return d.redirect(got, at)
			}},
	})
}

func (d *doctor) path() string {
	if d.Path == "" {
		return proxyPath
	}
	return "/" + strings.Trim(d.Path, "/")
}

// visit asks the storefront for a page of the app's, as a visitor who is not signed in.
func (d *doctor) visit(ctx context.Context, name string) (got page, at *url.URL, err error) {
	at, err = parseStoreURL(d.StoreURL)
	if err != nil {
		return got, nil, err
	}
	// As browsers write it, and a Location does.
	at.Host = strings.TrimSuffix(strings.ToLower(at.Host), map[string]string{"https": ":443", "http": ":80"}[at.Scheme])
	at = at.JoinPath(d.path(), name)
	got, err = d.get(ctx, "the storefront", at.String())
	return got, at, err
}

// parseStoreURL reads the address of a storefront.
func parseStoreURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	safe := u.Scheme == "https" || u.Scheme == "http" && recharge.Loopback(strings.ToLower(u.Hostname()))
	if !safe || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not the address of a storefront")
	}
	return u, nil
}

// notReached says what an answer is that is not this program's, or is its refusal.
func notReached(got page, at *url.URL) result {
	switch {
	case got.status >= 300 && got.status < 400:
		return moved(got, at)
	case got.status == http.StatusOK && strings.Contains(got.body, `action="/password"`):
		return fail("the store's password page", noPassword)
	case got.refused():
		return fail("403 of this program: it refuses what Shopify has signed",
			"set SHOPIFY_API_SECRET of the server to the client secret of the app that has the proxy, and see the line clock")
	case got.status == http.StatusNotFound:
		return fail("404: the store has no such path", proxySettings+"; if the merchant has renamed it, pass --path")
	case got.status == http.StatusTooManyRequests || got.status == statusSuspicious:
		return warn(fmt.Sprintf("%d: too many requests to Shopify", got.status), "run doctor again in a minute")
	case got.status == http.StatusForbidden || got.status == http.StatusUnauthorized:
		return fail(fmt.Sprintf("%d, not this program's: something in front of it refuses", got.status),
			"let Shopify's requests through what protects the server (firewall, bot protection)")
	case got.status >= 500:
		return fail(fmt.Sprintf("%d: Shopify got no answer from the server", got.status),
			"see app.reach, and check that the proxy's url in the app's configuration is APP_URL"+proxyPath)
	}
	return fail(fmt.Sprintf("status %d, another program's answer: Shopify does not forward to this one", got.status),
		proxySettings)
}

var plainHost = regexp.MustCompile(`^[a-z0-9.-]{1,100}(:[0-9]{1,5})?$`)

// moved says where a redirect of the store's own leads.
func moved(got page, at *url.URL) result {
	to, err := url.Parse(got.header.Get("Location"))
	switch {
	case err == nil && strings.HasSuffix(to.Path, "/password"):
		return fail("the store's password page", noPassword)
	case err == nil && to.Host != "" && to.Host != at.Host && plainHost.MatchString(to.Host):
		return fail("the storefront is at "+to.Host, "pass --store-url "+at.Scheme+"://"+to.Host)
	}
	return fail(fmt.Sprintf("status %d, to another page", got.status),
		"pass --store-url as a shopper's browser shows it, without a path")
}

// redirect reads the answer to a signed-out click, which is a 302 to the sign-in.
func (d *doctor) redirect(got page, at *url.URL) result {
	if prefix := signInPrefix(got, at); prefix != "" {
		if prefix != d.path() {
			return warn("it does, with the prefix "+prefix, "let themes link to "+prefix)
		}
		return ok("it does, with the prefix " + prefix)
	}
	switch {
	case strings.Contains(got.body, `data-outcome="not_connected"`):
		return fail("the page not_connected: it is another store's storefront, or the store has not connected Recharge",
			"pass --store-url of the store that is checked, or connect it")
	// Our own refusal is an answer to Shopify, which has followed the redirect by itself.
	case got.status >= http.StatusInternalServerError,
		got.status == http.StatusTooManyRequests, got.status == statusSuspicious:
		return notReached(got, at)
	case got.status >= http.StatusBadRequest && !got.refused():
		return fail(fmt.Sprintf("status %d, which says nothing about redirects", got.status), "run doctor again in a minute")
	case d.Config.RedirectByPage:
		return ok(fmt.Sprintf("status %d, no 302: REDIRECT=page needs none", got.status))
	}
	return fail(fmt.Sprintf("it does not: status %d, or another Location", got.status), "set REDIRECT=page")
}

// signInPrefix returns the app's path on the storefront, as the server has it from
// Shopify, if a page is the server's redirect to the sign-in; else "".
func signInPrefix(got page, at *url.URL) string {
	to, err := url.Parse(got.header.Get("Location"))
	if err != nil || got.status != http.StatusFound || to.Host != "" && to.Host != at.Host {
		return ""
	}
	var back string
	switch {
	case strings.HasSuffix(to.Path, "/customer_authentication/login"):
		back = to.Query().Get("return_to")
	case strings.HasSuffix(to.Path, "/account/login"):
		back = to.Query().Get("return_url")
	}
	u, err := url.Parse(back)
	if err != nil || !u.Query().Has("ms_returned") || !plainPath.MatchString(u.Path) {
		return ""
	}
	return u.Path
}

var plainPath = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,5}$`)
