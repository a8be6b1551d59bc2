package config

import (
	"bytes"
	_ "embed" // the meanings
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
	"github.com/joho/godotenv"
)

// Settings are the texts that an operator writes, one field for each environment variable. The flag
// for SHOPIFY_API_KEY is --shopify-api-key. A hidden one is a secret, whose flag CheckArgs refuses.
// They are all strings, so that Check can report every mistake at once.
type Settings struct {
	ShopifyAPIKey           string `name:"shopify-api-key" group:"Shopify" placeholder:"ID"`
	ShopifyAPISecret        string `name:"shopify-api-secret" group:"Shopify" hidden:""`
	AppURL                  string `name:"app-url" group:"Shopify" placeholder:"URL"`
	ShopifyShop             string `name:"shopify-shop" group:"Shopify" placeholder:"X.myshopify.com"`
	CustomerAccounts        string `name:"customer-accounts" group:"Shopify" default:"auto" placeholder:"auto|new|legacy"`
	RechargeAPIToken        string `name:"recharge-api-token" group:"Recharge" hidden:""`
	RechargeStorefrontToken string `name:"recharge-storefront-token" group:"Recharge" hidden:""`
	RechargeClientSecret    string `name:"recharge-client-secret" group:"Recharge" hidden:""`
	RechargeAPIURL          string `name:"recharge-api-url" group:"Recharge" default:"https://api.rechargeapps.com"`
	RechargePortalURL       string `name:"recharge-portal-url" group:"Recharge" placeholder:"URL"`
	RechargeRate            string `name:"recharge-rate" group:"Recharge" default:"auto" placeholder:"auto|RATE,BURST"`
	PortalLink              string `name:"portal-link" group:"Portal" default:"signed_in" placeholder:"MODE"`
	AccountPortalURL        string `name:"account-portal-url" group:"Portal" placeholder:"URL"`
	Redirect                string `name:"redirect" group:"Portal" default:"location" placeholder:"location|page"`
	CustomerTTL             string `name:"customer-ttl" group:"Portal" default:"24h" placeholder:"DURATION"`
	LinkTTL                 string `name:"link-ttl" group:"Portal" default:"10m" placeholder:"DURATION"`
	Prepare                 string `name:"prepare" group:"Portal" default:"on" placeholder:"on|once|off"`
	RechargeTimeout         string `name:"recharge-timeout" group:"Portal" default:"3s" placeholder:"DURATION"`
	ClickTimeout            string `name:"click-timeout" group:"Portal" default:"8s" placeholder:"DURATION"`
	PortalAPIKey            string `name:"portal-api-key" group:"Portal" hidden:""`
	Addr                    string `name:"addr" group:"Server" default:":8080" placeholder:"HOST:PORT"`
	OpsAddr                 string `name:"ops-addr" group:"Server" default:"127.0.0.1:9090" placeholder:"HOST:PORT"`
	RedisURL                string `name:"redis-url" group:"Server" hidden:""`
	EncryptionKey           string `name:"encryption-key" group:"Server" hidden:""`
	LogLevel                string `name:"log-level" group:"Server" default:"info" placeholder:"debug|info|warn|error"`
	LogFormat               string `name:"log-format" group:"Server" default:"json" placeholder:"json|text"`
	OTLPEndpoint            string `name:"otel-exporter-otlp-endpoint" group:"Server" placeholder:"URL"`
	OTLPHeaders             string `name:"otel-exporter-otlp-headers" group:"Server" hidden:""`
	SMTPURL                 string `name:"smtp-url" group:"Server" hidden:""`
	MailFrom                string `name:"mail-from" group:"Server" placeholder:"EMAIL"`
	NotifyURL               string `name:"notify-url" group:"Server" hidden:""`
	SupportContact          string `name:"support-contact" group:"Server" placeholder:"EMAIL|URL"`
	MetricsShops            string `name:"metrics-shops" group:"Server" placeholder:"top:N|SHOP,…"`
	PProf                   string `name:"pprof" group:"Server" default:"off" placeholder:"on|off"`
}

//go:embed settings.txt
var meanings string

// Meaning returns the help text of a setting's flag, from settings.txt; "" for other flags.
// docs/settings.md has the same texts.
func Meaning(flag string) string {
	_, text, _ := strings.Cut(meanings, "\n"+flag+": ")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// secrets returns the names of the hidden settings.
func secrets() (names []string) {
	for field := range reflect.TypeFor[Settings]().Fields() {
		if _, hidden := field.Tag.Lookup("hidden"); hidden {
			names = append(names, field.Tag.Get("name"))
		}
	}
	return names
}

// Groups returns the groups of settings in a command's --help, which come after its own flags. They
// explain the secrets, since these have no flag.
func Groups() (groups []kong.Group) {
	for field := range reflect.TypeFor[Settings]().Fields() {
		key, name := field.Tag.Get("group"), field.Tag.Get("name")
		if len(groups) == 0 || groups[len(groups)-1].Key != key {
			const secrets = "Secrets have no flag. Set them in the environment or in .env:"
			groups = append(groups, kong.Group{Key: key, Title: "Settings: " + key, Description: secrets})
		}
		if _, hidden := field.Tag.Lookup("hidden"); hidden {
			groups[len(groups)-1].Description += "\n  - " + EnvName(name) + ": " + Meaning(name)
		}
	}
	return groups
}

// CheckArgs refuses secrets on the command line, since every user of a machine can list its processes
// with their arguments.
// Errors: Problems.
func CheckArgs(args []string) error {
	var c checker
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		for _, name := range secrets() {
			name = EnvName(name)
			c.expect(EnvName(strings.TrimLeft(flag, "-")) != name, flag,
				"is not accepted, since anyone on this machine could read it", "set "+name+" in the environment or in .env")
		}
	}
	if len(c.problems) > 0 {
		return c.problems
	}
	return nil
}

// environment returns the variables of the dotenv file, which may be missing, overridden by those of
// environ ("NAME=value").
func environment(environ []string, dotenv string) (map[string]string, error) {
	env, err := readDotenv(dotenv)
	if err != nil {
		hint := "one NAME=value a line, in UTF-8; quote a value with spaces, as in .env.example"
		return nil, Problems{{dotenv, err.Error(), hint}}
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env, nil
}

// readDotenv finds a broken line by parsing less and less of the file. godotenv's own errors have no
// line number, and they repeat the line, which may have a secret.
func readDotenv(file string) (map[string]string, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the command line names .env
	switch {
	case err != nil && !os.IsNotExist(err):
		return nil, errors.New("cannot be read")
	case bytes.ContainsRune(text, 0): // UTF-16 has one for every Latin letter
		return nil, errors.New("is UTF-16 or binary")
	}
	text = append(bytes.TrimPrefix(text, []byte("\ufeff")), '\n')
	for end := len(text); ; end = bytes.LastIndexByte(text[:end-1], '\n') + 1 {
		env, err := godotenv.UnmarshalBytes(text[:end])
		_, nameless := env[""]
		switch {
		case err == nil && !nameless && end == len(text):
			return env, nil
		case err == nil && !nameless:
			return nil, fmt.Errorf("has a mistake in line %d", bytes.Count(text[:end], []byte("\n"))+1)
		}
	}
}

// Resolver fills flags that were not given from environ ("NAME=value") or else from the dotenv file,
// which it reads only for commands with settings. An empty variable counts as unset, since Compose
// files and shells cannot easily unset one.
func Resolver(environ []string, dotenv string) kong.Resolver {
	load := sync.OnceValues(func() (map[string]string, error) { return environment(environ, dotenv) })
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if flag.Group == nil { // --help, --once: not a setting
			return nil, nil
		}
		env, err := load()
		if value := strings.TrimSpace(env[EnvName(flag.Name)]); value != "" {
			return value, nil
		}
		return nil, err
	})
}

// EnvName returns a flag's environment variable, such as SHOPIFY_API_KEY for shopify-api-key.
func EnvName(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Help returns the help text of a flag. For a setting, it includes the environment variable and the
// default.
func Help(value *kong.Value) string {
	if value.Flag == nil || value.Flag.Group == nil {
		return value.Help
	}
	text := fmt.Sprintf("%s [%s]", Meaning(value.Name), EnvName(value.Name))
	if value.HasDefault {
		text += fmt.Sprintf(" (default %s)", value.Default)
	}
	return text
}
