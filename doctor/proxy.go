package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

const askStore = "pass --store-url, the storefront's address"

// theProxy are the settings that Shopify's proxy needs, as its page names them.
const theProxy = "in the app's configuration set the proxy to prefix apps, subpath subscriptions, url APP_URL" + proxyPath + ", release it, and install the app in the store"

// proxy are the checks of the way through Shopify.
func (d *doctor) proxy() []step {
	reached := false
	return []step{
		{"proxy.reach", "the storefront's " + d.path() + "/doctor, with a probe", func(ctx context.Context) result {
			if d.StoreURL == "" {
				return skipped("the storefront is not known", askStore)
			}
			r := d.throughShopify(ctx)
			reached = r.status == OK || r.status == Warn && strings.HasPrefix(r.found, "this server")
			return r
		}},
		{"proxy.redirect", "whether a 302 of the server's arrives at the browser", func(ctx context.Context) result {
			switch {
			case d.StoreURL == "":
				return skipped("the storefront is not known", askStore)
			case !reached:
				return skipped("the server was not reached", "mend proxy.reach")
			}
			return d.hop(ctx)
		}},
	}
}

func (d *doctor) path() string {
	if d.Path == "" {
		return proxyPath
	}
	return "/" + strings.Trim(d.Path, "/")
}

// ask asks the server with a probe, through Shopify.
func (d *doctor) ask(ctx context.Context, more url.Values) (page, *url.URL, string, error) {
	store, err := url.Parse(d.StoreURL)
	if err != nil {
		return page{}, nil, "", err
	}
	// As a browser writes it, and a Location does.
	store.Host = strings.TrimSuffix(strings.ToLower(store.Host), map[string]string{"https": ":443", "http": ":80"}[store.Scheme])
	probe := d.probes.New()
	query := url.Values{"probe": {probe}}
	for name, values := range more {
		query[name] = values
	}
	at := store.JoinPath(d.path(), "doctor")
	at.RawQuery = query.Encode()
	got, err := d.get(ctx, "the storefront", at.String())
	return got, at, probe, err
}

// GoodStoreURL tells the address of a storefront: https, or http on loopback, which
// is a test.
func GoodStoreURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && loopback
}

func (d *doctor) throughShopify(ctx context.Context) result {
	got, at, probe, err := d.ask(ctx, nil)
	if err != nil {
		return unreachedAt(err, "--store-url", "the storefront")
	}
	if r := notReached(got, at); r.status != "" {
		return r
	}
	answer, mine := d.answered(got, probe)
	switch {
	case !mine:
		return fail(fmt.Sprintf("status %d, an answer of somebody else's: Shopify does not lead to this program", got.status), theProxy)
	case d.Shop != "" && answer.Shop != d.Shop:
		return fail("it is another store's storefront", "pass --store-url of the store in SHOPIFY_SHOP")
	case answer.PathPrefix != d.path():
		return warn("this server, with the prefix "+answer.PathPrefix, "let themes link to "+answer.PathPrefix)
	}
	return ok("this server, with the prefix " + answer.PathPrefix)
}

// notReached reads an answer that is Shopify's own, or our refusal; the zero result
// if it is neither.
func notReached(got page, at *url.URL) result {
	const noPassword = "take the password off in Online Store, Preferences; the proxy cannot be tried before"
	switch {
	case got.status >= 300 && got.status < 400:
		return moved(got, at, noPassword)
	case got.status == http.StatusOK && strings.Contains(got.body, `action="/password"`):
		return fail("the store's password page", noPassword)
	case ours(got):
		return fail("403 of this program: what Shopify signs, it does not take", "set SHOPIFY_API_SECRET of the server to the client secret of the app that has the proxy, and see the line clock")
	case got.status == http.StatusNotFound:
		return fail("404: the store knows no such path", theProxy+"; if the merchant has renamed it, pass --path")
	case got.status == http.StatusTooManyRequests || got.status == statusSuspicious:
		return warn(fmt.Sprintf("%d: Shopify is asked too often", got.status), "ask again in a minute")
	case got.status == http.StatusForbidden || got.status == http.StatusUnauthorized:
		return fail(fmt.Sprintf("%d, not this program's: something before it refuses", got.status), "let Shopify's requests through to the server, whatever protects it (firewall, bot protection)")
	case got.status >= 500:
		return fail(fmt.Sprintf("%d: Shopify did not get an answer of the server's", got.status), "see app.reach, and that the proxy's url in the app's configuration is APP_URL"+proxyPath)
	}
	return result{}
}

// moved reads a redirect that is not of the server's.
func moved(got page, at *url.URL, noPassword string) result {
	to, err := url.Parse(got.header.Get("Location"))
	switch {
	case err == nil && (to.Path == "/password" || strings.HasSuffix(to.Path, "/password")):
		return fail("the store's password page", noPassword)
	case err == nil && to.Host != "" && to.Host != at.Host && plainHost.MatchString(to.Host):
		return fail("the storefront is at "+to.Host, "pass --store-url "+at.Scheme+"://"+to.Host)
	}
	return fail(fmt.Sprintf("status %d, to another page", got.status), "pass --store-url as a shopper's browser shows it, without a path")
}

// statusSuspicious is Shopify's own, for who asks like a machine.
const statusSuspicious = 430

var plainHost = regexp.MustCompile(`^[a-z0-9.-]{1,100}(:[0-9]{1,5})?$`)

// hop asks for a 302 into the same store, and looks who gets it.
func (d *doctor) hop(ctx context.Context) result {
	got, at, _, err := d.ask(ctx, url.Values{"hop": {"302"}})
	if err != nil {
		return unreachedAt(err, "--store-url", "the storefront")
	}
	// Our own refusal is Shopify's, who has followed the redirect by itself.
	if got.status >= http.StatusBadRequest && !ours(got) {
		if r := notReached(got, at); r.status != "" {
			return r
		}
		return fail(fmt.Sprintf("status %d, which says nothing of redirects", got.status), "ask again in a minute")
	}
	to, err := url.Parse(got.header.Get("Location"))
	arrived := err == nil && got.status == http.StatusFound && strings.HasSuffix(to.Path, "/doctor/arrived") && (to.Host == "" || to.Host == at.Host)
	switch {
	case arrived:
		return ok("it does")
	case d.Config.RedirectByPage:
		return ok(fmt.Sprintf("it does not (status %d): REDIRECT=page is right", got.status))
	}
	return fail(fmt.Sprintf("it does not: status %d, or another Location", got.status), "set REDIRECT=page")
}
