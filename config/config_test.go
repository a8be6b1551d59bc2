package config

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

const key1 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// settings parses env and args as the command line does.
func settings(t *testing.T, env map[string]string, args ...string) Settings {
	t.Helper()
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	s, err := parse(Resolver(environ, filepath.Join(t.TempDir(), "none")), args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(resolver kong.Resolver, args ...string) (Settings, error) {
	var s Settings
	parser, err := kong.New(&s, kong.Resolvers(resolver))
	if err != nil {
		return s, err
	}
	_, err = parser.Parse(args)
	return s, err
}

func oneStore(more ...string) map[string]string {
	env := map[string]string{
		"SHOPIFY_API_KEY":    "client-id",
		"SHOPIFY_API_SECRET": "client-secret",
		"APP_URL":            "https://subscriptions.example.com",
		"SHOPIFY_SHOP":       "my-store.myshopify.com",
	}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

func TestDefaults(t *testing.T) {
	c, err := settings(t, oneStore()).Check()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.Addr, c.OpsAddr, c.Redis() == nil, c.EncryptionKeys == nil, c.RechargeAPIURL, c.RechargePortalURL,
		c.RechargeRate, c.RechargeBurst, c.Link, c.Accounts, c.RedirectByPage,
		c.CustomerTTL, c.LinkTTL, c.RechargeTimeout, c.ClickTimeout, c.LogLevel, c.LogText)
	want := fmt.Sprintln(":8080", "127.0.0.1:9090", true, true, "https://api.rechargeapps.com", (*url.URL)(nil),
		0.0, 0, "signed_in", "auto", false,
		24*time.Hour, 10*time.Minute, 3*time.Second, 8*time.Second, slog.LevelInfo, false)
	if got != want {
		t.Errorf("defaults = %s; want %s", got, want)
	}
}

func TestValues(t *testing.T) {
	key2 := base64.StdEncoding.EncodeToString([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"))
	c, err := settings(t, oneStore(
		"SHOPIFY_API_SECRET", "new, old", "ENCRYPTION_KEY", key1+","+key2, "RECHARGE_RATE", "4, 80",
		"RECHARGE_API_URL", "http://127.0.0.1:1234", "RECHARGE_PORTAL_URL", "https://portal.brand.com/portal",
		"PORTAL_LINK", "hash", "CUSTOMER_ACCOUNTS", "legacy", "REDIRECT", "page", "LINK_TTL", "0", "LOG_LEVEL", "error", "LOG_FORMAT", "text",
	)).Check()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ShopifyAPISecrets[0].Reveal() + "|" + c.ShopifyAPISecrets[1].Reveal(); got != "new|old" {
		t.Errorf("secrets = %s; want new|old", got)
	}
	got := fmt.Sprintln(len(c.EncryptionKeys), c.RechargeRate, c.RechargeBurst, c.RechargePortalURL, c.Link, c.Accounts, c.RedirectByPage, c.LinkTTL, c.LogLevel, c.LogText)
	want := fmt.Sprintln(2, 4.0, 80, "https://portal.brand.com/portal/", "hash", "legacy", true, time.Duration(0), slog.LevelError, true)
	if got != want {
		t.Errorf("values = %s; want %s", got, want)
	}
}

func TestMetricsShops(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		shops []shopify.Shop
		top   int
	}{
		"":       {},
		"top:50": {top: 50},
		"my-store.myshopify.com, b.myshopify.com": {shops: []shopify.Shop{"my-store.myshopify.com", "b.myshopify.com"}},
	} {
		c, err := settings(t, oneStore("METRICS_SHOPS", text)).Check()
		if err != nil || c.MetricsTop != want.top || !slices.Equal(c.MetricsShops, want.shops) {
			t.Errorf("%q = %v %d, %v; want %v", text, c.MetricsShops, c.MetricsTop, err, want)
		}
	}
}

func TestSupportContact(t *testing.T) {
	for text, want := range map[string]string{
		"help@agency.example":         "mailto:help@agency.example",
		"https://agency.example/help": "https://agency.example/help",
	} {
		c, err := settings(t, oneStore("SUPPORT_CONTACT", text)).Check()
		if err != nil || c.SupportContact.String() != want {
			t.Errorf("%s = %v, %v; want %s", text, c.SupportContact, err, want)
		}
	}
}

func TestNotices(t *testing.T) {
	const from, hook = "reports@agency.example", "https://hooks.example.com/a?key=1"
	for text, want := range map[string]SMTP{
		"smtp://mail.example":                  {Host: "mail.example", Port: "587", From: from},
		"smtps://mail.example":                 {Host: "mail.example", Port: "465", TLS: true, From: from},
		"smtp://me:p%40ss@mail.example:2525":   {Host: "mail.example", Port: "2525", User: "me", From: from},
		"smtps://me%40x:pa%3Ass@mail.example/": {Host: "mail.example", Port: "465", TLS: true, User: "me@x", From: from},
	} {
		c, err := settings(t, oneStore("SMTP_URL", text, "MAIL_FROM", from, "NOTIFY_URL", hook)).Check()
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		password := c.SMTP.Password.Reveal()
		if got := *c.SMTP; got.Host != want.Host || got.Port != want.Port || got.TLS != want.TLS || got.User != want.User ||
			got.From != from || (password == "") != (want.User == "") || c.NotifyURL.Reveal() != hook {
			t.Errorf("%s = %+v, %s; want %+v", text, got, c.NotifyURL.Reveal(), want)
		}
	}
	for _, test := range []struct{ smtp, from, url, want string }{
		{"mail.example:587", from, "", "SMTP_URL"}, {"http://mail.example", from, "", "SMTP_URL"}, {"smtp://", from, "", "SMTP_URL"}, {"smtp://mail.example:99999", from, "", "SMTP_URL"},
		{"smtp://mail.example", "", "", "MAIL_FROM"}, {"smtp://mail.example", "Me <me@agency.example>", "", "MAIL_FROM"},
		{"", from, "", "MAIL_FROM"}, {"", "", "http://hooks.example.com/", "NOTIFY_URL"}, {"", "", "hooks", "NOTIFY_URL"},
	} {
		_, err := settings(t, oneStore("SMTP_URL", test.smtp, "MAIL_FROM", test.from, "NOTIFY_URL", test.url)).Check()
		if got := problemNames(t, err); !slices.Equal(got, []string{test.want}) {
			t.Errorf("%+v: problems with %v", test, got)
		}
	}
}

func problemNames(t *testing.T, err error) []string {
	t.Helper()
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("error = %v; want Problems", err)
	}
	var names []string
	for _, problem := range problems {
		names = append(names, problem.Name)
		if problem.What == "" || problem.Hint == "" {
			t.Errorf("%s: What = %q, Hint = %q; want both", problem.Name, problem.What, problem.Hint)
		}
		if !strings.Contains(err.Error(), problem.Hint) {
			t.Errorf("%q does not hold the hint %q", err, problem.Hint)
		}
	}
	return names
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := settings(t, nil).Check()
	if diff := cmp.Diff([]string{"SHOPIFY_API_KEY", "SHOPIFY_API_SECRET", "APP_URL", "SHOPIFY_SHOP"}, problemNames(t, err)); diff != "" {
		t.Errorf("with nothing set (-want +got):\n%s", diff)
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"SHOPIFY_API_KEY", "two words", "SHOPIFY_API_KEY"},
		{"SHOPIFY_API_SECRET", ",", "SHOPIFY_API_SECRET"},
		{"SHOPIFY_API_SECRET", "new,", "SHOPIFY_API_SECRET"},
		{"SHOPIFY_API_SECRET", "a,b,c", "SHOPIFY_API_SECRET"},
		{"APP_URL", "http://subscriptions.example.com", "APP_URL"},
		{"APP_URL", "subscriptions.example.com", "APP_URL"},
		{"APP_URL", "https://user@subscriptions.example.com", "APP_URL"},
		{"APP_URL", "https://a b", "APP_URL"},
		{"SHOPIFY_SHOP", "my-store.com", "SHOPIFY_SHOP"},
		{"SHOPIFY_SHOP", "My-Store.myshopify.com", "SHOPIFY_SHOP"},
		{"SHOPIFY_SHOP", "my-store.myshopify.com.evil.example", "SHOPIFY_SHOP"},
		{"ADDR", "8080", "ADDR"},
		{"OPS_ADDR", "127.0.0.1:http", "OPS_ADDR"},
		{"OPS_ADDR", ":8080", "OPS_ADDR"},
		{"REDIS_URL", "localhost:6379", "REDIS_URL"},
		{"REDIS_URL", "redis://", "REDIS_URL"},
		{"REDIS_URL", "redis://host/name", "REDIS_URL"},
		{"REDIS_URL", "redis://a,b/1", "REDIS_URL"},
		{"REDIS_URL", "redis://a?pool_size=1", "REDIS_URL"},
		{"REDIS_URL", "redis://a/1?cluster=true", "REDIS_URL"},
		{"REDIS_URL", "redis://a?cluster=yes", "REDIS_URL"},
		{"REDIS_URL", "redis://a?cluster=true&master_name=main", "REDIS_URL"},
		{"REDIS_URL", "redis://a?pool_size=1&master_name=main", "REDIS_URL"},
		{"REDIS_URL", "redis://a?master_name=", "REDIS_URL"},
		{"REDIS_URL", "redis://a?master_name=main&master_name=other", "REDIS_URL"},
		{"REDIS_URL", "redis://a?sentinel_password=secret", "REDIS_URL"},
		{"REDIS_URL", "redis://a?master_name=main&sentinel_password=a;b", "REDIS_URL"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "x-api-key: hush", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=hush%hush", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=hush,", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%0d%0ab", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"METRICS_SHOPS", "top:0", "METRICS_SHOPS"},
		{"METRICS_SHOPS", "top:501", "METRICS_SHOPS"},
		{"METRICS_SHOPS", "top:all", "METRICS_SHOPS"},
		{"METRICS_SHOPS", "my-store.myshopify.com,www.brand.example", "METRICS_SHOPS"},
		{"METRICS_SHOPS", strings.Repeat("my-store.myshopify.com,", 500) + "my-store.myshopify.com", "METRICS_SHOPS"},
		{"SUPPORT_CONTACT", "help", "SUPPORT_CONTACT"},
		{"SUPPORT_CONTACT", "http://agency.example/help", "SUPPORT_CONTACT"},
		{"SUPPORT_CONTACT", "javascript:alert(1)", "SUPPORT_CONTACT"},
		{"SUPPORT_CONTACT", "Help <help@agency.example>", "SUPPORT_CONTACT"},
		{"SUPPORT_CONTACT", "help?bcc=x@agency.example", "SUPPORT_CONTACT"},
		{"RECHARGE_PORTAL_URL", "http://www.brand.com/portal/", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "https://www.brand.com/portal/?theme=1", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "https://www.brand.com/a/../portal/", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "https://www.brand.com//portal/", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "https://brand/portal/", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "http://127.0.0.1:8088/portal/", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_PORTAL_URL", "https://10.0.0.1/portal/", "RECHARGE_PORTAL_URL"},
		{"ENCRYPTION_KEY", "c2hvcnQ=", "ENCRYPTION_KEY"},
		{"ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "ENCRYPTION_KEY"},
		{"RECHARGE_API_TOKEN", "two words", "RECHARGE_API_TOKEN"},
		{"RECHARGE_API_URL", "http://api.rechargeapps.com", "RECHARGE_API_URL"},
		{"RECHARGE_PORTAL_URL", "javascript:alert(1)", "RECHARGE_PORTAL_URL"},
		{"RECHARGE_RATE", "2", "RECHARGE_RATE"},
		{"RECHARGE_RATE", "auto,40", "RECHARGE_RATE"},
		{"RECHARGE_RATE", "Auto", "RECHARGE_RATE"},
		{"RECHARGE_RATE", "0,40", "RECHARGE_RATE"},
		{"RECHARGE_RATE", "NaN,40", "RECHARGE_RATE"},
		{"PORTAL_LINK", "token", "PORTAL_LINK"},
		{"CUSTOMER_ACCOUNTS", "classic", "CUSTOMER_ACCOUNTS"},
		{"REDIRECT", "307", "REDIRECT"},
		{"CUSTOMER_TTL", "-1h", "CUSTOMER_TTL"},
		{"LINK_TTL", "60", "LINK_TTL"},
		{"RECHARGE_TIMEOUT", "9s", "RECHARGE_TIMEOUT"},
		{"CLICK_TIMEOUT", "1m", "CLICK_TIMEOUT"},
		{"PORTAL_API_KEY", "short", "PORTAL_API_KEY"},
		{"LOG_LEVEL", "loud", "LOG_LEVEL"},
		{"LOG_FORMAT", "xml", "LOG_FORMAT"},
	} {
		_, err := settings(t, oneStore(test.name, test.value)).Check()
		if diff := cmp.Diff([]string{test.want}, problemNames(t, err)); diff != "" {
			t.Errorf("%s=%q (-want +got):\n%s", test.name, test.value, diff)
		}
	}
}

// TestAccountPortal: PORTAL_LINK=account needs the address of the one store's page, and a wrong one is not
// called missing, too.
func TestAccountPortal(t *testing.T) {
	for page, want := range map[string][]string{
		"": {"ACCOUNT_PORTAL_URL is missing"}, "https://shopify.com/1/account/pages/2": nil,
		"https://shopify.com/1/account/pages/2?locale=en": {"ACCOUNT_PORTAL_URL is not the address of a portal"},
	} {
		_, err := settings(t, oneStore("PORTAL_LINK", "account", "ACCOUNT_PORTAL_URL", page)).Check()
		var got []string
		problems, _ := errors.AsType[Problems](err)
		for _, problem := range problems {
			got = append(got, problem.Name+" "+problem.What)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ACCOUNT_PORTAL_URL=%q (-want +got):\n%s", page, diff)
		}
	}
	env := oneStore("REDIS_URL", "redis://h", "ENCRYPTION_KEY", key1, "PORTAL_LINK", "account")
	delete(env, "SHOPIFY_SHOP")
	_, err := settings(t, env).Check()
	if diff := cmp.Diff([]string{"PORTAL_LINK"}, problemNames(t, err)); diff != "" {
		t.Errorf("PORTAL_LINK=account for many stores (-want +got):\n%s", diff)
	}
}

func TestWithoutAShop(t *testing.T) {
	env := oneStore("REDIS_URL", "redis://h", "ENCRYPTION_KEY", key1)
	delete(env, "SHOPIFY_SHOP")
	if _, err := settings(t, env).Check(); err != nil {
		t.Errorf("Redis and a key: %v; want no problem", err)
	}
	env["RECHARGE_API_TOKEN"] = "token"
	_, err := settings(t, env).Check()
	if diff := cmp.Diff([]string{"RECHARGE_API_TOKEN"}, problemNames(t, err)); diff != "" {
		t.Errorf("credentials without a store (-want +got):\n%s", diff)
	}
}

func TestRedisURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		want string
	}{
		{"redis://cache", "[cache:6379]  |  0 false"},
		{"redis://:pass@cache:6380/3", "[cache:6380]  | pass 3 false"},
		{"rediss://user:p%40ss@cache", "[cache:6379]  | user p@ss 0 true"},
		{"redis://a:1,b:2,c", "[a:1 b:2 c:6379]  |  0 false"},
		{"redis://a:1,b:2/4?master_name=main", "[a:1 b:2] main |  4 false"},
		{"redis://a:1?cluster=true", "[a:1]  |  0 false cluster"},
		{"redis://user:pass@a,b:2?master_name=main&sentinel_username=u&sentinel_password=p%26p", "[a:26379 b:2] main | user pass 0 false u p&p"},
		{"redis://a,a", "[a:6379 a:6379]  |  0 false"},
		{"redis://[::1]:6379", "[[::1]:6379]  |  0 false"},
	} {
		c, err := settings(t, oneStore("REDIS_URL", test.url)).Check()
		if err != nil {
			t.Errorf("REDIS_URL=%s: %v", test.url, err)
			continue
		}
		r := c.Redis()
		got := fmt.Sprintln(r.Addrs, r.MasterName, "|", r.Username, r.Password, r.DB, r.TLSConfig != nil, r.SentinelUsername, r.SentinelPassword)
		if r.IsClusterMode {
			got += " cluster"
		}
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(test.want), " ") {
			t.Errorf("REDIS_URL=%s gives %s; want %s", test.url, got, test.want)
		}
	}
}

func TestFlagsBeatEnvironmentBeatsDotenv(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("ADDR=:1\nOPS_ADDR=:2\nLINK_TTL=3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := parse(Resolver([]string{"OPS_ADDR=:20", "LINK_TTL=", "LOG_LEVEL="}, file), "--ops-addr=:200")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Addr+s.OpsAddr+s.LinkTTL+s.LogLevel, ":1:20010minfo"; got != want {
		t.Errorf("ADDR, OPS_ADDR, LINK_TTL, LOG_LEVEL = %s; want %s (an empty variable is none)", got, want)
	}
}

// TestDotenv: a file from any editor is read, and a mistake is named by its line, never by its text.
func TestDotenv(t *testing.T) {
	encode := func(order binary.AppendByteOrder, text string) string {
		var b []byte
		for _, unit := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, unit)
		}
		return string(b)
	}
	const good = "# settings\nADDR=:1\n\nPORTAL_API_KEY=\"one\ntwo=\nthree\"\nexport OPS_ADDR=':2' # ops\n"
	const read = ":1|:2|one\ntwo=\nthree"
	for name, test := range map[string]struct{ text, want string }{
		"plain":                {good, read},
		"empty":                {"", ":8080|127.0.0.1:9090|"},
		"BOM":                  {"\ufeff" + good, read},
		"only a BOM":           {"\ufeff", ":8080|127.0.0.1:9090|"},
		"CRLF":                 {strings.ReplaceAll(good, "\n", "\r\n"), read},
		"BOM and CRLF":         {"\ufeff" + strings.ReplaceAll(good, "\n", "\r\n"), read},
		"no last newline":      {strings.TrimSuffix(good, "\n"), read},
		"UTF-16, little":       {encode(binary.LittleEndian, "\ufeffADDR=hush\n"), "is UTF-16"},
		"UTF-16, big":          {encode(binary.BigEndian, "\ufeffADDR=hush\n"), "is UTF-16"},
		"UTF-16, unmarked":     {encode(binary.LittleEndian, "ADDR=hush"), "is UTF-16"},
		"no equals sign":       {"SHOPIFY_API_SECRET 'hush-hush\n", "line 1"},
		"only a value":         {"hush", "line 1"},
		"after a long value":   {good + "hush hush\nADDR=:3\n", "line 8"},
		"with CRLF":            {strings.ReplaceAll(good+"hush hush\nADDR=:3\n", "\n", "\r\n"), "line 8"},
		"quote without an end": {"ADDR=:1\nREDIS_URL='hush\nOPS_ADDR=:2\n", "line 2"},
		"quote ended later":    {"ADDR=:1\nREDIS_URL='hush\nOPS_ADDR=':2'\nLOG_LEVEL='info'\n", "line 2"},
		"two mistakes":         {"\nA B\nC D\n", "line 2"},
	} {
		file := filepath.Join(t.TempDir(), ".env")
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := parse(Resolver(nil, file))
		got := s.Addr + "|" + s.OpsAddr + "|" + s.PortalAPIKey
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != test.want || err != nil && (len(problemNames(t, err)) != 1 || !strings.Contains(got, test.want+"\n") && !strings.Contains(got, test.want+" ")) || strings.Contains(got, "hush") {
			t.Errorf("%s: %q; want %q", name, got, test.want)
		}
	}
}

// TestSecretsHaveNoFlag: a secret on the command line is refused, with the variable to set instead.
func TestSecretsHaveNoFlag(t *testing.T) {
	want := []string{"SHOPIFY_API_SECRET", "RECHARGE_API_TOKEN", "RECHARGE_STOREFRONT_TOKEN", "RECHARGE_CLIENT_SECRET", "PORTAL_API_KEY", "REDIS_URL", "ENCRYPTION_KEY", "OTEL_EXPORTER_OTLP_HEADERS", "SMTP_URL", "NOTIFY_URL"}
	var help string
	for _, group := range Groups() {
		help += group.Description + "\n"
	}
	if got := strings.Count(help, "\n  - "); got != len(want) {
		t.Errorf("--help explains %d secrets; want %d", got, len(want))
	}
	for _, name := range want {
		if text := Meaning(strings.ToLower(strings.ReplaceAll(name, "_", "-"))); text == "" || !strings.Contains(help, "\n  - "+name+": "+text+"\n") {
			t.Errorf("--help does not explain %s", name)
		}
		flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		for _, args := range [][]string{{"serve", flag + "=hush"}, {"doctor", "--json", flag, "hush"}, {"serve", flag, "-hush"}, {"serve", flag}, {name + "=hush"}} {
			err := CheckArgs(args)
			if err == nil || len(problemNames(t, err)) != 1 || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "set "+name+" in the environment") {
				t.Errorf("%q: %v; want one problem that names %s", args, err, name)
			}
		}
	}
	if err := CheckArgs([]string{"serve", "--addr=:1", "--shopify-api-key", "id", "--customer=7"}); err != nil {
		t.Errorf("without a secret: %v", err)
	}
}

// TestUnescapedPassword: a password that ends the host, the path or the query early comes with the escapes.
func TestUnescapedPassword(t *testing.T) {
	for _, url := range []string{
		"redis://:hush/hush@host", "redis://user:hush#hush@host:6379/0", "rediss://user:hush?hush@host", "redis://:hush%hush@host", "redis://:hush hush@host",
		"redis://:hush/1?cluster=true&x@host", "redis://hush[hush@host", "redis://:hush/@a,b?master_name=main", "redis://:hush?@host", "redis://:hush/hush@hush@host",
	} {
		_, err := settings(t, oneStore("REDIS_URL", url)).Check()
		if names := problemNames(t, err); len(names) != 1 || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "% / # ? @ in the password as %25 %2F %23 %3F %40") ||
			strings.Contains(err.Error(), "parameters") && !strings.Contains(err.Error(), "a ? that is not escaped") {
			t.Errorf("REDIS_URL=%s: %v; want one problem without the password, with the escapes", url, err)
		}
	}
}

func TestProblemsShowNoValue(t *testing.T) {
	const typo = "hush hush"
	_, err := settings(t, oneStore("SHOPIFY_API_SECRET", typo, "RECHARGE_API_TOKEN", typo, "ENCRYPTION_KEY", typo, "PORTAL_API_KEY", typo, "REDIS_URL", "redis://:"+typo+"@h")).Check()
	if names := problemNames(t, err); len(names) != 5 || strings.Contains(err.Error(), "hush") {
		t.Errorf("error = %v; want five problems without the value", err)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := NewSecret("hush")
	holders := []any{secret, &secret, struct{ S Secret }{secret}, struct{ s Secret }{secret}, []Secret{secret}, map[string]Secret{"k": secret}, Config{RechargeAPIToken: secret, EncryptionKeys: []Secret{secret}, RedisURL: secret}}
	for _, holder := range holders {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			if got := fmt.Sprintf(verb, holder); strings.Contains(got, "hush") || strings.Contains(got, "68757368") {
				t.Errorf("Sprintf(%q, %T) = %s; want it redacted", verb, holder, got)
			}
		}
		out, err := json.Marshal(holder)
		if err != nil || strings.Contains(string(out), "hush") {
			t.Errorf("json of %T = %s, %v; want it redacted", holder, out, err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "holder", holder)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "holder", holder)
		if strings.Contains(log.String(), "hush") {
			t.Errorf("slog of %T = %s; want it redacted", holder, &log)
		}
	}
	if got := fmt.Sprint(secret); got != "[redacted]" {
		t.Errorf("Sprint = %s; want [redacted]", got)
	}
	if got := secret.Reveal(); got != "hush" {
		t.Errorf("Reveal = %s; want hush", got)
	}
	if !(Secret{}).Empty() || (Secret{}).Reveal() != "" {
		t.Error("the zero Secret is not the empty one")
	}
}

// TestManyStores: without SHOPIFY_SHOP, merchants' data must be kept and sealed.
func TestManyStores(t *testing.T) {
	const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	for _, test := range []struct {
		redis, key string
		want       string
	}{
		{"", "", "SHOPIFY_SHOP is missing"},
		{"redis://h", "", "ENCRYPTION_KEY is missing"},
		{"", key, "REDIS_URL is missing"},
		{"redis://h", "c2hvcnQ=", "ENCRYPTION_KEY has a part that is not the base64 of 32 random bytes"},
		{"redis://h", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "ENCRYPTION_KEY has a part"},
		{"redis://h", key + ",c2hvcnQ=", "ENCRYPTION_KEY has a part"},
		{"redis://h", key, ""},
	} {
		_, err := settings(t, oneStore("SHOPIFY_SHOP", "", "RECHARGE_API_TOKEN", "", "RECHARGE_STOREFRONT_TOKEN", "", "REDIS_URL", test.redis, "ENCRYPTION_KEY", test.key)).Check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || len(problemNames(t, err)) != 1) {
			t.Errorf("REDIS_URL=%q ENCRYPTION_KEY=%q: %v; want %q", test.redis, test.key, err, test.want)
		}
	}
}
