// Package config reads the environment and the flags into one checked struct and reports all
// mistakes at once.
package config

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// Config holds the checked settings of a server. Settings.Check returns one.
type Config struct {
	ShopifyAPIKey     string
	ShopifyAPISecrets []Secret // the first signs, all verify; at least one, none empty
	AppURL            *url.URL
	Shop              shopify.Shop // x.myshopify.com; "" if no store is configured here
	Accounts          string       // "auto", "new", or "legacy": the store signs in at /account/login

	RechargeAPIToken        Secret // empty: the store has not connected Recharge
	RechargeStorefrontToken Secret
	RechargeClientSecret    Secret
	RechargeAPIURL          *url.URL
	RechargePortalURL       *url.URL // ends in a slash; nil if it is not set
	AccountPortalURL        *url.URL // Recharge's page in the Shopify account; nil if it is not set
	RechargeRate            float64  // calls a second; 0: by the token's prefix
	RechargeBurst           int      // calls; 0 if RechargeRate is

	Link            string // "signed_in", "hash" (never ask for a signed-in link) or "account" (AccountPortalURL)
	RedirectByPage  bool   // forward by a 200 page instead of a 302
	CustomerTTL     time.Duration
	LinkTTL         time.Duration // 0: a link is never reused
	Prepare         string        // "on", "once" (an access opens one visit; then LinkTTL is 0) or "off"
	RechargeTimeout time.Duration // one call
	ClickTimeout    time.Duration // one click
	PortalAPIKeys   []Secret

	Addr           string
	OpsAddr        string
	RedisURL       Secret   // Redis parses it; empty: embedded
	EncryptionKeys []Secret // 32 raw bytes each, the first seals; nil: derive them from the app's secrets
	LogLevel       slog.Level
	LogText        bool     // text instead of JSON
	TracesURL      *url.URL // where spans are sent, in OTLP over HTTP; nil: nowhere
	TracesHeaders  map[string]Secret
	SMTP           *SMTP          // sends mails to merchants; nil if it is not set
	NotifyURL      Secret         // takes notices about all stores; empty if it is not set
	SupportContact *url.URL       // https, or mailto with a plain address; nil if it is not set
	MetricsShops   []shopify.Shop // have metrics of their own
	MetricsTop     int            // so have this many with the most clicks
	PProf          bool           // serve profiles on OpsAddr

	Unknown Problems // what Unknown found, for a warning
}

// Problem is one mistake in the configuration.
type Problem struct {
	Name string // the environment variable, flag or file
	What string // what is wrong with it; never its value, which may be a secret
	Hint string // how to fix it
}

// Problems lists all mistakes that were found.
type Problems []Problem

func (p Problems) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d problem(s) in the configuration:\n", len(p))
	for _, problem := range p {
		fmt.Fprintf(&b, "\n  %s %s\n      %s\n", problem.Name, problem.What, problem.Hint)
	}
	return b.String()
}

// Add adds a Problem.
func (p *Problems) Add(name, what, hint string) { *p = append(*p, Problem{name, what, hint}) }

// Check parses the settings. Its error is of type Problems and lists all mistakes.
func (s Settings) Check() (Config, error) {
	var c checker
	c.required("SHOPIFY_API_KEY", s.ShopifyAPIKey, "the client id, in Shopify's Dev Dashboard under the app's settings")
	c.required("SHOPIFY_API_SECRET", s.ShopifyAPISecret, "the client secret, beside the id; while rotating: new,old")
	c.required("APP_URL", s.AppURL, "where Shopify reaches this server, such as https://subscriptions.example.com")
	c.required("RECHARGE_API_URL", s.RechargeAPIURL, "https://api.rechargeapps.com, except in a test")
	config := Config{
		ShopifyAPIKey:     c.token("SHOPIFY_API_KEY", s.ShopifyAPIKey).Reveal(),
		ShopifyAPISecrets: c.secrets("SHOPIFY_API_SECRET", s.ShopifyAPISecret, 1),
		AppURL:            c.url("APP_URL", s.AppURL),
		Shop:              c.shop("SHOPIFY_SHOP", s.ShopifyShop),
		Accounts:          c.choice("CUSTOMER_ACCOUNTS", s.CustomerAccounts, "auto", "new", "legacy"),

		RechargeAPIToken:        c.token("RECHARGE_API_TOKEN", s.RechargeAPIToken),
		RechargeStorefrontToken: c.token("RECHARGE_STOREFRONT_TOKEN", s.RechargeStorefrontToken),
		RechargeClientSecret:    c.token("RECHARGE_CLIENT_SECRET", s.RechargeClientSecret),
		RechargeAPIURL:          c.url("RECHARGE_API_URL", s.RechargeAPIURL),

		Link:            c.choice("PORTAL_LINK", s.PortalLink, "signed_in", "hash", "account"),
		RedirectByPage:  c.choice("REDIRECT", s.Redirect, "location", "page") == "page",
		CustomerTTL:     c.duration("CUSTOMER_TTL", s.CustomerTTL, time.Minute, 7*24*time.Hour),
		LinkTTL:         c.duration("LINK_TTL", s.LinkTTL, 0, time.Hour),
		Prepare:         c.choice("PREPARE", cmp.Or(s.Prepare, "on"), "on", "once", "off"),
		RechargeTimeout: c.duration("RECHARGE_TIMEOUT", s.RechargeTimeout, 100*time.Millisecond, 20*time.Second),
		// Shopify itself gives up after about 30 seconds.
		ClickTimeout:  c.duration("CLICK_TIMEOUT", s.ClickTimeout, 2*time.Second, 25*time.Second),
		PortalAPIKeys: c.secrets("PORTAL_API_KEY", s.PortalAPIKey, 16),

		Addr:           c.addr("ADDR", s.Addr),
		OpsAddr:        c.addr("OPS_ADDR", s.OpsAddr),
		RedisURL:       c.redis("REDIS_URL", s.RedisURL),
		EncryptionKeys: c.keys("ENCRYPTION_KEY", s.EncryptionKey),
		LogText:        c.choice("LOG_FORMAT", s.LogFormat, "json", "text") == "text",
		TracesURL:      c.collector("OTEL_EXPORTER_OTLP_ENDPOINT", s.OTLPEndpoint),
		TracesHeaders:  c.headers("OTEL_EXPORTER_OTLP_HEADERS", s.OTLPHeaders),
		SMTP:           c.smtp(s.SMTPURL, s.MailFrom),
		NotifyURL:      c.secretURL("NOTIFY_URL", s.NotifyURL),
		SupportContact: c.contact("SUPPORT_CONTACT", s.SupportContact),
		PProf:          c.choice("PPROF", cmp.Or(s.PProf, "off"), "on", "off") == "on",
	}
	level := c.choice("LOG_LEVEL", s.LogLevel, "debug", "info", "warn", "error")
	_ = config.LogLevel.UnmarshalText([]byte(level)) // choice has reported an unknown level
	config.RechargeRate, config.RechargeBurst = c.rate("RECHARGE_RATE", s.RechargeRate)
	config.RechargePortalURL = c.portal("RECHARGE_PORTAL_URL", s.RechargePortalURL, config.AppURL,
		"https, a public host and a path, and nothing after it: https://www.brand.example/tools/recurring/portal/")
	config.AccountPortalURL = c.portal("ACCOUNT_PORTAL_URL", s.AccountPortalURL, config.AppURL,
		"the page in the customer account, and nothing after it: https://shopify.com/1234567890/account/pages/…")
	config.MetricsShops, config.MetricsTop = c.shops("METRICS_SHOPS", s.MetricsShops)
	c.together(s, config)
	if config.Prepare == "once" {
		config.LinkTTL = 0
	}
	if len(c.problems) > 0 {
		return Config{}, c.problems
	}
	return config, nil
}

// checker has one method for each kind of setting and collects the problems. A setting without a
// default may be empty.
type checker struct{ problems Problems }

// expect adds a problem unless ok. It returns ok.
func (c *checker) expect(ok bool, name, what, hint string) bool {
	if !ok {
		c.problems.Add(name, what, hint)
	}
	return ok
}

func (c *checker) required(name, text, hint string) { c.expect(text != "", name, "is missing", hint) }

// together checks the settings that depend on each other.
func (c *checker) together(s Settings, config Config) {
	switch {
	case s.ShopifyShop == "":
		c.withoutShop(s)
	case s.PortalLink == "account":
		c.required("ACCOUNT_PORTAL_URL", s.AccountPortalURL, "with PORTAL_LINK=account, Recharge's page in the account")
	}
	c.expect(config.RechargeTimeout < config.ClickTimeout || config.ClickTimeout == 0,
		"RECHARGE_TIMEOUT", "is not shorter than CLICK_TIMEOUT", "3s and 8s leave time to answer after a slow call")
	_, port, _ := net.SplitHostPort(config.Addr)
	_, opsPort, _ := net.SplitHostPort(config.OpsAddr)
	c.expect(port != opsPort || port == "" || port == "0",
		"OPS_ADDR", "has the port of ADDR", "give it a port of its own, such as 127.0.0.1:9090")
}

// withoutShop checks what a server for many stores needs. Their records must outlive the process
// and be sealed with a key that has no other use.
func (c *checker) withoutShop(s Settings) {
	const many = "without SHOPIFY_SHOP, merchants connect their stores in the admin, and "
	if s.RedisURL == "" && s.EncryptionKey == "" {
		c.required("SHOPIFY_SHOP", "", "your store: my-store.myshopify.com; for many stores, REDIS_URL and ENCRYPTION_KEY")
	} else {
		c.required("REDIS_URL", s.RedisURL, many+"what they save is kept in Redis: redis://host:6379")
		c.required("ENCRYPTION_KEY", s.EncryptionKey, many+"what they save is sealed: openssl rand -base64 32")
	}
	for _, of := range []struct{ name, value string }{
		{"RECHARGE_API_TOKEN", s.RechargeAPIToken},
		{"RECHARGE_STOREFRONT_TOKEN", s.RechargeStorefrontToken},
		{"RECHARGE_CLIENT_SECRET", s.RechargeClientSecret},
		{"RECHARGE_PORTAL_URL", s.RechargePortalURL},
		{"ACCOUNT_PORTAL_URL", s.AccountPortalURL},
		{"PORTAL_API_KEY", s.PortalAPIKey},
	} {
		c.expect(of.value == "", of.name, "is set, but no store", "it belongs to the store named by SHOPIFY_SHOP")
	}
	c.expect(s.PortalLink != "account", "PORTAL_LINK", "is account, but no store", "merchants choose that in the app")
}

func (c *checker) token(name, text string) Secret {
	c.expect(!strings.ContainsFunc(text, notInToken),
		name, "has a space or a control character in it", "copy it again, without any text around it")
	return NewSecret(text)
}

func notInToken(r rune) bool { return r <= ' ' || r > '~' }

func (c *checker) secrets(name, text string, atLeast int) []Secret {
	return c.newOld(name, text, "has a part that is empty, too short or not plain text",
		fmt.Sprintf("'new' or 'new,old', each of %d or more characters without spaces", atLeast),
		func(part string) (string, bool) {
			return part, len(part) >= atLeast && !strings.ContainsFunc(part, notInToken)
		})
}

func (c *checker) keys(name, text string) []Secret {
	return c.newOld(name, text, "has a part that is not the base64 of 32 random bytes",
		"make one with: openssl rand -base64 32", func(part string) (string, bool) {
			key, err := base64.StdEncoding.DecodeString(part)
			return string(key), err == nil && len(key) == 32 && !typed(key)
		})
}

// newOld reads "new" or "new,old", of which read reads each part. It returns no parts for an empty text.
func (c *checker) newOld(name, text, what, hint string, read func(string) (string, bool)) (secrets []Secret) {
	parts := strings.Split(text, ",")
	if text == "" || !c.expect(len(parts) <= 2, name, "has more than two parts", "'new,old' while rotating, else one") {
		return nil
	}
	for _, part := range parts {
		value, ok := read(strings.TrimSpace(part))
		if !c.expect(ok, name, what, hint) {
			return nil
		}
		secrets = append(secrets, NewSecret(value))
	}
	return secrets
}

// typed reports whether a key was typed by hand. 32 random bytes have at least 16 distinct values.
func typed(key []byte) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(key)))) < 16
}

// url reads an https URL. It accepts http only for a loopback host, as in a test.
func (c *checker) url(name, text string) *url.URL {
	u := c.plainURL(name, text, "https://host/path, without user, query or fragment")
	if u != nil {
		c.expect(u.Scheme == "https" || u.Scheme == "http" && recharge.Loopback(u.Hostname()),
			name, "is not https", "https://…; http is only for a loopback address")
	}
	return u
}

// contact reads an e-mail address, as a mailto URL, or an https URL.
func (c *checker) contact(name, text string) *url.URL {
	const hint = "an address such as help@agency.example or https://agency.example/help"
	if !strings.Contains(text, "@") || strings.Contains(text, "://") {
		u := c.plainURL(name, text, hint)
		if u != nil && !c.expect(u.Scheme == "https", name, "is not https", hint) {
			return nil
		}
		return u
	}
	if !c.expect(recharge.IsEmail(text), name, "is not an e-mail address", hint) {
		return nil
	}
	return &url.URL{Scheme: "mailto", Opaque: text}
}

// collector reads the base URL of an OpenTelemetry collector. It may be http, since most collectors
// run beside the server.
func (c *checker) collector(name, text string) *url.URL {
	const hint = "where the collector takes OTLP over HTTP, such as http://collector:4318"
	u := c.plainURL(name, text, hint)
	if u == nil || !c.expect(u.Scheme == "http" || u.Scheme == "https", name, "is not http or https", hint) {
		return nil
	}
	return u.JoinPath("v1", "traces")
}

// plainURL reads a URL that has only a scheme, a host and a path. It returns nil for
// any other, and for an empty text.
func (c *checker) plainURL(name, text, hint string) *url.URL {
	u, err := url.Parse(text)
	plain := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
	if text == "" || !c.expect(plain, name, "is not a plain URL", hint) {
		return nil
	}
	return u
}

// headerShape matches the name of a header. Compiled once and never changed.
var headerShape = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// headers reads the same format as OpenTelemetry and is as strict. That library would print a part
// that it cannot read, which may be a secret.
func (c *checker) headers(name, text string) map[string]Secret {
	headers := map[string]Secret{}
	for pair := range strings.SplitSeq(text, ",") {
		header, value, ok := strings.Cut(pair, "=")
		header = strings.TrimSpace(header)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		ok = ok && err == nil && headerShape.MatchString(header) && !strings.ContainsFunc(value, unicode.IsControl)
		if text == "" || !c.expect(ok, name, "is not a list of headers",
			"x-api-key=…,x-team=…, with %20 for a space, %2C for a comma and %25 for a percent sign") {
			return nil
		}
		headers[header] = NewSecret(value)
	}
	return headers
}

func (c *checker) portal(name, text string, app *url.URL, hint string) *url.URL {
	if text == "" {
		return nil
	}
	u, err := recharge.ParsePortalURL(text, cmp.Or(app, &url.URL{}))
	c.expect(err == nil, name, "is not the address of a portal", hint)
	return u
}

func (c *checker) shop(name, text string) shopify.Shop {
	shop, err := shopify.ParseShop(text)
	c.expect(err == nil || text == "", name, "is not a myshopify.com name",
		"my-store.myshopify.com, in lower case, not the store's own domain")
	return shop
}

// shops reads "top:N", or a list of shops. Each of them makes a dozen series, so there is a limit.
func (c *checker) shops(name, text string) (shops []shopify.Shop, top int) {
	const most, hint = 500, "top:50, or names such as my-store.myshopify.com, separated by commas; at most 500"
	if text == "" {
		return nil, 0
	}
	if n, ok := strings.CutPrefix(text, "top:"); ok {
		top, err := strconv.Atoi(n)
		c.expect(err == nil && top > 0 && top <= most, name, "is not top: and a number", hint)
		return nil, top
	}
	for part := range strings.SplitSeq(text, ",") {
		shop, err := shopify.ParseShop(strings.TrimSpace(part))
		if !c.expect(err == nil && len(shops) < most, name, "is not a list of stores", hint) {
			return nil, 0
		}
		shops = append(shops, shop)
	}
	return shops, 0
}

func (c *checker) choice(name, text string, choices ...string) string {
	c.expect(slices.Contains(choices, text), name, "is not one of its values", "one of: "+strings.Join(choices, ", "))
	return text
}

func (c *checker) duration(name, text string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if !c.expect(err == nil && d >= least && d <= most,
		name, "is not a duration in the allowed range", fmt.Sprintf("from %v to %v, such as 90s, 5m, 24h", least, most)) {
		return 0
	}
	return d
}

// rate reads "auto", as zeros, or "rate,burst".
func (c *checker) rate(name, text string) (float64, int) {
	if text == "auto" {
		return 0, 0
	}
	rate, burst, _ := strings.Cut(text, ",")
	perSecond, err := strconv.ParseFloat(strings.TrimSpace(rate), 64)
	calls, err2 := strconv.Atoi(strings.TrimSpace(burst))
	c.expect(err == nil && err2 == nil && perSecond > 0 && perSecond <= 1000 && calls >= 1 && calls <= 10000,
		name, "is neither auto nor a rate and a burst", "auto, or calls a second and burst, such as 2,40")
	return perSecond, calls
}

func (c *checker) addr(name, text string) string {
	_, port, err := net.SplitHostPort(text)
	_, err2 := strconv.ParseUint(port, 10, 16)
	c.expect(err == nil && err2 == nil, name, "is not an address to listen on", "host:port or :port, such as :8080")
	return text
}
