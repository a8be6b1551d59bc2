package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// maxHops is more than a click needs. It ends a redirect loop.
const maxHops = 10

// once makes one click like a browser that is not signed in yet.
func (s *Sandbox) once(ctx context.Context, o Options) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	b := &browser{
		out: o.Out,
		client: &http.Client{
			Jar:           jar,
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	pat := shoppers()[0]
	fmt.Fprintf(o.Out, "%s %s clicks Manage Subscriptions, for %s\n\n", pat.FirstName, pat.LastName, o.Destination)
	at, err := b.follow(ctx, http.MethodGet, s.Store.URL+s.path+"/"+strings.Trim(o.Destination, "/"), nil)
	if err != nil {
		return err
	}
	if at.Path == "/authentication/oauth/authorize" { // of the account host
		form := url.Values{"customer": {pat.ID}}
		if _, err := b.follow(ctx, http.MethodPost, at.String(), form); err != nil {
			return err
		}
	}
	return s.landed(o, pat.ID)
}

// landed returns nil only if the portal itself reports that it opened for this shopper and at this
// destination.
func (s *Sandbox) landed(o Options, shopifyID string) error {
	openings := s.Recharge.Openings()
	if len(openings) != 1 {
		return errors.New("the shopper is not in the portal")
	}
	opening := openings[0]
	if opening.Customer.ShopifyCustomerID != shopifyID {
		return errors.New("the portal opened for another shopper")
	}
	// The portal's path has an underscore where the destination has a hyphen.
	if want := strings.ReplaceAll(strings.Trim(o.Destination, "/"), "-", "_"); opening.Page != want {
		return fmt.Errorf("the portal opened at %q, not at %q", opening.Page, want)
	}
	fmt.Fprintf(o.Out, "\nIn the portal: %s %s, at %s, signed in by %s\n",
		opening.Customer.FirstName, opening.Customer.LastName, opening.Page, opening.How)
	return nil
}

type browser struct {
	client *http.Client
	out    io.Writer
	hops   int
}

// follow makes a request and follows redirects, printing each hop. It returns the last URL.
func (b *browser) follow(ctx context.Context, method, target string, form url.Values) (*url.URL, error) {
	for ; b.hops < maxHops; b.hops++ {
		at, next, err := b.hop(ctx, method, target, form)
		if err != nil || next == "" {
			return at, err
		}
		method, target, form = http.MethodGet, next, nil
	}
	return nil, errors.New("redirected too often")
}

func (b *browser) hop(
	ctx context.Context, method, target string, form url.Values,
) (at *url.URL, next string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	start := time.Now()
	response, err := b.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, "", err
	}
	took := time.Since(start).Milliseconds()
	fmt.Fprintf(b.out, "%4s  %d  %4d ms  %s\n", method, response.StatusCode, took, shown(request.URL))
	if response.StatusCode < 300 || response.StatusCode > 399 {
		return request.URL, "", nil
	}
	to, err := response.Location()
	if err != nil {
		return nil, "", err
	}
	return request.URL, to.String(), nil
}

// shown returns a URL to print, with its token shortened.
func shown(u *url.URL) string {
	query := u.Query()
	if token := query.Get("token"); token != "" {
		query.Set("token", token[:min(4, len(token))]+"...")
	}
	shown := *u
	shown.RawQuery = query.Encode()
	return shown.String()
}
