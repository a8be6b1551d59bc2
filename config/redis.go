package config

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Redis returns the options with which go-redis connects to Redis; nil for the embedded one.
func (c Config) Redis() *redis.UniversalOptions {
	options, _ := parseRedis(c.RedisURL.Reveal()) // Check has parsed it
	return options
}

func (c *checker) redis(name, text string) Secret {
	if _, err := parseRedis(text); err != nil && text != "" {
		c.expect(false, name, err.Error(), "redis://user:password@host:6379/0, with % / # ? @ in the password as "+
			"%25 %2F %23 %3F %40; docs/settings.md has the forms for TLS, Cluster and Sentinel")
	}
	return NewSecret(text)
}

// The groups of redisShape are everything before the hosts, the hosts, the database and the
// parameters. Compiled once and never changed.
var (
	redisShape = regexp.MustCompile(`^(rediss?://(?:[^/?#]*@)?)([^/?#@]+)(/[^?#]*)?(?:\?([^#]*))?$`)
	errRedis   = errors.New("is not the URL of a Redis") // go-redis's own errors repeat the password
)

// parseRedis reads the URL of any kind of Redis. go-redis reads the scheme, user and database, but
// its URLs have only one host and no parameter for the kind.
func parseRedis(text string) (*redis.UniversalOptions, error) {
	parts := redisShape.FindStringSubmatch(text)
	if parts == nil {
		return nil, errRedis
	}
	one, err := redis.ParseURL(parts[1] + "host" + parts[3])
	if err != nil || one.DB < 0 {
		return nil, errRedis
	}
	query, err := url.ParseQuery(parts[4])
	if err != nil || !knownParameters(query) {
		return nil, errors.New("has parameters other than cluster=true, or master_name and those of Sentinel, " +
			"or its password has a ? that is not escaped")
	}
	options := &redis.UniversalOptions{
		Username: one.Username, Password: one.Password, DB: one.DB, TLSConfig: one.TLSConfig,
		IsClusterMode: query.Get("cluster") == "true", MasterName: query.Get("master_name"),
		SentinelUsername: query.Get("sentinel_username"), SentinelPassword: query.Get("sentinel_password"),
	}
	if options.TLSConfig != nil {
		options.TLSConfig.ServerName = "" // each host has its own
	}
	port := "6379"
	if options.MasterName != "" {
		port = "26379"
	}
	for host := range strings.SplitSeq(parts[2], ",") {
		addr := redisAddr(host, port)
		if addr == "" {
			return nil, errors.New("has a host that is not host:port")
		}
		options.Addrs = append(options.Addrs, addr)
	}
	if options.DB != 0 && options.MasterName == "" && (options.IsClusterMode || len(options.Addrs) > 1) {
		return nil, errors.New("names a database, which a cluster does not have")
	}
	return options, nil
}

// redisAddr returns host:port, with defaultPort if there is none; "" for anything else.
func redisAddr(host, defaultPort string) string {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "[]") {
		return ""
	}
	port := cmp.Or(u.Port(), defaultPort)
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// knownParameters reports whether the query has nothing but cluster=true or Sentinel's parameters.
func knownParameters(query url.Values) bool {
	known := []string{"cluster"}
	if query.Get("master_name") != "" {
		known = []string{"master_name", "sentinel_username", "sentinel_password"}
	}
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) > 1 || name == "cluster" && values[0] != "true" {
			return false
		}
	}
	return true
}
