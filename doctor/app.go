package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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

// proxyPath is where the server has its routes, wherever a merchant has put them
// on the storefront.
const proxyPath = "/apps/subscriptions"

const (
	// certificateWarns is how long before its end a certificate should have been
	// renewed: those that live for 90 days are after 60.
	certificateWarns = 14 * 24 * time.Hour
	// pageLimit bounds what is read of an answer.
	pageLimit = 64 << 10
)

// newClient asks the app and the storefront, and follows nothing.
func (d *doctor) newClient() *http.Client {
	transport := d.HTTP
	if transport == nil {
		transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: checkPatience}).DialContext,
			TLSHandshakeTimeout: checkPatience,
			ForceAttemptHTTP2:   true,
		}
	}
	transport = transport.Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.TLS}
	return &http.Client{
		Transport:     transport,
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

func (d *doctor) get(ctx context.Context, whose, address string) (page, error) {
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
	d.dates.heard(whose, response.Header)
	body, err := io.ReadAll(io.LimitReader(response.Body, pageLimit))
	if err != nil {
		return page{}, err
	}
	return page{response.StatusCode, response.Header, string(body), response.TLS}, nil
}

// unreachedAt says why somebody gave no answer, without the address that net/http
// puts into it: there is a probe in it.
func unreachedAt(err error, setting, what string) result {
	var name *net.DNSError
	var network net.Error
	var expired x509.CertificateInvalidError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return fail("its certificate is over, or not valid yet", "renew the certificate of "+what)
	case errors.As(err, &host):
		return fail("its certificate is for another host", "get a certificate for the host in "+setting)
	case errors.As(err, &authority), errors.As(err, &expired):
		return fail("its certificate is not vouched for", "serve "+what+" with a certificate that browsers trust, and with its whole chain")
	case errors.As(err, &alert), errors.As(err, &header), strings.Contains(err.Error(), "tls:"), errors.Is(err, http.ErrSchemeMismatch):
		return fail("TLS does not come about", "see that what is at "+setting+" speaks TLS 1.2 or newer")
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout():
		return fail("no answer in time", "see that "+what+" runs, and that no firewall is between")
	case errors.As(err, &name):
		return fail("its name is not known", "correct "+setting+", or enter its host in the DNS")
	}
	return fail("no connection", "see that "+what+" runs, and that no firewall is between")
}

// app are the checks of APP_URL, past Shopify.
func (d *doctor) app() []step {
	base := d.Config.AppURL
	address := base.JoinPath(proxyPath).String()
	var unsigned page
	var reached bool
	return []step{
		{"app.reach", "GET " + address + ", unsigned", func(ctx context.Context) result {
			var err error
			if unsigned, err = d.get(ctx, "APP_URL", address); err != nil {
				return unreachedAt(err, "APP_URL", "the server")
			}
			reached = true
			return ok("answers")
		}},
		{"app.certificate", "its certificate", func(context.Context) result {
			switch {
			case !reached:
				return skipped("there was no answer", "mend app.reach")
			case unsigned.tls == nil || len(unsigned.tls.PeerCertificates) == 0:
				return warn("plain HTTP, on this machine only", "set APP_URL to where Shopify reaches the server, https")
			}
			return d.certificate(unsigned.tls.PeerCertificates[0])
		}},
		{"app.refuses", "that it refuses what Shopify has not signed", func(context.Context) result {
			switch {
			case !reached:
				return skipped("there was no answer", "mend app.reach")
			case unsigned.status >= http.StatusInternalServerError:
				return fail(fmt.Sprintf("status %d: what stands before the server gets no answer of it", unsigned.status), "see that the server runs, and that what stands before it leads to its ADDR")
			case !ours(unsigned):
				return fail(fmt.Sprintf("status %d, which is not this program's refusal", unsigned.status), "let APP_URL lead to this program, with the path "+proxyPath+" as it is")
			}
			return ok("403 with a request id")
		}},
		{"app.server", "the same, signed here as Shopify signs, with a probe", func(ctx context.Context) result {
			if !reached {
				return skipped("there was no answer", "mend app.reach")
			}
			if !ours(unsigned) { // a stranger gets nothing that is signed
				return skipped("somebody else answers", "mend app.refuses")
			}
			return d.server(ctx, base)
		}},
	}
}

func (d *doctor) certificate(leaf *x509.Certificate) result {
	left := leaf.NotAfter.Sub(d.Now())
	found := fmt.Sprintf("valid for %d days", int(left.Hours()/24))
	if left < certificateWarns {
		return warn(found, "renew the certificate of the server, and see why nothing has")
	}
	return ok(found)
}

var refusal = regexp.MustCompile(`^403 Forbidden\nRequest id: [a-z0-9]{6,20}\n$`)

// ours tells this program's own refusal.
func ours(p page) bool {
	return p.status == http.StatusForbidden && strings.HasPrefix(p.header.Get("Content-Type"), "text/plain") && refusal.MatchString(p.body)
}

// server asks past Shopify: what fails here is not Shopify's doing.
func (d *doctor) server(ctx context.Context, base *url.URL) result {
	probe, shop := d.probes.New(), d.askedShop()
	query := shopify.Sign(url.Values{"probe": {probe}}, shop, proxyPath, d.signing, d.Now())
	got, err := d.get(ctx, "APP_URL", base.JoinPath(proxyPath, "doctor").String()+"?"+query)
	switch {
	case err != nil:
		return unreachedAt(err, "APP_URL", "the server")
	case ours(got):
		return fail("it refuses what is signed with SHOPIFY_API_SECRET", "give the server at APP_URL the settings that are looked at here (SHOPIFY_API_SECRET), restart it, and see the line clock")
	}
	answer, mine := d.answered(got, probe)
	switch {
	case !mine:
		return fail(fmt.Sprintf("status %d, which is no answer of this program's", got.status), "let APP_URL lead to this program, of this version")
	case answer.Shop != shop:
		return fail("it answers for another store", "see what stands before the server and changes queries")
	}
	return ok("this program, with this app's secret")
}

// askedShop is whose name the probe bears. Of many stores any will do.
func (d *doctor) askedShop() shopify.Shop {
	if d.Shop == "" {
		return "doctor.myshopify.com"
	}
	return d.Shop
}

// answer is what the server says to a probe.
type answer struct {
	Shop       shopify.Shop `json:"shop"`
	PathPrefix string       `json:"path_prefix"`
	Proof      string       `json:"proof"`
}

// answered reads an answer, and tells whether it was made by a server with the
// app's secret.
func (d *doctor) answered(p page, probe string) (answer, bool) {
	var a answer
	if p.status != http.StatusOK || json.Unmarshal([]byte(p.body), &a) != nil {
		return a, false
	}
	return a, d.probes.Answered(probe, a.Proof, a.Shop, a.PathPrefix)
}
