package config

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
	"github.com/joho/godotenv"
)

// Settings are the texts an operator writes, one field for each name of the
// environment; --shopify-api-key is the flag for SHOPIFY_API_KEY. They are all
// strings on purpose: Check reads them, and so can report every mistake at once.
type Settings struct {
	ShopifyAPIKey           string `name:"shopify-api-key" group:"Shopify" placeholder:"ID" help:"The app's client id."`
	ShopifyAPISecret        string `name:"shopify-api-secret" group:"Shopify" placeholder:"NEW[,OLD]" help:"The app's client secret. 'new,old' while rotating: both verify, the first signs."`
	AppURL                  string `name:"app-url" group:"Shopify" placeholder:"URL" help:"Where Shopify reaches this server, https."`
	ShopifyShop             string `name:"shopify-shop" group:"Shopify" placeholder:"X.myshopify.com" help:"The one store, 'x.myshopify.com'. Empty: merchants connect theirs in the admin."`
	CustomerAccounts        string `name:"customer-accounts" group:"Shopify" default:"new" placeholder:"new|legacy" help:"Which sign-in page the store has: 'new' or 'legacy'."`
	RechargeAPIToken        string `name:"recharge-api-token" group:"Recharge" placeholder:"TOKEN" help:"That store's Admin API token."`
	RechargeStorefrontToken string `name:"recharge-storefront-token" group:"Recharge" placeholder:"TOKEN" help:"That store's storefront token, for sessions."`
	RechargeClientSecret    string `name:"recharge-client-secret" group:"Recharge" placeholder:"SECRET" help:"That store's API client secret: with it, webhooks at Recharge are set up and kept."`
	RechargeAPIURL          string `name:"recharge-api-url" group:"Recharge" default:"https://api.rechargeapps.com" placeholder:"URL" help:"Recharge's API."`
	RechargePortalURL       string `name:"recharge-portal-url" group:"Recharge" placeholder:"URL" help:"Portal base for links by hash, and a host that links may lead to. Empty: 'https://<shop>/tools/recurring/portal/'."`
	RechargeRate            string `name:"recharge-rate" group:"Recharge" default:"2,40" placeholder:"RATE,BURST" help:"Calls a second and burst of the token."`
	PortalLink              string `name:"portal-link" group:"Portal" default:"signed_in" placeholder:"signed_in|hash" help:"'signed_in': session and portal access, else by hash. 'hash': always by hash."`
	Redirect                string `name:"redirect" group:"Portal" default:"location" placeholder:"location|page" help:"'location': a 302. 'page': a 200 page that forwards at once."`
	CustomerTTL             string `name:"customer-ttl" group:"Portal" default:"24h" placeholder:"DURATION" help:"How long a customer is remembered."`
	LinkTTL                 string `name:"link-ttl" group:"Portal" default:"10m" placeholder:"DURATION" help:"How long a portal access is reused, for every destination; 0 never reuses one."`
	RechargeTimeout         string `name:"recharge-timeout" group:"Portal" default:"3s" placeholder:"DURATION" help:"How long one call may take."`
	ClickTimeout            string `name:"click-timeout" group:"Portal" default:"8s" placeholder:"DURATION" help:"How long one click may take."`
	PortalAPIKey            string `name:"portal-api-key" group:"Portal" placeholder:"NEW[,OLD]" help:"'new,old' keys of the store's own server, for '/api/portal-links' and '/go'. Empty: both are off; without a SHOPIFY_SHOP they are made in the admin."`
	Addr                    string `name:"addr" group:"Server" default:":8080" placeholder:"HOST:PORT" help:"Public listener."`
	OpsAddr                 string `name:"ops-addr" group:"Server" default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"'/livez', '/readyz' and '/metrics'; never the public listener."`
	RedisURL                string `name:"redis-url" group:"Server" placeholder:"URL" help:"'redis://' or 'rediss://', several hosts (or '?cluster=true') for Cluster, '?master_name=' for Sentinel (and '&sentinel_password='). Empty: embedded, in memory; for many stores it is required."`
	EncryptionKey           string `name:"encryption-key" group:"Server" placeholder:"NEW[,OLD]" help:"32-byte key, base64, that seals what Redis holds; 'new,old' while replacing it. One store: derived from the app's secret if empty. Many: required."`
	LogLevel                string `name:"log-level" group:"Server" default:"info" placeholder:"debug|info|warn|error" help:"What is logged: 'debug', 'info', 'warn' or 'error'."`
	LogFormat               string `name:"log-format" group:"Server" default:"json" placeholder:"json|text" help:"How it is logged: 'json' or 'text'."`
	OTLPEndpoint            string `name:"otel-exporter-otlp-endpoint" group:"Server" placeholder:"URL" help:"An OpenTelemetry collector, OTLP over HTTP: a span of each click and of each of its steps is sent there. Empty: none is."`
	OTLPHeaders             string `name:"otel-exporter-otlp-headers" group:"Server" placeholder:"NAME=VALUE[,…]" help:"What the collector wants for headers: 'name=value', several with commas, values escaped as in an address."`
	PProf                   string `name:"pprof" group:"Server" default:"off" placeholder:"on|off" help:"'on': '/debug/pprof/' on OPS_ADDR, for who looks for a fault."`
}

// environment returns the variables of environ ("NAME=value"), with those of
// the dotenv file beneath them. A file that is not there is no mistake.
func environment(environ []string, dotenv string) (map[string]string, error) {
	env := map[string]string{}
	switch file, err := godotenv.Read(dotenv); {
	case err == nil:
		env = file
	case !os.IsNotExist(err):
		// godotenv's own text would repeat the line, and with it a secret.
		return nil, Problems{{Name: dotenv, What: "cannot be read", Hint: "one NAME=value a line; quote a value with spaces, as in .env.example"}}
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env, nil
}

// Resolver fills flags that were not given from environ ("NAME=value") and,
// beneath it, the dotenv file. That is read when the first setting is asked for,
// so commands without settings do without it. An empty variable counts as
// absent, since compose files and shells cannot easily unset one.
func Resolver(environ []string, dotenv string) kong.Resolver {
	load := sync.OnceValues(func() (map[string]string, error) { return environment(environ, dotenv) })
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if flag.Group == nil { // --help, --once: not a setting
			return nil, nil
		}
		env, err := load()
		if err != nil {
			return nil, err
		}
		if value := strings.TrimSpace(env[EnvName(flag.Name)]); value != "" {
			return value, nil
		}
		return nil, nil
	})
}

// EnvName is the environment's name for a flag: SHOPIFY_API_KEY for shopify-api-key.
func EnvName(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Help is the help text of a flag, with the environment's name for it.
func Help(value *kong.Value) string {
	if value.Flag == nil || value.Flag.Group == nil {
		return value.Help
	}
	text := fmt.Sprintf("%s [%s]", value.Help, EnvName(value.Name))
	if value.HasDefault {
		text += fmt.Sprintf(" (default %s)", value.Default)
	}
	return text
}
