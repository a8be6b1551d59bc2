package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/doctor"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// stores runs the stores command, and returns what it says.
func stores(f *servertest.Fixture, ask server.StoresOptions, change ...func(*config.Settings)) (bool, string, error) {
	f.T.Helper()
	cfg := f.Config(change...)
	var out strings.Builder
	ok, err := server.Stores(f.T.Context(), cfg, ask, &out, server.Options{Now: f.Clock.Now})
	return ok, out.String(), err
}

// TestStores: one command says which store is in trouble, and why its shoppers see which page. It makes no call.
func TestStores(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	all := func() (bool, string) {
		t.Helper()
		ok, said, err := stores(f, server.StoresOptions{}, servertest.ManyStores)
		if err != nil {
			t.Fatal(err)
		}
		return ok, said
	}
	says := func(said string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !regexp.MustCompile(want).MatchString(said) {
				t.Errorf("it says\n%s\nwant %s", said, want)
			}
		}
	}
	f.Until("the clicks are counted", func() bool { _, said := all(); return strings.Contains(said, "100 %") })
	ok, said := all()
	says(said, `(?m)^fixture-shop\.myshopify\.com +- +0m +signed_in +new +\d+m +proven +- +\d+ +100 % +\d+ of 10000 +0 +-$`, `^0 of 1 stores in trouble\n`)
	if !ok {
		t.Error("a store is in trouble; want none")
	}

	// Others: the token is refused, the record is another key's, nobody has connected.
	now := f.Clock.Now()
	save := func(shop shopify.Shop, change func(*store.Connection)) {
		connection := store.Connection{Shop: shop, APIToken: "sk_test_other", SavedAt: now.Add(-72 * time.Hour)}
		change(&connection)
		f.SaveElsewhere(connection)
	}
	save("b-refused.myshopify.com", func(c *store.Connection) { c.Look = store.Look{At: now.Add(-5 * time.Hour), Refused: true} })
	save("z-damaged.myshopify.com", func(*store.Connection) {})
	save("a-never-read.myshopify.com", func(c *store.Connection) { c.ClientSecret = "x" })
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	if err := client.Set(t.Context(), "ms2:{z-damaged.myshopify.com}:shop", "another key's", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ZAdd(t.Context(), "ms2:shops", redis.Z{Member: "gone.myshopify.com"}).Err(); err != nil {
		t.Fatal(err)
	}
	f.Recharge.SetFaults(func(r *rechargetest.Faults) { r.Status = 503 })
	for range 3 {
		if got := f.Click(f.Shopper(servertest.Robin), "/apps/subscriptions").Outcome(); got != "unavailable" {
			t.Fatalf("a click while Recharge is down = %s; want unavailable", got)
		}
	}
	f.Calls()
	var detail string
	f.Until("the failed clicks are counted", func() bool {
		_, detail, _ = stores(f, server.StoresOptions{Shop: servertest.Shop}, servertest.ManyStores)
		return strings.Contains(detail, "unavailable: 3") && strings.Contains(detail, "\nerror ")
	})
	ok, said = all()
	says(said,
		`(?s)z-damaged\S+ +unreadable +(- +)+the shop's record does not open.*b-refused\S+ +token refused +3d .* 5h +no secret.*`+
			`fixture-shop\S+ .*Recharge is down.*a-never-read\S+ +import old `, `^[34] of 4 stores in trouble\n`)
	says(detail, `(?m)^  page +unavailable: 3 were asked to try again in a moment\.\n +-> The errors below say why\.$`,
		`(?m)^error +.* Recharge is down\.$`, `(?m)^budget +[\d,]+ of 10,000 calls left`)
	if ok || strings.Contains(said, "gone.myshopify.com") {
		t.Errorf("it says %q, all well: %v; want no store that has left, and trouble", said, ok)
	}
	_, said, _ = stores(f, server.StoresOptions{Shop: "gone.myshopify.com"}, servertest.ManyStores)
	says(said, `trouble +not connected: The merchant has to connect Recharge`)

	var report struct {
		OK     bool
		Stores []struct {
			Shop     string
			Troubles []struct{ Name, Text string }
			Outcomes []struct{ Outcome string }
		}
	}
	_, said, err := stores(f, server.StoresOptions{JSON: true}, servertest.ManyStores)
	if err := json.Unmarshal([]byte(said), &report); err != nil {
		t.Fatal(err)
	}
	if err != nil || report.OK || len(report.Stores) != 4 || report.Stores[0].Troubles[0].Name != "unreadable" {
		t.Errorf("--json: %v, %s", err, said)
	}
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("the command makes calls %v; want none", calls)
	}
	for name, test := range map[string]struct {
		shop   string
		change func(*config.Settings)
		want   string
	}{
		"no shop's name":      {"www.brand.example", servertest.ManyStores, "is not a myshopify.com name"},
		"another store":       {"other.myshopify.com", func(*config.Settings) {}, "is another store than"},
		"the embedded Redis":  {"", func(s *config.Settings) { s.RedisURL = "" }, "REDIS_URL is empty"},
		"a Redis that is off": {"", func(s *config.Settings) { servertest.ManyStores(s); s.RedisURL = "redis://127.0.0.1:1" }, "connection refused"},
	} {
		if _, said, err := stores(f, server.StoresOptions{Shop: test.shop}, test.change); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %q; want %q", name, err, said, test.want)
		}
	}
}

// TestStoresOfOne: the command works for a server for one store, too, and says how much of the shared budget is left.
func TestStoresOfOne(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0, func(s *config.Settings) { s.RechargeRate = "0.1,40" })
	f.WaitForImport()
	if got := f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions").Outcome(); got != "redirected" {
		t.Fatalf("click = %s; want redirected", got)
	}
	slow := func(s *config.Settings) { s.RechargeRate = "0.1,40" }
	var said string
	f.Until("the click is counted", func() bool {
		_, said, _ = stores(f, server.StoresOptions{}, slow)
		return strings.Contains(said, "100 %")
	})
	if !regexp.MustCompile(`(?m)^fixture-shop\S+ +- +- +signed_in +new +- +no secret +0m +1 +100 % +3\d of 40 `).MatchString(said) {
		t.Errorf("it says\n%s\nwant the store without trouble, and some of the calls taken", said)
	}
	_, said, _ = stores(f, server.StoresOptions{}, slow, func(s *config.Settings) { s.RechargeAPIToken = "" })
	if !strings.Contains(said, "set RECHARGE_API_TOKEN") {
		t.Errorf("without a token it says\n%s", said)
	}
}

// TestStoresOfNone: if Redis lists no store, nothing is known, and so nothing is well.
func TestStoresOfNone(t *testing.T) {
	t.Parallel()
	f := servertest.StartWith(t, storetest.Redis(t), servertest.ManyStores)
	for _, json := range []bool{false, true} {
		ok, said, err := stores(f, server.StoresOptions{JSON: json}, servertest.ManyStores)
		if err != nil || ok || !strings.Contains(said, "0 of 0 stores") && !strings.Contains(said, `{"ok":false,"stores":[]}`) {
			t.Errorf("without a store: %v, %q, all well: %v; want that there is none, and exit code 1", err, said, ok)
		}
	}
}

// TestStoresMany measures the command with a hundred stores and, with CI=true, with a thousand.
func TestStoresMany(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	key, _ := base64.StdEncoding.DecodeString(servertest.EncryptionKey)
	kept, err := store.Open(store.Options{
		Redis: &redis.UniversalOptions{Addrs: []string{f.Redis.Addr}}, Keys: [][]byte{key}, Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	saved := 0
	for _, n := range suite.Pick([]int{100, 1000}, []int{100}) {
		for ; saved < n; saved++ {
			shop := shopify.Shop(fmt.Sprintf("store-%04d.myshopify.com", saved))
			if err := kept.SaveConnection(t.Context(), store.Connection{Shop: shop, APIToken: "sk_test", SavedAt: f.Clock.Now()}); err != nil {
				t.Fatal(err)
			}
			kept.Count(shop, "redirected", 10)
			kept.NoteError(shop, "unavailable")
		}
		if err := kept.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, said, err := stores(f, server.StoresOptions{}, servertest.ManyStores)
		if lines := strings.Count(said, "\n"); err != nil || lines != n+2 {
			t.Errorf("%d stores: %v, %d lines", n, err, lines)
		}
		t.Logf("%d stores were read in %v", n, time.Since(begun))
	}
}

// TestDoctorAll: doctor checks each connected store at Recharge, and says what is wrong with which.
func TestDoctorAll(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.SaveElsewhere(store.Connection{Shop: "a-revoked.myshopify.com", APIToken: "sk_test_revoked", SavedAt: f.Clock.Now()})
	f.SaveElsewhere(store.Connection{Shop: "z-damaged.myshopify.com", APIToken: "sk_test_other", SavedAt: f.Clock.Now()})
	client := redis.NewClient(&redis.Options{Addr: f.Redis.Addr})
	defer client.Close()
	if err := client.Set(t.Context(), "ms2:{z-damaged.myshopify.com}:shop", "another key's", 0).Err(); err != nil {
		t.Fatal(err)
	}
	f.Calls()
	ask := func(ask doctor.Options, change ...func(*config.Settings)) (doctor.Report, error) {
		cfg := f.Config(change...)
		return server.Doctor(t.Context(), cfg, ask, server.Options{Now: f.Clock.Now})
	}
	report, err := ask(doctor.Options{All: true}, servertest.ManyStores)
	if err != nil || report.OK {
		t.Fatalf("doctor --all = %v, %v; want failed checks", report.OK, err)
	}
	found := map[string]doctor.Check{}
	for _, check := range report.Checks {
		found[check.Name] = check
	}
	for shop, want := range map[string]struct {
		status        doctor.Status
		found, remedy string
	}{
		servertest.Shop:           {doctor.OK, "6 checks passed", ""},
		"a-revoked.myshopify.com": {doctor.Fail, "recharge.token: bad token (401)", "make a new Admin token at Recharge and paste it in the app"},
		"z-damaged.myshopify.com": {doctor.Fail, "unreadable: the shop's record does not open", "see manage-subscriptions stores --shop z-damaged.myshopify.com"},
	} {
		got := found[shop]
		if got.Status != want.status || !strings.Contains(got.Found, want.found) || !strings.Contains(got.Remedy, want.remedy) {
			t.Errorf("%s: %+v; want %v", shop, got, want)
		}
	}
	if found["recharge.token"].Name != "" || found["redis.reach"].Status != doctor.OK || found["app.reach"].Name == "" {
		t.Errorf("doctor --all checks %v; want Redis and the server once, and no store by itself", found)
	}

	for stored, want := range map[string]doctor.Status{"": doctor.Warn, "no list": doctor.Fail} {
		if err := client.Del(t.Context(), "ms2:shops").Err(); err != nil {
			t.Fatal(err)
		}
		if stored != "" {
			client.Set(t.Context(), "ms2:shops", stored, 0)
		}
		report, err := ask(doctor.Options{All: true}, servertest.ManyStores)
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range report.Checks {
			if check.Name == "stores" && check.Status != want {
				t.Errorf("with %q in the place of the list of stores: %+v; want %s", stored, check, want)
			}
		}
	}
	if calls := f.Calls(); calls["token_information"] != 2 || calls["sessions"] != 0 {
		t.Errorf("doctor --all makes calls %v; want one for each token, and no session", calls)
	}
	report, err = ask(doctor.Options{All: true}, servertest.ManyStores, func(s *config.Settings) { s.RedisURL = "redis://127.0.0.1:1" })
	if last := report.Checks[len(report.Checks)-2]; err != nil || last.Name != "stores" || last.Status != doctor.Fail {
		t.Errorf("without Redis: %v, %+v; want no stores", err, report.Checks)
	}
	report, _ = ask(doctor.Options{All: true})
	if !slices.ContainsFunc(report.Checks, func(c doctor.Check) bool { return c.Name == "recharge.token" && c.Status == doctor.OK }) {
		t.Errorf("for one store: %+v; want it checked as without --all", report.Checks)
	}
}
