// Package config turns what an operator writes, in the environment and in
// flags, into what the server works with, and reports all mistakes at once.
package config

import (
	"cmp"
	"encoding/base64"
	"errors"
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

// Config is what the server works with. Check makes one; every value in it has
// been checked.
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

// Redis says where Redis is and how to sign in there.
type Redis struct {
	Addrs      []string // host:port; several: a cluster, or the sentinels of MasterName
	MasterName string   // the master's name, if Addrs are sentinels
	Cluster    bool     // though there is one address
	Username   string
	Password   Secret
	DB         int
	TLS        bool

	SentinelUsername string // how to sign in to sentinels, where they ask for it
	SentinelPassword Secret
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
	config := Config{
		ShopifyAPIKey:     c.token("SHOPIFY_API_KEY", s.ShopifyAPIKey, required("the client id, in Shopify's Dev Dashboard under the app's settings")).Reveal(),
		ShopifyAPISecrets: c.secrets("SHOPIFY_API_SECRET", s.ShopifyAPISecret, 1, required("the client secret, beside the client id; while rotating: new,old")),
		AppURL:            c.url("APP_URL", s.AppURL, required("where Shopify reaches this server, such as https://subscriptions.example.com")),
		Shop:              c.shop("SHOPIFY_SHOP", s.ShopifyShop),
		LegacyAccounts:    c.choice("CUSTOMER_ACCOUNTS", s.CustomerAccounts, "new", "legacy") == "legacy",

		RechargeAPIToken:        c.token("RECHARGE_API_TOKEN", s.RechargeAPIToken, optional),
		RechargeStorefrontToken: c.token("RECHARGE_STOREFRONT_TOKEN", s.RechargeStorefrontToken, optional),
		RechargeClientSecret:    c.token("RECHARGE_CLIENT_SECRET", s.RechargeClientSecret, optional),
		RechargeAPIURL:          c.url("RECHARGE_API_URL", s.RechargeAPIURL, required("https://api.rechargeapps.com, unless you test against something else")),

		LinkByHash:      c.choice("PORTAL_LINK", s.PortalLink, "signed_in", "hash") == "hash",
		RedirectByPage:  c.choice("REDIRECT", s.Redirect, "location", "page") == "page",
		CustomerTTL:     c.duration("CUSTOMER_TTL", s.CustomerTTL, time.Minute, 7*24*time.Hour),
		LinkTTL:         c.duration("LINK_TTL", s.LinkTTL, 0, time.Hour),
		RechargeTimeout: c.duration("RECHARGE_TIMEOUT", s.RechargeTimeout, 100*time.Millisecond, 20*time.Second),
		// Shopify itself gives up after about 30 seconds.
		ClickTimeout:  c.duration("CLICK_TIMEOUT", s.ClickTimeout, 2*time.Second, 25*time.Second),
		PortalAPIKeys: c.secrets("PORTAL_API_KEY", s.PortalAPIKey, 16, optional),

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
	config.RechargePortalURL = c.portal(s.RechargePortalURL, config.Shop)
	c.together(s, config)
	if len(c.problems) > 0 {
		return Config{}, c.problems
	}
	return config, nil
}

// together checks what only several settings together get wrong.
func (c *checker) together(s Settings, config Config) {
	if s.ShopifyShop == "" {
		c.withoutShop(s)
	}
	if config.RechargeTimeout > 0 && config.ClickTimeout > 0 && config.RechargeTimeout >= config.ClickTimeout {
		c.problem("RECHARGE_TIMEOUT", "is not shorter than CLICK_TIMEOUT", "leave a click time to answer after a call that took too long, as 3s and 8s do")
	}
	_, port, _ := net.SplitHostPort(config.Addr)
	_, opsPort, _ := net.SplitHostPort(config.OpsAddr)
	if port != "" && port == opsPort && port != "0" {
		c.problem("OPS_ADDR", "has the port of ADDR", "give the operator's routes a port of their own, such as 127.0.0.1:9090")
	}
}

// withoutShop is for many stores: what their merchants save has to be kept, and
// sealed with a key that is nobody else's.
func (c *checker) withoutShop(s Settings) {
	const many = "without SHOPIFY_SHOP, merchants connect their stores in the admin, and "
	switch {
	case s.RedisURL == "" && s.EncryptionKey == "":
		c.problem("SHOPIFY_SHOP", "is missing", "the one store this server is for, such as my-store.myshopify.com (for many stores, REDIS_URL and ENCRYPTION_KEY instead)")
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

// need is the hint for a setting that must be there; "" where it need not.
type need string

const optional need = ""

func required(hint string) need { return need(hint) }

func (c *checker) missing(name string, need need) {
	if need != optional {
		c.problem(name, "is missing", string(need))
	}
}

func (c *checker) token(name, text string, need need) Secret {
	switch {
	case text == "":
		c.missing(name, need)
	case strings.ContainsFunc(text, notInToken):
		c.problem(name, "has a space or a control character in it", "copy it again, without what stands around it")
	}
	return NewSecret(text)
}

func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// secrets reads 'new' or 'new,old'.
func (c *checker) secrets(name, text string, atLeast int, need need) []Secret {
	if text == "" {
		c.missing(name, need)
		return nil
	}
	var secrets []Secret
	for _, part := range c.newOld(name, text) {
		if len(part) < atLeast || strings.ContainsFunc(part, notInToken) {
			c.problem(name, "has a part that is empty, too short or not plain text", fmt.Sprintf("'new' or 'new,old', at least %d characters each", atLeast))
			return nil
		}
		secrets = append(secrets, NewSecret(part))
	}
	return secrets
}

func (c *checker) newOld(name, text string) []string {
	parts := strings.Split(text, ",")
	if len(parts) > 2 {
		c.problem(name, "has more than two parts", "'new,old' while rotating, else one")
		return nil
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func (c *checker) keys(name, text string) []Secret {
	if text == "" {
		return nil
	}
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

// weak tells a key that somebody typed from one that was drawn: 32 random bytes
// with fewer than 16 different ones do not occur.
func weak(key []byte) bool {
	different := map[byte]bool{}
	for _, b := range key {
		different[b] = true
	}
	return len(different) < 16
}

// url reads an https URL; http is for a loopback host, which is a test.
func (c *checker) url(name, text string, need need) *url.URL {
	if text == "" {
		c.missing(name, need)
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		c.problem(name, "is not a plain URL", "https://host/path, without user, query or fragment")
		return nil
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		c.problem(name, "is not https", "https://…; http is taken for a loopback address only")
		return nil
	}
	return u
}

// collector reads the base URL of an OpenTelemetry collector. That stands beside
// the server more often than not, so http will do.
func (c *checker) collector(name, text string) *url.URL {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		c.problem(name, "is not a plain URL", "where the collector takes OTLP over HTTP, such as http://collector:4318")
		return nil
	}
	return u.JoinPath("v1", "traces")
}

// headers reads what OpenTelemetry reads, and is no laxer: its library would print
// what it does not understand, and that is a secret.
func (c *checker) headers(name, text string) map[string]Secret {
	if text == "" {
		return nil
	}
	headers := map[string]Secret{}
	for pair := range strings.SplitSeq(text, ",") {
		header, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		header = strings.TrimSpace(header)
		if !ok || err != nil || !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(header) || strings.ContainsFunc(value, unicode.IsControl) {
			c.problem(name, "is not a list of headers", "x-api-key=…,x-team=…: name=value, with %20 for a space, %2C for a comma and %25 for a percent sign")
			return nil
		}
		headers[header] = NewSecret(value)
	}
	return headers
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (c *checker) portal(text string, shop shopify.Shop) *url.URL {
	switch {
	case text == "" && shop == "":
		return nil
	case text == "":
		return recharge.DefaultPortal(string(shop))
	}
	u, err := recharge.ParsePortalURL(text)
	if err != nil {
		c.problem("RECHARGE_PORTAL_URL", "is not the address of a portal",
			"https, a host and a path, and nothing behind it: https://www.brand.example/tools/recurring/portal/")
	}
	return u
}

func (c *checker) shop(name, text string) shopify.Shop {
	shop, err := shopify.ParseShop(text)
	if err != nil && text != "" {
		c.problem(name, "is not a myshopify.com name", "my-store.myshopify.com, in small letters, not the store's own domain")
	}
	return shop
}

func (c *checker) choice(name, text string, choices ...string) string {
	for _, choice := range choices {
		if text == choice {
			return choice
		}
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

// redis reads redis://user:password@host:port,host:port/db?master_name=name, with
// &sentinel_username= and &sentinel_password= where sentinels ask for them.
// net/url refuses several hosts, so they are taken out before it sees the rest.
func (c *checker) redis(name, text string) *Redis {
	if text == "" {
		return nil
	}
	redis, err := parseRedis(text)
	if err != nil {
		c.problem(name, err.Error(), "redis://host:6379/0, rediss:// for TLS, redis://user:password@host; host1:6379,host2:6379 or ?cluster=true for a cluster, with ?master_name= for sentinels")
		return nil
	}
	return redis
}

func parseRedis(text string) (*Redis, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "redis" && scheme != "rediss" {
		return nil, errors.New("does not begin with redis:// or rediss://")
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	user, hosts, found := cutLast(rest[:end], "@")
	if !found {
		user = ""
	}
	u, err := url.Parse("redis://" + user + "@host" + rest[end:])
	if err != nil || u.Fragment != "" {
		return nil, errors.New("is not a URL")
	}
	password, _ := u.User.Password()
	redis := &Redis{TLS: scheme == "rediss", Username: u.User.Username(), Password: NewSecret(password)}
	if err := redis.parameters(u.RawQuery); err != nil {
		return nil, err
	}
	port := "6379"
	if redis.MasterName != "" {
		port = "26379"
	}
	if redis.Addrs, err = redisAddrs(hosts, port); err != nil {
		return nil, err
	}
	redis.DB, err = redisDB(strings.Trim(u.Path, "/"), redis.Cluster || len(redis.Addrs) > 1 && redis.MasterName == "")
	return redis, err
}

// parameters takes those of a cluster and of sentinels: there are no others.
func (r *Redis) parameters(text string) error {
	query, err := url.ParseQuery(text)
	if err != nil {
		return errors.New("has parameters that cannot be read: write & as %26, ; as %3B and % as %25 in a value")
	}
	for name, values := range query {
		known := slices.Contains([]string{"cluster", "master_name", "sentinel_username", "sentinel_password"}, name)
		if !known || len(values) > 1 || name == "cluster" && (values[0] != "true" || len(query) > 1) {
			return errors.New("has a parameter other than cluster=true, or master_name, sentinel_username and sentinel_password, or one twice")
		}
	}
	r.Cluster = query.Has("cluster")
	r.MasterName = query.Get("master_name")
	r.SentinelUsername = query.Get("sentinel_username")
	r.SentinelPassword = NewSecret(query.Get("sentinel_password"))
	if r.MasterName == "" && len(query) > 0 && !r.Cluster {
		return errors.New("has a parameter of sentinels, but no master_name")
	}
	return nil
}

func redisDB(path string, cluster bool) (int, error) {
	if path == "" {
		return 0, nil
	}
	db, err := strconv.Atoi(path)
	switch {
	case err != nil || db < 0:
		return 0, errors.New("has a path that is not the number of a database")
	case cluster && db != 0:
		return 0, errors.New("names a database, which a cluster does not have")
	}
	return db, nil
}

func redisAddrs(hosts, port string) ([]string, error) {
	var addrs []string
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := redisAddr(host, port)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// redisAddr is host:port, with the port that a host has who names none.
func redisAddr(host, port string) (string, error) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(u.Hostname(), "[]") {
		return "", errors.New("has a host that is not host:port")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", errors.New("has a port that there is not")
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
