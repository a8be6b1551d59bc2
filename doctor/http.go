package doctor

// This file checks the server at APP_URL, directly and through Shopify, and the store's sign-in.

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const (
	// proxyPath is the path of the routes on the server. A merchant may have changed it on the
	// storefront, but not here.
	proxyPath = "/apps/subscriptions"
	// certificateWarns is how long before it expires a 90-day certificate should have been renewed.
	certificateWarns = 14 * 24 * time.Hour
	// pageLimit is how many bytes of an answer are read.
	pageLimit = 256 << 10
	// statusSignedOut is the server's answer at /status for a visitor who is not signed in.
	statusSignedOut = `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`
	// statusSuspicious is Shopify's own status for a client that looks like a bot.
	statusSuspicious = 430
)

var (
	refusal     = regexp.MustCompile(`^403 Forbidden\nRequest id: [a-z0-9]{6,20}\n$|<main data-outcome="forbidden">`)
	plainHost   = regexp.MustCompile(`^[a-z0-9.-]{1,100}(:[0-9]{1,5})?$`)
	headerValue = regexp.MustCompile(`^[ -~]+$`)
	plainPath   = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,5}$`)
)

// newClient returns a client that follows no redirect.
func newClient(roots *x509.CertPool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: noRedirect}
}

// page is an answer whose body has been read.
type page struct {
	status int
	header http.Header
	body   string
	tls    *tls.ConnectionState
}

// get fetches a page, with a header of our own. clock names the server whose clock the Date header shows.
func (d *doctor) get(ctx context.Context, clock, address string, header http.Header) (page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return page{}, err
	}
	maps.Copy(request.Header, header)
	request.Header.Set("User-Agent", "manage-subscriptions doctor")
	response, err := d.client.Do(request)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = response.Body.Close() }()
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err == nil && response.Header.Get("Age") == "" { // with an Age, it is an old Date from a cache
		d.clocks.Store(clock, date.Sub(d.Now()).Round(time.Second))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, pageLimit))
	return page{response.StatusCode, response.Header, string(body), response.TLS}, err
}

// refused reports whether a page is this program's refusal.
func (p page) refused() bool {
	return p.status == http.StatusForbidden && refusal.MatchString(p.body)
}

// signedOut reports whether a page is this program's answer to a signed request for /status from a
// visitor who is not signed in.
func (p page) signedOut() bool {
	json := strings.HasPrefix(p.header.Get("Content-Type"), "application/json")
	return p.status == http.StatusOK && json && strings.TrimSpace(p.body) == statusSignedOut
}

// tooMany reports whether Shopify has had too many requests from us.
func (p page) tooMany() bool {
	return p.status == http.StatusTooManyRequests || p.status == statusSuspicious
}

// answers returns the result for a page that is signedOut.
func (p page) answers(found string) Check {
	uncached := strings.Contains(p.header.Get("Cache-Control"), "no-store")
	check := first([]verdict{{uncached, ok(found)}}, warn("%s, without its Cache-Control: no-store", found))
	check.goesOn = true
	return check
}

// unreachable returns the result for a server, what, that did not answer at the address in setting.
// It leaves out the address, which net/http puts into its errors.
func unreachable(err error, setting, what string) Check {
	runs := "check that " + what + " runs at the address in " + setting + ", and that no firewall is between"
	_, strange := errors.AsType[x509.HostnameError](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	network, failed := errors.AsType[net.Error](err)
	_, unnamed := errors.AsType[*net.DNSError](err)
	noTLS := strings.Contains(err.Error(), "tls:") || errors.Is(err, http.ErrSchemeMismatch)
	return first([]verdict{
		{invalid.Reason == x509.Expired,
			fail("its certificate has expired or is not valid yet").fix("renew the certificate of " + what)},
		{strange, fail("its certificate is for another host").fix("get a certificate for the host in " + setting)},
		{distrusted, fail("its certificate is not trusted").
			fix("give " + what + " a certificate that browsers trust, with its whole chain")},
		{noTLS, fail("the TLS handshake failed").
			fix("check that " + what + " at the address in " + setting + " speaks TLS 1.2 or newer")},
		{failed && network.Timeout(), fail("no answer in time").fix(runs)},
		{unnamed, fail("its name is not known").fix("correct " + setting + ", or add its host to the DNS")},
	}, fail("no connection").fix(runs))
}

// app checks the server at APP_URL directly, not through Shopify.
func (d *doctor) app(ctx context.Context) []Check {
	address := d.config.AppURL.JoinPath(proxyPath).String()
	var unsigned page
	return each(ctx, []step{
		{"app.reach", "GET " + address + ", unsigned", "", func(ctx context.Context) Check {
			var err error
			if unsigned, err = d.get(ctx, "APP_URL", address, nil); err != nil {
				return unreachable(err, "APP_URL", "the server")
			}
			return ok("answers")
		}},
		{"app.certificate", "its certificate", "app.reach", func(context.Context) Check {
			return d.certificate(unsigned.tls)
		}},
		{"app.refuses", "whether it refuses what Shopify has not signed", "app.reach", func(context.Context) Check {
			return refuses(unsigned)
		}},
		// Another program must not get a signed request.
		{"app.server", "GET " + address + "/status, signed as Shopify signs", "app.refuses",
			func(ctx context.Context) Check { return d.server(ctx, address+"/status") }},
	})
}

func (d *doctor) certificate(state *tls.ConnectionState) Check {
	if state == nil {
		return warn("plain HTTP, on this machine only")
	}
	left := state.PeerCertificates[0].NotAfter.Sub(d.Now())
	found := fmt.Sprintf("valid for %d days", int(left.Hours()/24))
	if left < certificateWarns {
		return warn("%s", found).fix("renew the server's certificate, and check why it was not renewed automatically")
	}
	return ok(found)
}

func refuses(unsigned page) Check {
	return first([]verdict{
		{unsigned.status >= 500,
			fail("status %d: the proxy in front of the server gets no answer from it", unsigned.status)},
		{!unsigned.refused(), fail("status %d: another program answers", unsigned.status)},
	}, ok("403 with a request id"))
}

// server sends a request that we signed. Only a server with the app's secret accepts it.
func (d *doctor) server(ctx context.Context, address string) Check {
	shop := cmp.Or(d.shop, "doctor.myshopify.com") // with many stores, any shop will do
	query := shopify.Sign(url.Values{}, shop, proxyPath, d.config.ShopifyAPISecrets[0].Reveal(), d.Now())
	got, err := d.get(ctx, "APP_URL", address+"?"+query, nil)
	if err != nil {
		return unreachable(err, "APP_URL", "the server")
	}
	return first([]verdict{
		{got.refused(), fail("it refuses what is signed with SHOPIFY_API_SECRET")},
		{!got.signedOut(), fail("status %d, which is not this program's answer", got.status)},
	}, got.answers("this program, with this app's secret"))
}

// storefronts returns the addresses to check; nil in the place of one if none was named.
func (d *doctor) storefronts() []*url.URL {
	all := make([]*url.URL, max(len(d.StoreURLs), 1))
	for i, text := range d.StoreURLs {
		all[i], _ = parseStoreURL(text) // the options were checked
	}
	return all
}

// on names a page of a storefront.
func on(storefront *url.URL, path string) string {
	if storefront == nil {
		return path + " on the storefront"
	}
	return storefront.JoinPath(path).String()
}

// proxy checks the server through Shopify.
func (d *doctor) proxy(ctx context.Context, storefront *url.URL) []Check {
	return each(ctx, []step{
		{"proxy.reach", "GET " + on(storefront, d.Path+"/status"), "", func(ctx context.Context) Check {
			if storefront == nil {
				return skipped("the storefront is not known")
			}
			return d.visit(ctx, storefront.JoinPath(d.Path, "status"), func(got page, at *url.URL) Check {
				if !got.signedOut() {
					return notReached(got, at)
				}
				return got.answers("this program answers")
			})
		}},
		{"proxy.redirect", "GET " + on(storefront, d.Path) + ": whether a signed-out click's 302 arrives", "proxy.reach",
			func(ctx context.Context) Check { return d.visit(ctx, storefront.JoinPath(d.Path), d.redirect) }},
	})
}

// visit fetches a page of the app from the storefront, as a visitor who is not signed in.
func (d *doctor) visit(ctx context.Context, at *url.URL, judge func(page, *url.URL) Check) Check {
	got, err := d.get(ctx, at.Host, at.String(), d.crawlerSignature())
	if err != nil {
		return unreachable(err, "--store-url", "the storefront")
	}
	return judge(got, at)
}

// parseStoreURL reads the address of a storefront, and writes its host as browsers and a Location
// header do.
func parseStoreURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	safe := u.Scheme == "https" || u.Scheme == "http" && recharge.Loopback(strings.ToLower(u.Hostname()))
	if !safe || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not the address of a storefront")
	}
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), map[string]string{"https": ":443", "http": ":80"}[u.Scheme])
	return u, nil
}

// notReached returns the result for an answer that is another program's, or this one's refusal.
func notReached(got page, at *url.URL) Check {
	to, err := url.Parse(got.header.Get("Location"))
	if err != nil {
		to = &url.URL{}
	}
	moved := got.status >= 300 && got.status < 400
	elsewhere := to.Host != "" && to.Host != at.Host && plainHost.MatchString(to.Host)
	password := moved && strings.HasSuffix(to.Path, "/password") ||
		got.status == http.StatusOK && strings.Contains(got.body, `action="/password"`)
	return first([]verdict{
		{password, fail("the store's password page")},
		{moved && elsewhere, fail("the storefront is at %s", to.Host).fix("pass --store-url " + at.Scheme + "://" + to.Host)},
		{moved, fail("status %d, to another page", got.status)},
		{got.refused(), fail("403 of this program: it refuses what Shopify has signed")},
		{got.status == http.StatusNotFound, fail("404: the store has no such path")},
		{got.tooMany(), warn("status %d, too many requests to Shopify", got.status)},
		{got.status == http.StatusForbidden || got.status == http.StatusUnauthorized,
			fail("%d, not this program's: something in front of it refuses", got.status)},
		{got.status >= 500, fail("status %d, Shopify got no answer from the server", got.status)},
	}, fail("status %d, another program's answer: Shopify does not forward to this one", got.status))
}

// redirect checks the answer to a signed-out click, which should be a 302 to the sign-in page.
func (d *doctor) redirect(got page, at *url.URL) Check {
	prefix := signInPrefix(got, at)
	arrives := "it does, with the prefix " + prefix
	return first([]verdict{
		{prefix == d.Path, ok(arrives)},
		{prefix != "", warn("%s", arrives).fix("let themes link to " + prefix)},
		{strings.Contains(got.body, `data-outcome="not_connected"`),
			fail("the page not_connected: this is another store's storefront, or the store has not connected Recharge")},
		{got.status >= 500 || got.tooMany(), notReached(got, at)},
		// A refusal of ours is excluded, because it means that Shopify followed the redirect itself.
		{got.status >= 400 && !got.refused(), fail("status %d, which says nothing about redirects", got.status)},
		{d.config.RedirectByPage, ok(fmt.Sprintf("status %d, no 302: REDIRECT=page needs none", got.status))},
	}, fail("it does not: status %d, or another Location", got.status))
}

// signInPrefix returns the app's path on the storefront, as Shopify gave it to the server, from the
// server's redirect to the sign-in page. It returns "" for any other page.
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

// accounts compares how clicks sign shoppers in, and where they lead, with what the store shows.
func (d *doctor) accounts(ctx context.Context) []Check {
	_, unknown := d.merchant(ctx)
	unknown.Status = Skipped // recharge.token reports it
	connection := d.Merchants.Connection(d.shop, d.Store.Seen(d.shop))
	var seen shopify.Accounts
	var steps []step
	for _, at := range d.storefronts() {
		asked := "GET " + on(at, "/account/login") + ": which customer accounts it has"
		steps = append(steps, step{"store.accounts", asked, "", func(ctx context.Context) (check Check) {
			if connection == nil {
				return unknown
			}
			found, check := d.signIn(ctx, connection, at)
			seen = cmp.Or(seen, found)
			return check
		}})
	}
	return each(ctx, append(steps, step{"store.portal", "which portal clicks lead to", "", func(context.Context) Check {
		if connection == nil {
			return unknown
		}
		return d.portal(connection, seen)
	}}))
}

func (d *doctor) signIn(
	ctx context.Context, connection *store.Connection, at *url.URL,
) (shopify.Accounts, Check) {
	if at == nil {
		return shopify.Accounts{}, skipped("the storefront is not known")
	}
	storefront := shopify.Platform{Shops: map[shopify.Shop]string{d.shop: at.Scheme + "://" + at.Host}}
	seen, err := shopify.DetectAccounts(ctx, storefront, d.shop, d.crawlerSignature())
	used := cmp.Or(d.Merchants.Traits(connection).Accounts, "new")
	how := origin(connection.Chosen.Accounts, connection.Detected.Accounts)
	return seen, first([]verdict{
		{err != nil, warn("they could not be looked at; clicks go by %s ones, %s", used, how)},
		{seen.Kind == "", warn("the sign-in does not show it; clicks go by %s ones, %s", used, how)},
		{seen.Kind == used, ok(used + ", which clicks go by, " + how)},
		{connection.Chosen.Accounts != "",
			warn("%s, but %s is set by hand: sign-ins would not lead back", seen.Kind, used)},
	}, warn("%s, but clicks go by %s, %s", seen.Kind, used, how))
}

// portal checks that a page in the Shopify account is on a host where the store has its accounts now.
func (d *doctor) portal(connection *store.Connection, seen shopify.Accounts) Check {
	traits, address := d.Merchants.Traits(connection), connection.Chosen.AccountPage
	found := cmp.Or(map[string]string{
		"account": "in the Shopify account (Recharge Unity), ", "hash": "Recharge's (Affinity), by hash, ",
	}[traits.Link], "Recharge's (Affinity), signed in, ") + origin(connection.Chosen.Link, connection.Detected.Link)
	_, err := recharge.ParseAccountPage(address, string(d.shop), cmp.Or(seen.Host, traits.AccountHost), d.config.AppURL)
	_, host, _ := strings.Cut(address, "://")
	host, _, _ = strings.Cut(host, "/")
	return first([]verdict{
		{traits.Link != "account", ok(found)},
		{address == "", warn("%s; its page is not known, so links are by hash", found)},
		{err != nil, fail("%s, at %s, where the store does not have its accounts", found, host)},
		{seen.Kind == "legacy", warn("%s; the store has legacy accounts, and Unity works with new ones only", found)},
		{traits.AccountPage == "", warn("%s, at %s, where clicks do not lead until the next look", found, host)},
	}, ok(found+", at "+host))
}

// origin returns where a trait comes from.
func origin(chosen, detected string) string {
	switch {
	case chosen != "":
		return "set by hand"
	case detected != "":
		return "detected"
	}
	return "by default"
}
