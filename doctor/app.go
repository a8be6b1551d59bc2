package doctor

import (
	"cmp"
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
	if strings.Contains(p.header.Get("Cache-Control"), "no-store") {
		return ok(found)
	}
	r := warn(found+", without its Cache-Control: no-store",
		"check that nothing between the browser and the server caches answers or drops headers")
	r.goesOn = true
	return r
}

// unreachable says why what gave no answer at the address in setting. It leaves out the
// address, which net/http puts into its errors.
func unreachable(err error, setting, what string) result {
	runs := "check that " + what + " runs at the address in " + setting + ", and that no firewall is between"
	_, strange := errors.AsType[x509.HostnameError](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	invalid, _ := errors.AsType[x509.CertificateInvalidError](err)
	network, failed := errors.AsType[net.Error](err)
	_, unnamed := errors.AsType[*net.DNSError](err)
	switch {
	case invalid.Reason == x509.Expired:
		return fail("its certificate is over, or not valid yet", "renew the certificate of "+what)
	case strange:
		return fail("its certificate is for another host", "get a certificate for the host in "+setting)
	case distrusted:
		return fail("its certificate is not trusted",
			"give "+what+" a certificate that browsers trust, with its whole chain")
	case strings.Contains(err.Error(), "tls:"), errors.Is(err, http.ErrSchemeMismatch):
		return fail("the TLS handshake failed", "check that "+what+" at the address in "+setting+" speaks TLS 1.2 or newer")
	case failed && network.Timeout():
		return fail("no answer in time", runs)
	case unnamed:
		return fail("its name is not known", "correct "+setting+", or add its host to the DNS")
	}
	return fail("no connection", runs)
}

// app checks the server at APP_URL, not through Shopify.
func (d *doctor) app(ctx context.Context) []Check {
	address := d.Config.AppURL.JoinPath(proxyPath).String()
	var unsigned page
	return each(ctx, []step{
		{"app.reach", "GET " + address + ", unsigned", "", func(ctx context.Context) result {
			var err error
			if unsigned, err = d.get(ctx, "APP_URL", address); err != nil {
				return unreachable(err, "APP_URL", "the server")
			}
			return ok("answers")
		}},
		{"app.certificate", "its certificate", "app.reach", func(context.Context) result {
			return d.certificate(unsigned.tls)
		}},
		{"app.refuses", "whether it refuses what Shopify has not signed", "app.reach", func(context.Context) result {
			return refuses(unsigned)
		}},
		// Another program gets nothing that is signed.
		{"app.server", "GET " + address + "/status, signed as Shopify signs", "app.refuses",
			func(ctx context.Context) result { return d.server(ctx, address+"/status") }},
	})
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
		return fail(fmt.Sprintf("status %d: another program answers", unsigned.status),
			"point APP_URL at this program, and leave the path "+proxyPath+" as it is")
	}
	return ok("403 with a request id")
}

// server asks with a signature of our own: only a server with the app's secret takes it.
func (d *doctor) server(ctx context.Context, address string) result {
	shop := cmp.Or(d.shop, "doctor.myshopify.com") // of many stores any will do
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
