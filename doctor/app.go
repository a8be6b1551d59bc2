package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"manage-subscriptions/shopify"
)

const (
	// proxyPath is where the server has its routes, wherever a merchant has put them on
	// the storefront.
	proxyPath = "/apps/subscriptions"
	// certificateWarns is how long before its end a certificate of 90 days should have
	// been renewed.
	certificateWarns = 14 * 24 * time.Hour
	// pageLimit is how much of an answer is read.
	pageLimit = 256 << 10
	// statusSignedOut is what the server answers at /status where nobody is signed in.
	statusSignedOut = `{"signed_in":false,"subscriber":null,"active_subscriptions":null}`
)

// newClient returns a client that follows no redirect.
func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: checkTimeout}).DialContext,
			TLSHandshakeTimeout: checkTimeout,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// page is an answer, read.
type page struct {
	status int
	header http.Header
	body   string
	tls    *tls.ConnectionState
}

// get asks for a page. clock names the server whose clock its Date is.
func (d *doctor) get(ctx context.Context, clock, address string) (page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return page{}, err
	}
	request.Header.Set("User-Agent", "manage-subscriptions doctor")
	response, err := d.client.Do(request)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = response.Body.Close() }()
	d.clocks.read(clock, response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, pageLimit))
	return page{response.StatusCode, response.Header, string(body), response.TLS}, err
}

var refusal = regexp.MustCompile(`^403 Forbidden\nRequest id: [a-z0-9]{6,20}\n$`)

// refused reports whether a page is this program's refusal.
func (p page) refused() bool {
	plain := strings.HasPrefix(p.header.Get("Content-Type"), "text/plain")
	return p.status == http.StatusForbidden && plain && refusal.MatchString(p.body)
}

// signedOut reports whether a page is this program's /status, asked with a signature and
// by nobody who is signed in.
func (p page) signedOut() bool {
	json := strings.HasPrefix(p.header.Get("Content-Type"), "application/json")
	return p.status == http.StatusOK && json && strings.TrimSpace(p.body) == statusSignedOut
}

// answers is the result of a page that is signedOut.
func (p page) answers(found string) result {
	if !strings.Contains(p.header.Get("Cache-Control"), "no-store") {
		return warn(found+", without its Cache-Control: no-store",
			"check that nothing between the browser and the server caches answers or drops headers")
	}
	return ok(found)
}

// unreachable says why there was no answer, without the address, which net/http puts
// into its errors. setting has the address of what.
func unreachable(err error, setting, what string) result {
	var name *net.DNSError
	var network net.Error
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	const runs = ", and that no firewall is between"
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail("its certificate is over, or not valid yet", "renew the certificate of "+what)
	case errors.As(err, &host):
		return fail("its certificate is for another host", "get a certificate for the host in "+setting)
	case errors.As(err, &authority), errors.As(err, &invalid):
		return fail("its certificate is not trusted",
			"give "+what+" a certificate that browsers trust, with its whole chain")
	case tlsFailed(err):
		return fail("the TLS handshake failed", "check that the server at "+setting+" speaks TLS 1.2 or newer")
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout():
		return fail("no answer in time", "check that "+what+" runs"+runs)
	case errors.As(err, &name):
		return fail("its name is not known", "correct "+setting+", or add its host to the DNS")
	}
	return fail("no connection", "check that "+what+" runs"+runs)
}

func tlsFailed(err error) bool {
	var alert tls.AlertError
	var header tls.RecordHeaderError
	return errors.As(err, &alert) || errors.As(err, &header) || errors.Is(err, http.ErrSchemeMismatch) ||
		strings.Contains(err.Error(), "tls:")
}

// app checks the server at APP_URL, not through Shopify.
func (d *doctor) app(ctx context.Context, tell func(Check)) {
	address := d.Config.AppURL.JoinPath(proxyPath).String()
	var unsigned page
	reached := false
	needsAnswer := func(check func(context.Context) result) func(context.Context) result {
		return func(ctx context.Context) result {
			if !reached {
				return skipped("there was no answer", "fix app.reach")
			}
			return check(ctx)
		}
	}
	each(ctx, []step{
		{"app.reach", "GET " + address + ", unsigned", func(ctx context.Context) result {
			var err error
			if unsigned, err = d.get(ctx, "APP_URL", address); err != nil {
				return unreachable(err, "APP_URL", "the server")
			}
			reached = true
			return ok("answers")
		}},
		{"app.certificate", "its certificate", needsAnswer(func(context.Context) result {
			return d.certificate(unsigned.tls)
		})},
		{"app.refuses", "whether it refuses what Shopify has not signed", needsAnswer(func(context.Context) result {
			return refuses(unsigned)
		})},
		{"app.server", "GET " + address + "/status, signed as Shopify signs", needsAnswer(func(ctx context.Context) result {
			if !unsigned.refused() { // another server gets nothing that is signed
				return skipped("another program answers", "fix app.refuses")
			}
			return d.server(ctx, address+"/status")
		})},
	}, tell)
}

func (d *doctor) certificate(state *tls.ConnectionState) result {
	if state == nil || len(state.PeerCertificates) == 0 {
		return warn("plain HTTP, on this machine only", "set APP_URL to where Shopify reaches the server, with https")
	}
	left := state.PeerCertificates[0].NotAfter.Sub(d.Now())
	found := fmt.Sprintf("valid for %d days", int(left.Hours()/24))
	if left < certificateWarns {
		return warn(found, "renew the server's certificate, and check why it was not renewed automatically")
	}
	return ok(found)
}

func refuses(unsigned page) result {
	switch {
	case unsigned.status >= http.StatusInternalServerError:
		return fail(fmt.Sprintf("status %d: what is in front of the server gets no answer from it", unsigned.status),
			"check that the server runs, and that what is in front of it forwards to its ADDR")
	case !unsigned.refused():
		return fail(fmt.Sprintf("status %d, which is not this program's refusal", unsigned.status),
			"point APP_URL at this program, and leave the path "+proxyPath+" as it is")
	}
	return ok("403 with a request id")
}

// server asks with a signature of our own: only a server with the app's secret takes it.
func (d *doctor) server(ctx context.Context, address string) result {
	shop := d.shop
	if shop == "" {
		shop = "doctor.myshopify.com" // of many stores any will do
	}
	query := shopify.Sign(url.Values{}, shop, proxyPath, d.Config.ShopifyAPISecrets[0].Reveal(), d.Now())
	switch got, err := d.get(ctx, "APP_URL", address+"?"+query); {
	case err != nil:
		return unreachable(err, "APP_URL", "the server")
	case got.refused():
		return fail("it refuses what is signed with SHOPIFY_API_SECRET",
			"give the server at APP_URL this SHOPIFY_API_SECRET, restart it, and see the line clock")
	case !got.signedOut():
		return fail(fmt.Sprintf("status %d, which is not this program's answer", got.status),
			"point APP_URL at this program, in this version")
	default:
		return got.answers("this program, with this app's secret")
	}
}
