package merchant_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

const shop = shopify.Shop(servertest.Shop)

// noMeter counts nothing.
type noMeter struct{ portal.Meter }

func (noMeter) Call(recharge.Call) {}

// looks is a service without a server, whose hourly job a test runs itself.
type looks struct {
	*merchant.Service
	t        *testing.T
	clock    servertest.Clock
	recharge *rechargetest.Server
	platform *shopifytest.Server
}

// newLooks returns a service for many stores or, if single is not nil, for that one.
func newLooks(t *testing.T, single *store.Connection) *looks {
	t.Helper()
	l := &looks{t: t}
	l.recharge = rechargetest.NewServer(rechargetest.Options{
		Shop: servertest.Shop, Customers: servertest.Customers(), Now: l.clock.Now, SigningKey: servertest.SigningKey(),
		Tokens: []rechargetest.Token{{
			Value: servertest.APIToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1000, Burst: 10000,
		}},
	})
	t.Cleanup(l.recharge.Close)
	l.platform = shopifytest.NewServer(shopifytest.Options{
		Shop: servertest.Shop, Name: "Fixture Shop", Email: "owner@fixture.example", Now: l.clock.Now, Accounts: "legacy",
	})
	t.Cleanup(l.platform.Close)
	options := store.Options{Keys: [][]byte{make([]byte, 32)}, CustomerTTL: time.Hour, Now: l.clock.Now, Log: slog.New(slog.DiscardHandler)}
	if single != nil {
		options.Single = single.Shop
	}
	s, err := store.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	api, err := url.Parse(l.recharge.URL)
	if err != nil {
		t.Fatal(err)
	}
	calls := recharge.NewTransport(2 * time.Second)
	t.Cleanup(calls.CloseIdleConnections)
	settings := portal.Settings{Options: recharge.Options{
		APIURL: api, AppURL: api, Rate: 1000, Burst: 10000, Timeout: 2 * time.Second, HTTP: calls, Now: l.clock.Now,
	}}
	merchants, err := portal.NewMerchants(s, settings, single)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	l.Service = &merchant.Service{
		Resolver: &portal.Resolver{Store: s, Merchants: merchants, Now: l.clock.Now},
		Recorder: &portal.Recorder{Store: s, Log: log, Meter: noMeter{}},
		Platform: shopify.Platform{Shops: map[shopify.Shop]string{"": l.platform.URL}},
		AppURL:   api, Log: log,
	}
	return l
}

// hour lets an hour pass, and runs the hourly job. It returns how often Recharge was asked about its token,
// which is once for each look.
func (l *looks) hour() (looks int) {
	l.t.Helper()
	l.clock.Add(time.Hour)
	before := len(l.recharge.Requests())
	if err := l.Maintain(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	for _, request := range l.recharge.Requests()[before:] {
		if request.Endpoint == rechargetest.EndpointToken {
			looks++
		}
	}
	return looks
}

func (l *looks) connect(chosen store.Traits) *store.Connection {
	l.t.Helper()
	said, err := l.Connect(l.t.Context(), shop, merchant.Tokens{Admin: servertest.APIToken}, func(merchant.Step) {})
	if err != nil || said.Bad {
		l.t.Fatalf("connect: %v, %v", said.Text, err)
	}
	if said, _ := l.SaveChosen(l.t.Context(), shop, chosen); said.Bad {
		l.t.Fatalf("choose: %v", said.Text)
	}
	return l.connection()
}

func (l *looks) connection() *store.Connection {
	l.t.Helper()
	record, err := l.Store.Record(l.t.Context(), shop)
	if err != nil || record == nil || record.Connection == nil {
		l.t.Fatalf("record = %v, %v", record, err)
	}
	return record.Connection
}

// TestConnectUnseen: a store whose sign-in could not be seen on Connect is looked at again in an hour.
func TestConnectUnseen(t *testing.T) {
	t.Parallel()
	l := newLooks(t, nil)
	l.platform.SetFaults(func(f *shopifytest.Faults) { f.Bots = 430 })
	if got := l.connect(store.Traits{}); !got.Look.At.IsZero() || got.Detected.Accounts != "" {
		t.Errorf("accounts %q, looked at %v; want neither", got.Detected.Accounts, got.Look.At)
	}
	l.platform.SetFaults(func(f *shopifytest.Faults) { f.Bots = 0 })
	l.hour()
	if got := l.connection().Detected.Accounts; got != "legacy" {
		t.Errorf("an hour later, accounts = %q; want legacy", got)
	}
}

// TestPortalChosenMeanwhile: what another member of staff saves while the setup guide's choice is checked stays.
func TestPortalChosenMeanwhile(t *testing.T) {
	t.Parallel()
	l := newLooks(t, nil)
	l.platform.SetAccounts("new")
	l.connect(store.Traits{Accounts: "new"})
	origin, err := url.Parse(l.platform.URL)
	if err != nil {
		t.Fatal(err)
	}
	another := store.Traits{PortalURL: "https://portal.brand.com/p/", Accounts: "new"}
	var once sync.Once
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { l.SaveChosen(t.Context(), shop, another) })
		httputil.NewSingleHostReverseProxy(origin).ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	l.Platform.Shops[""] = slow.URL
	page := l.platform.AccountPage()
	if said, err := l.ChoosePortal(t.Context(), shop, "unity", page); err != nil || said.Bad {
		t.Fatalf("choose: %v, %v", said.Text, err)
	}
	want := another
	want.Link, want.AccountPage = "account", page
	if got := l.connection().Chosen; got != want {
		t.Errorf("chosen: %+v; want %+v", got, want)
	}
}

// TestLookEveryDay: a store is looked at once a day, also if its portal is in the account by the merchant's
// choice, and once an hour while links are not signed in and nobody has chosen that.
func TestLookEveryDay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		chosen store.Traits
		unity  bool
		want   int
	}{
		{"signed in", store.Traits{}, false, 2},
		{"Unity, chosen", store.Traits{Link: "account", AccountPage: "https://shopify.com/1/account/pages/2"}, true, 2},
		{"Unity, not chosen", store.Traits{}, true, 48},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLooks(t, nil)
			l.recharge.SetUnity(test.unity)
			l.connect(test.chosen)
			got := 0
			for range 48 {
				got += l.hour()
			}
			if got != test.want {
				t.Errorf("%d looks in two days; want %d", got, test.want)
			}
		})
	}
}

// TestClockWasAhead: a look that another server made while its clock was ahead does not put off the next.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	l := newLooks(t, nil)
	l.clock.Add(1000 * time.Hour)
	l.connect(store.Traits{})
	l.clock.Add(-1000 * time.Hour)
	if got := l.hour(); got != 1 {
		t.Errorf("%d looks; want 1", got)
	}
	if got, now := l.connection().Look, l.clock.Now(); got.At.After(now) || got.ClaimedAt.After(now) {
		t.Errorf("looked %+v; now is %v", got, now)
	}
}

// TestFirstLookFails: if the look at the start of a server for one store fails, the next pass looks again,
// since the settings may have changed.
func TestFirstLookFails(t *testing.T) {
	t.Parallel()
	single := &store.Connection{Shop: shop, APIToken: servertest.APIToken}
	l := newLooks(t, single)
	if got := l.hour(); got != 1 {
		t.Fatalf("%d looks at the start; want 1", got)
	}
	restarted := &merchant.Service{
		Resolver: l.Resolver, Recorder: l.Recorder, Platform: l.Platform, AppURL: l.AppURL, Log: l.Log,
	}
	l.Service = restarted
	l.recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	l.hour()
	l.recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = false })
	if got := l.hour(); got != 1 {
		t.Errorf("%d looks after the first one failed; want 1", got)
	}
	if got := l.hour(); got != 0 {
		t.Errorf("%d looks an hour after one that ended; want none", got)
	}
}

// TestConnectAfterVain: a refusal soon after a merchant has connected again causes a look, also if the last one
// found nothing new.
func TestConnectAfterVain(t *testing.T) {
	t.Parallel()
	l := newLooks(t, nil)
	l.connect(store.Traits{})
	if said := l.Look(t.Context(), shop); said.Bad || !l.connection().Look.Vain {
		t.Fatalf("a second look says %q, %+v; want it in vain", said.Text, l.connection().Look)
	}
	if got, want := l.connect(store.Traits{}).Look.Next(), l.clock.Now().Add(10*time.Minute); got.After(want) {
		t.Errorf("the next look is at %v; want %v at the latest", got, want)
	}
}
