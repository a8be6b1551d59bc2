package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnknown checks which names are taken for misspelled settings, and that no value is repeated.
func TestUnknown(t *testing.T) {
	t.Parallel()
	set := "SHOPIFY_API_KEY=hush APP_URL=hush REDIS_URL=hush"
	for environ, want := range map[string]string{
		"RECHARGE_TOKEN=hush":                   "RECHARGE_TOKEN is RECHARGE_API_TOKEN or RECHARGE_STOREFRONT_TOKEN",
		"RECHARGE_API_KEY=hush":                 "RECHARGE_API_KEY is RECHARGE_API_TOKEN or RECHARGE_API_URL",
		"RECHARGE_WEBHOOK=hush":                 "RECHARGE_WEBHOOK is docs/settings.md lists the settings",
		"SHOPIFY_APIKEY=hush":                   "SHOPIFY_APIKEY is SHOPIFY_API_KEY",
		"SHOPIFY_SECRET=hush":                   "SHOPIFY_SECRET is SHOPIFY_API_SECRET",
		"SHOPIFY_APP_URL=hush":                  "SHOPIFY_APP_URL is APP_URL",
		"REDIS_URI=hush":                        "REDIS_URI is REDIS_URL",
		"redis_url=hush":                        "redis_url is REDIS_URL",
		"REDIS_URL_FILE=hush":                   "REDIS_URL_FILE is REDIS_URL",
		"ENCRYPTION_KEYS=hush":                  "ENCRYPTION_KEYS is ENCRYPTION_KEY",
		"EMAIL_FROM=hush":                       "EMAIL_FROM is MAIL_FROM",
		"LINK_TTL_SECONDS=hush PORTAL_LNK=hush": "LINK_TTL_SECONDS is LINK_TTL PORTAL_LNK is PORTAL_LINK",
		"PREPARED=hush":                         "PREPARED is PREPARE",

		"RECHARGE_sk_live_hush=1": "", // a token in the place of a name

		set:                                   "", // settings
		"RECHARGE_API_TOKEN= RECHARGE_TOKEN=": "", // empty ones count as unset
		set + " REDIS_URI=hush":               "", // another program's, since ours is set
		set + " SHOPIFY_APIKEY=hush":          "",
		"REDIS_PASSWORD=hush REDIS_HOST=hush REDIS_PORT=hush REDIS_PORT_6379_TCP=hush":                           "",
		"SHOPIFY_CLI_NO_ANALYTICS=1 SHOPIFY_FLAG_STORE=hush SHOPIFY_CLI_THEME_TOKEN=hush":                        "",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=hush OTEL_SERVICE_NAME=hush":                                         "",
		"PATH=hush MAIL=hush PORT=hush LOG=hush API_KEY=hush HOST=hush VITE_APP_URL=hush NPM_CONFIG_LOG_LEVEL=1": "",
	} {
		file := filepath.Join(t.TempDir(), ".env")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(environ, " ", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		for where, unknown := range map[string]Problems{
			"the environment": Unknown(strings.Fields(environ), "missing"), ".env": Unknown(nil, file),
		} {
			var got []string
			for _, p := range unknown {
				got = append(got, p.Name+" is "+strings.TrimPrefix(p.Hint, "rename it if you meant "))
			}
			if said := strings.Join(got, " "); said != want || strings.Contains(unknown.Error(), "hush") {
				t.Errorf("%s in %s: %q; want %q", environ, where, said, want)
			}
		}
	}
}
