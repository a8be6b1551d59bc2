package shopifytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A page larger than this is a mistake, and must not fill the memory of the machine that runs the tests.
const bodyLimit = 16 << 20

// An answer is an app's whole response. A body that breaks off must become an error page, not half a page.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// findApp returns the app that owns path, and the rest after its prefix: "" or "/…". A path that
// only begins with the same letters, such as /apps/subscriptions-old, does not belong to the app.
func (s *Server) findApp(path string) (app App, rest string, ok bool) {
	for _, app := range s.installed() {
		rest, found := strings.CutPrefix(path, app.PathPrefix)
		if found && (rest == "" || rest[0] == '/') {
			return app, rest, true
		}
	}
	return App{}, "", false
}

func (s *Server) proxy(w http.ResponseWriter, r *http.Request, v visit, app App, rest string) {
	query := s.forwardedQuery(r.URL.RawQuery, v.shopper, app)
	start := time.Now()
	got, err := s.ask(r, app.ProxyURL, rest, query)
	if err != nil {
		got = answer{status: statusFor(err)}
	}
	s.record(Forwarded{
		App:      app.PathPrefix,
		Method:   r.Method,
		Path:     v.full,
		Query:    query,
		Status:   got.status,
		Duration: time.Since(start),
		Header:   got.header.Clone(),
	})
	if got.status >= 500 {
		s.themed(w, v, got.status, "app-error.html", "Application error", nil)
		return
	}
	s.pass(w, v, got)
}

// statusFor distinguishes a slow app from one that cannot be reached or breaks off.
func statusFor(err error) int {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// ask forwards the browser's request. It uses the transport because an http.Client would interpret Location.
func (s *Server) ask(r *http.Request, proxyURL, rest, query string) (answer, error) {
	target, err := url.Parse(strings.TrimRight(proxyURL, "/") + rest)
	if err != nil {
		return answer{}, fmt.Errorf("proxy URL: %w", err)
	}
	target.RawQuery = query

	ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
	defer cancel()
	body := r.Body
	if r.ContentLength == 0 {
		body = http.NoBody // otherwise the transport would send an empty chunked body
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, target.String(), body)
	if err != nil {
		return answer{}, fmt.Errorf("request to the app: %w", err)
	}
	out.ContentLength = r.ContentLength
	out.Header = forwardedHeader(r)

	res, err := s.backend.RoundTrip(out)
	if err != nil {
		return answer{}, fmt.Errorf("ask the app: %w", err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, bodyLimit+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the app's answer: %w", err)
	}
	if len(content) > bodyLimit {
		return answer{}, fmt.Errorf("the app's answer is longer than %d bytes", bodyLimit)
	}
	return answer{status: res.StatusCode, header: res.Header, body: content}, nil
}

func forwardedHeader(r *http.Request) http.Header {
	h := r.Header.Clone()
	drop := []string{
		"Cookie", "Authorization",
		"Accept-Encoding", // the store has to read Liquid, so it must not be compressed
		"Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade",
	}
	for _, name := range drop {
		h.Del(name)
	}
	h.Set("X-Forwarded-Host", r.Host)
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	h.Set("X-Forwarded-For", client)
	return h
}

// forwardedQuery returns the browser's query with what Shopify adds, changed by the faults in force.
func (s *Server) forwardedQuery(browser string, shopper *Shopper, app App) string {
	f := s.Faults()
	shop := s.opts.Shop
	if f.Shop != "" {
		shop = f.Shop
	}
	customer := ""
	if shopper != nil && !f.ForgetShopper {
		customer = shopper.ID
	}
	now := s.opts.Now().Add(f.ClockOffset)
	query := joinQuery(browser, reserved(shop, customer, app.PathPrefix, now))
	if f.Twice {
		query = joinQuery(query, reserved(shop, s.otherThan(customer), app.PathPrefix, now))
	}
	return sign(query, signingSecret(app, f))
}

func signingSecret(app App, f Faults) string {
	switch {
	case f.WrongSecret:
		return "not-" + app.Secret
	case f.OldSecret:
		return app.OldSecret
	default:
		return app.Secret
	}
}

// otherThan returns the ID of another shopper.
func (s *Server) otherThan(customer string) string {
	for _, shopper := range s.opts.Shoppers {
		if shopper.ID != customer {
			return shopper.ID
		}
	}
	return customer + "0"
}

// SignedQuery returns the raw query, without "?", that the store would forward now to an app at
// pathPrefix with this secret, for a browser that sent extraRawQuery and a shopper with customerID
// ("" for nobody). It is for tests that call the app directly. Faults do not affect it.
func (s *Server) SignedQuery(extraRawQuery, customerID, pathPrefix, secret string) string {
	return sign(joinQuery(extraRawQuery, reserved(s.opts.Shop, customerID, pathPrefix, s.opts.Now())), secret)
}

// reserved returns the parameters that Shopify adds, in the order of Shopify's documentation, without the signature.
func reserved(shop, customer, pathPrefix string, now time.Time) string {
	return "shop=" + url.QueryEscape(shop) +
		"&logged_in_customer_id=" + url.QueryEscape(customer) +
		"&path_prefix=" + url.QueryEscape(pathPrefix) +
		"&timestamp=" + strconv.FormatInt(now.Unix(), 10)
}

func sign(query, secret string) string {
	return query + "&signature=" + Signature(secret, query)
}

func joinQuery(a, b string) string {
	if a == "" {
		return b
	}
	return a + "&" + b
}

// pass returns the app's answer to the browser, and draws it first if it is Liquid.
func (s *Server) pass(w http.ResponseWriter, v visit, got answer) {
	redirect := got.status >= 300 && got.status < 400
	if isLiquid(got.header) && !redirect {
		page, err := s.draw(v, got.body)
		if err != nil {
			s.themed(w, v, http.StatusInternalServerError, "liquid-error.html", "Liquid error", err.Error())
			return
		}
		got.body = page
		got.header.Set("Content-Type", "text/html; charset=utf-8")
		// These headers describe the template, not the page.
		got.header.Del("Content-Length")
		got.header.Del("Etag")
	}
	copyHeader(w.Header(), got.header)
	w.WriteHeader(got.status)
	_, _ = w.Write(got.body) // a browser that has gone away needs no answer
}

func isLiquid(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && mediaType == "application/liquid"
}

func copyHeader(to, from http.Header) {
	// Otherwise net/http would guess a type that the app did not send.
	to["Content-Type"] = nil
	for name, values := range from {
		if !disallowed(name) {
			to[name] = values
		}
	}
}

// disallowed reports whether Shopify strips a response header.
//
// Source: https://shopify.dev/docs/apps/build/online-store/app-proxies, "Disallowed headers"
func disallowed(name string) bool {
	switch strings.ToLower(name) {
	case "accept-patch", "accept-ranges", "connection", "cookie", "date", "delta-base", "im", "p3p", "pragma",
		"preference-applied", "proxy-authenticate", "public-key-pins", "server", "service-worker-allowed", "set-cookie",
		"trailer", "tk", "warning", "x-powered-by":
		return true
	case "keep-alive", "upgrade": // not in Shopify's list, but they concern the connection to the app
		return true
	}
	return false
}
