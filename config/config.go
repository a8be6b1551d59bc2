// Package config reads the environment and the flags into one checked struct, and
// reports all mistakes at once.
package config

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// Config holds the checked settings of a server. Settings.Check makes one.
type Config struct {
	ShopifyAPIKey     string
	ShopifyAPISecrets []Secret // the first signs, all verify; never empty, none empty
	AppURL            *url.URL
	Shop              shopify.Shop // x.myshopify.com; "" where no store is configured here
	LegacyAccounts    bool         // the store signs in at /account/login

	RechargeAPIToken        Secret // empty: the store has not connected Recharge
	RechargeStorefrontToken Secret
	RechargeClientSecret    Secret
	RechargeAPIURL          *url.URL
	RechargePortalURL       *url.URL // ends in a slash; nil without a Shop
	RechargeRate            float64  // calls a second
	RechargeBurst           int      // calls

	LinkByHash      bool // never ask Recharge for a signed-in link
	RedirectByPage  bool // forward by a 200 page instead of a 302
	CustomerTTL     time.Duration
	LinkTTL         time.Duration // 0: a link is never reused
	RechargeTimeout time.Duration // one call
	ClickTimeout    time.Duration // one click
	PortalAPIKeys   []Secret

	Addr           string
	OpsAddr        string
	Redis          *Redis   // nil: embedded
	EncryptionKeys []Secret // 32 raw bytes each, the first seals; nil: derive them from the app's secrets
	LogLevel       slog.Level
	LogText        bool     // text instead of JSON
	TracesURL      *url.URL // where spans are sent to, in OTLP over HTTP; nil: nowhere
	TracesHeaders  map[string]Secret
	PProf          bool // profiles on OpsAddr
}

// Problem is one mistake in the configuration.
type Problem struct {
	Name string // the environment's name
	What string // what is wrong with it; never its value, which may be a secret
	Hint string // what to do about it
}

// Problems are all mistakes that were found.
type Problems []Problem

func (p Problems) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d problem(s) in the configuration:\n", len(p))
	for _, problem := range p {
		fmt.Fprintf(&b, "\n  %s %s\n      %s\n", problem.Name, problem.What, problem.Hint)
	}
	return b.String()
}

// Check reads the settings. Its error is of type Problems and lists them all.
func (s Settings) Check() (Config, error) {
	var c checker
	c.required(s)
	config := Config{
		ShopifyAPIKey:     c.token("SHOPIFY_API_KEY", s.ShopifyAPIKey).Reveal(),
		ShopifyAPISecrets: c.secrets("SHOPIFY_API_SECRET", s.ShopifyAPISecret, 1),
		AppURL:            c.url("APP_URL", s.AppURL),
		Shop:              c.shop("SHOPIFY_SHOP", s.ShopifyShop),
		LegacyAccounts:    c.choice("CUSTOMER_ACCOUNTS", s.CustomerAccounts, "new", "legacy") == "legacy",

		RechargeAPIToken:        c.token("RECHARGE_API_TOKEN", s.RechargeAPIToken),
		RechargeStorefrontToken: c.token("RECHARGE_STOREFRONT_TOKEN", s.RechargeStorefrontToken),
		RechargeClientSecret:    c.token("RECHARGE_CLIENT_SECRET", s.RechargeClientSecret),
		RechargeAPIURL:          c.url("RECHARGE_API_URL", s.RechargeAPIURL),

		LinkByHash:      c.choice("PORTAL_LINK", s.PortalLink, "signed_in", "hash") == "hash",
		RedirectByPage:  c.choice("REDIRECT", s.Redirect, "location", "page") == "page",
		CustomerTTL:     c.duration("CUSTOMER_TTL", s.CustomerTTL, time.Minute, 7*24*time.Hour),
		LinkTTL:         c.duration("LINK_TTL", s.LinkTTL, 0, time.Hour),
		RechargeTimeout: c.duration("RECHARGE_TIMEOUT", s.RechargeTimeout, 100*time.Millisecond, 20*time.Second),
		// Shopify itself gives up after about 30 seconds.
		ClickTimeout:  c.duration("CLICK_TIMEOUT", s.ClickTimeout, 2*time.Second, 25*time.Second),
		PortalAPIKeys: c.secrets("PORTAL_API_KEY", s.PortalAPIKey, 16),

		Addr:           c.addr("ADDR", s.Addr),
		OpsAddr:        c.addr("OPS_ADDR", s.OpsAddr),
		Redis:          c.redis("REDIS_URL", s.RedisURL),
		EncryptionKeys: c.keys("ENCRYPTION_KEY", s.EncryptionKey),
		LogLevel:       c.level("LOG_LEVEL", s.LogLevel),
		LogText:        c.choice("LOG_FORMAT", s.LogFormat, "json", "text") == "text",
		TracesURL:      c.collector("OTEL_EXPORTER_OTLP_ENDPOINT", s.OTLPEndpoint),
		TracesHeaders:  c.headers("OTEL_EXPORTER_OTLP_HEADERS", s.OTLPHeaders),
		PProf:          c.choice("PPROF", cmp.Or(s.PProf, "off"), "on", "off") == "on",
	}
	config.RechargeRate, config.RechargeBurst = c.rate("RECHARGE_RATE", s.RechargeRate)
	config.RechargePortalURL = c.portal("RECHARGE_PORTAL_URL", s.RechargePortalURL, config.Shop)
	c.together(s, config)
	if len(c.problems) > 0 {
		return Config{}, c.problems
	}
	return config, nil
}

// required are the settings that every server needs. The checks of single settings
// take an empty text as none.
func (c *checker) required(s Settings) {
	for _, of := range []struct{ name, value, hint string }{
		{"SHOPIFY_API_KEY", s.ShopifyAPIKey, "the client id, in Shopify's Dev Dashboard under the app's settings"},
		{"SHOPIFY_API_SECRET", s.ShopifyAPISecret, "the client secret, beside the client id; while rotating: new,old"},
		{"APP_URL", s.AppURL, "where Shopify reaches this server, such as https://subscriptions.example.com"},
		{"RECHARGE_API_URL", s.RechargeAPIURL, "https://api.rechargeapps.com, unless you test against something else"},
	} {
		if of.value == "" {
			c.problem(of.name, "is missing", of.hint)
		}
	}
}

// together checks the settings that depend on each other.
func (c *checker) together(s Settings, config Config) {
	if s.ShopifyShop == "" {
		c.withoutShop(s)
	}
	if config.RechargeTimeout > 0 && config.ClickTimeout > 0 && config.RechargeTimeout >= config.ClickTimeout {
		hint := "leave a click time to answer after a call that took too long, as 3s and 8s do"
		c.problem("RECHARGE_TIMEOUT", "is not shorter than CLICK_TIMEOUT", hint)
	}
	_, port, _ := net.SplitHostPort(config.Addr)
	_, opsPort, _ := net.SplitHostPort(config.OpsAddr)
	if port != "" && port == opsPort && port != "0" {
		c.problem("OPS_ADDR", "has the port of ADDR", "give it a port of its own, such as 127.0.0.1:9090")
	}
}

// withoutShop is for many stores. What their merchants save must be kept, and
// sealed with a key that nothing else is made from.
func (c *checker) withoutShop(s Settings) {
	const many = "without SHOPIFY_SHOP, merchants connect their stores in the admin, and "
	switch {
	case s.RedisURL == "" && s.EncryptionKey == "":
		hint := "your store, such as my-store.myshopify.com (for many stores, REDIS_URL and ENCRYPTION_KEY instead)"
		c.problem("SHOPIFY_SHOP", "is missing", hint)
	case s.RedisURL == "":
		c.problem("REDIS_URL", "is missing", many+"what they save is kept in Redis: redis://host:6379")
	case s.EncryptionKey == "":
		c.problem("ENCRYPTION_KEY", "is missing", many+"what they save is sealed: openssl rand -base64 32")
	}
	for _, of := range []struct{ name, value string }{
		{"RECHARGE_API_TOKEN", s.RechargeAPIToken},
		{"RECHARGE_STOREFRONT_TOKEN", s.RechargeStorefrontToken},
		{"RECHARGE_CLIENT_SECRET", s.RechargeClientSecret},
		{"RECHARGE_PORTAL_URL", s.RechargePortalURL},
		{"PORTAL_API_KEY", s.PortalAPIKey},
	} {
		if of.value != "" {
			c.problem(of.name, "is set, but no store", "it belongs to the store named by SHOPIFY_SHOP")
		}
	}
}

// checker reads one setting a method and collects the problems.
type checker struct{ problems Problems }

func (c *checker) problem(name, what, hint string) {
	c.problems = append(c.problems, Problem{name, what, hint})
}

func (c *checker) token(name, text string) Secret {
	if strings.ContainsFunc(text, notInToken) {
		c.problem(name, "has a space or a control character in it", "copy it again, without what is around it")
	}
	return NewSecret(text)
}

func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// secrets reads "new" or "new,old".
func (c *checker) secrets(name, text string, atLeast int) []Secret {
	var secrets []Secret
	for _, part := range c.newOld(name, text) {
		if len(part) < atLeast || strings.ContainsFunc(part, notInToken) {
			hint := fmt.Sprintf("'new' or 'new,old', at least %d characters each", atLeast)
			c.problem(name, "has a part that is empty, too short or not plain text", hint)
			return nil
		}
		secrets = append(secrets, NewSecret(part))
	}
	return secrets
}

// newOld splits "new,old". It returns no parts for an empty text.
func (c *checker) newOld(name, text string) []string {
	parts := strings.Split(text, ",")
	switch {
	case text == "":
		return nil
	case len(parts) > 2:
		c.problem(name, "has more than two parts", "'new,old' while rotating, else one")
		return nil
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func (c *checker) keys(name, text string) []Secret {
	var keys []Secret
	for _, part := range c.newOld(name, text) {
		key, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(key) != 32 || weak(key) {
			c.problem(name, "has a part that is not the base64 of 32 random bytes", "make one with: openssl rand -base64 32")
			return nil
		}
		keys = append(keys, NewSecret(string(key)))
	}
	return keys
}

// weak reports a key that was typed, not drawn: 32 random bytes with fewer than 16
// different ones do not occur.
func weak(key []byte) bool {
	different := map[byte]bool{}
	for _, b := range key {
		different[b] = true
	}
	return len(different) < 16
}

// url reads an https URL. http is for a loopback host, which is a test.
func (c *checker) url(name, text string) *url.URL {
	u := plainURL(text)
	switch {
	case text == "":
		return nil
	case u == nil:
		c.problem(name, "is not a plain URL", "https://host/path, without user, query or fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		c.problem(name, "is not https", "https://…; http is only for a loopback address")
		return nil
	}
	return u
}

// plainURL returns nil for a URL with anything but a scheme, a host and a path.
func plainURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil
	}
	return u
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// collector reads the base URL of an OpenTelemetry collector. It may be http: most
// collectors run beside the server.
func (c *checker) collector(name, text string) *url.URL {
	u := plainURL(text)
	switch {
	case text == "":
		return nil
	case u == nil, u.Scheme != "http" && u.Scheme != "https":
		c.problem(name, "is not a plain URL", "where the collector takes OTLP over HTTP, such as http://collector:4318")
		return nil
	}
	return u.JoinPath("v1", "traces")
}

// headerShape is the name of a header. Compiled once and never changed.
var headerShape = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// headers reads what OpenTelemetry reads, and is as strict: its library would print
// a part that it cannot read, and that is a secret.
func (c *checker) headers(name, text string) map[string]Secret {
	if text == "" {
		return nil
	}
	headers := map[string]Secret{}
	for pair := range strings.SplitSeq(text, ",") {
		header, value, ok := strings.Cut(pair, "=")
		header = strings.TrimSpace(header)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || !headerShape.MatchString(header) || strings.ContainsFunc(value, unicode.IsControl) {
			hint := "x-api-key=…,x-team=…: name=value, with %20 for a space, %2C for a comma and %25 for a percent sign"
			c.problem(name, "is not a list of headers", hint)
			return nil
		}
		headers[header] = NewSecret(value)
	}
	return headers
}

func (c *checker) portal(name, text string, shop shopify.Shop) *url.URL {
	switch {
	case text == "" && shop == "":
		return nil
	case text == "":
		return recharge.DefaultPortal(string(shop))
	}
	u, err := recharge.ParsePortalURL(text)
	if err != nil {
		hint := "https, a host and a path, and nothing after it: https://www.brand.example/tools/recurring/portal/"
		c.problem(name, "is not the address of a portal", hint)
	}
	return u
}

func (c *checker) shop(name, text string) shopify.Shop {
	shop, err := shopify.ParseShop(text)
	if err != nil && text != "" {
		hint := "my-store.myshopify.com, in small letters, not the store's own domain"
		c.problem(name, "is not a myshopify.com name", hint)
	}
	return shop
}

func (c *checker) choice(name, text string, choices ...string) string {
	if slices.Contains(choices, text) {
		return text
	}
	c.problem(name, "is not one of its values", "one of: "+strings.Join(choices, ", "))
	return ""
}

func (c *checker) duration(name, text string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		c.problem(name, "is not a duration in its bounds", fmt.Sprintf("from %v to %v, such as 90s, 5m, 24h", least, most))
		return 0
	}
	return d
}

func (c *checker) rate(name, text string) (float64, int) {
	rate, burst, _ := strings.Cut(text, ",")
	perSecond, err := strconv.ParseFloat(strings.TrimSpace(rate), 64)
	calls, err2 := strconv.Atoi(strings.TrimSpace(burst))
	if err != nil || err2 != nil || !(perSecond > 0 && perSecond <= 1000) || calls < 1 || calls > 10000 {
		c.problem(name, "is not a rate and a burst", "calls a second and burst, such as 2,40")
		return 0, 0
	}
	return perSecond, calls
}

func (c *checker) addr(name, text string) string {
	_, port, err := net.SplitHostPort(text)
	if _, notNumber := strconv.ParseUint(port, 10, 16); err != nil || notNumber != nil {
		c.problem(name, "is not an address to listen on", "host:port or :port, such as :8080")
		return ""
	}
	return text
}

func (c *checker) level(name, text string) slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.choice(name, text, "debug", "info", "warn", "error"))); err != nil {
		return slog.LevelInfo // choice has reported it
	}
	return level
}
