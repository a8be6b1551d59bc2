package server_test

// What an operator does while shoppers click: end one of several instances, replace them all, change
// the app's secret and the encryption key. Also a host whose clock is wrong.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// noticed is ample for a balancer that asks every askEvery.
const (
	noticed  = 500 * time.Millisecond
	askEvery = 50 * time.Millisecond
)

// balancer passes clicks to the instances that report that they are ready. It retries nothing.
type balancer struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	ready  []*servertest.Instance
	next   int
	passed map[*servertest.Instance]int
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	b := &balancer{t: t, passed: map[*servertest.Instance]int{}}
	backend := &http.Transport{MaxIdleConnsPerHost: 64}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Transport: once{backend},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: b.pick()})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			t.Errorf("a click gets no answer: %v", err)
			w.WriteHeader(http.StatusBadGateway)
		},
	})
	t.Cleanup(func() { front.Close(); backend.CloseIdleConnections() })
	b.url = front.URL
	return b
}

// once adds a body to each GET, since net/http would retry a GET without one after its connection was
// closed.
type once struct{ http.RoundTripper }

func (o once) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Body, request.ContentLength = io.NopCloser(strings.NewReader("-")), 1
	return o.RoundTripper.RoundTrip(request)
}

func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ready) == 0 {
		b.t.Error("no instance is ready")
		return "127.0.0.1:1"
	}
	b.next++
	picked := b.ready[b.next%len(b.ready)]
	b.passed[picked]++
	return picked.Public
}

// add adds a ready instance and from now on asks it whether it still is.
func (b *balancer) add(i *servertest.Instance) {
	b.set(i, true)
	asks, stop := time.NewTicker(askEvery), b.t.Context().Done()
	go func() {
		defer asks.Stop()
		for servertest.IsReady(i) {
			select {
			case <-asks.C:
			case <-stop:
				return
			}
		}
		b.set(i, false)
	}()
}

func (b *balancer) set(i *servertest.Instance, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var others []*servertest.Instance
	for _, other := range b.ready {
		if other != i {
			others = append(others, other)
		}
	}
	b.ready = others
	if ready {
		b.ready = append(b.ready, i)
	}
}

func (b *balancer) clicks(i *servertest.Instance) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.passed[i]
}

// rolling is a store with a balancer in front of the instances. It uses a path of its own on the
// store, so that the instance which the fixture has started gets no clicks.
type rolling struct {
	*servertest.Fixture
	balancer *balancer
	people   []rechargetest.Customer
	change   []func(*config.Settings) // of all instances
	done     atomic.Int64
}

const rollingPath = "/a/subscriptions"

func newRolling(t *testing.T, secret, before string, change ...func(*config.Settings)) *rolling {
	t.Helper()
	// No link is reused and Recharge is slow, so that there is always a click under way.
	change = append(change, func(s *config.Settings) { s.LinkTTL = "0s" })
	r := &rolling{Fixture: servertest.Start(t, change...), balancer: newBalancer(t), people: servertest.Subscribers(8), change: change}
	r.Recharge.SetCustomers(append(servertest.Customers(), r.people...))
	r.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 30 * time.Millisecond })
	r.Store.AddApp(shopifytest.App{PathPrefix: rollingPath, ProxyURL: r.balancer.url + "/apps/subscriptions", Secret: secret, OldSecret: before})
	return r
}

// begin starts another instance and sends it clicks.
func (r *rolling) begin(change ...func(*config.Settings)) *servertest.Instance {
	r.T.Helper()
	i := r.Instance(server.Options{Notice: noticed}, append(r.change, change...)...)
	r.Until("it is ready", func() bool { return servertest.IsReady(i) })
	r.balancer.add(i)
	return i
}

// end ends an instance and returns when it is gone.
func (r *rolling) end(i *servertest.Instance) {
	r.T.Helper()
	i.Stop()
	err := <-i.Ended
	if err != nil {
		r.T.Errorf("Run = %v; want an orderly end", err)
	}
	i.Ended <- nil
}

// replace replaces each instance with a new one.
func (r *rolling) replace(instances []*servertest.Instance, change ...func(*config.Settings)) []*servertest.Instance {
	r.T.Helper()
	var next []*servertest.Instance
	for _, i := range instances {
		next = append(next, r.begin(change...))
		r.end(i)
		r.more(30)
	}
	return next
}

// load lets all shoppers click until stop is called. Each click must end in the shopper's own portal,
// signed in.
func (r *rolling) load() (stop func()) {
	r.T.Helper()
	over := make(chan struct{})
	var wg sync.WaitGroup
	for _, person := range r.people {
		client := r.Shopper(person.ShopifyCustomerID)
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				got, err := servertest.VisitAt(client, strings.TrimPrefix(r.Store.URL, "http://"), rollingPath)
				if err == nil {
					err = got.CheckOwner(person)
				}
				if err == nil && got.Outcome != "redirected" {
					err = fmt.Errorf("click = %s; want redirected", got.Outcome)
				}
				if err != nil {
					r.T.Error(err)
				}
				r.done.Add(1)
			}
		})
	}
	r.more(30)
	return sync.OnceFunc(func() { close(over); wg.Wait() })
}

// more waits for n more clicks.
func (r *rolling) more(n int64) {
	r.T.Helper()
	want := r.done.Load() + n
	r.Until(fmt.Sprintf("%d clicks more", n), func() bool { return r.done.Load() >= want })
}

// TestEndsUnderLoad: one of two instances shuts down, as on SIGTERM, while clicks keep arriving. No
// click is lost.
func TestEndsUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRolling(t, servertest.AppSecret, servertest.OldAppSecret)
	one, other := r.begin(), r.begin()
	stop := r.load()
	defer stop()
	if r.balancer.clicks(one) == 0 || r.balancer.clicks(other) == 0 {
		t.Error("one of the two gets no clicks; want both to")
	}
	r.end(one)
	passed := r.balancer.clicks(one)
	r.more(50)
	stop()
	if now := r.balancer.clicks(one); now != passed {
		t.Errorf("%d clicks are sent to an instance that has ended", now-passed)
	}
}

// TestNotice: when told to end, the program reports at once that it is not ready, and still serves
// clicks. If it fails, it ends without waiting.
func TestNotice(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	i := f.Instance(server.Options{Notice: 4 * noticed}) // three clicks must fit, on a busy machine
	i.Stop()
	f.Until("it is not ready", func() bool { return !servertest.IsReady(i) })
	for range 3 {
		query := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
		if response, _ := f.Request("GET", i.Public, "/apps/subscriptions?"+query); response.StatusCode != http.StatusFound {
			t.Errorf("a click after the notice = %d; want 302", response.StatusCode)
		}
	}
	if err := <-i.Ended; err != nil {
		t.Errorf("Run = %v; want an orderly end", err)
	}
	i.Ended <- nil
}

// TestSecretRotation: Shopify switches to a new secret at a time of its own, and the instances are
// replaced before and after. No click fails, and in the end the old secret is worthless.
func TestSecretRotation(t *testing.T) {
	t.Parallel()
	const before, after = "rotation-old-secret", "rotation-new-secret"
	secrets := func(text string) func(*config.Settings) {
		return func(s *config.Settings) { s.ShopifyAPISecret = text }
	}
	r := newRolling(t, after, before)
	r.Store.SetFaults(func(f *shopifytest.Faults) { f.OldSecret = true })
	instances := []*servertest.Instance{r.begin(secrets(before)), r.begin(secrets(before))}
	stop := r.load()
	defer stop()
	instances = r.replace(instances, secrets(after+","+before))
	// Now clicks are signed by the new and the old secret in turn.
	for i := range 20 {
		r.Store.SetFaults(func(f *shopifytest.Faults) { f.OldSecret = i%2 == 0 })
		r.more(5)
	}
	instances = r.replace(instances, secrets(after))
	stop()
	for _, i := range instances {
		for secret, want := range map[string]int{before: http.StatusForbidden, after: http.StatusFound} {
			query := r.Store.SignedQuery("", r.people[0].ShopifyCustomerID, rollingPath, secret)
			if response, _ := r.Request("GET", i.Public, "/apps/subscriptions?"+query); response.StatusCode != want {
				t.Errorf("signed by %s: %d; want %d", secret, response.StatusCode, want)
			}
		}
	}
}

// TestKeyRotationUnderLoad: the same with the encryption key of Redis' data, and rekey between the
// steps. The cache stays usable throughout, and in the end the old key opens none of it.
func TestKeyRotationUnderLoad(t *testing.T) {
	t.Parallel()
	const before, after = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	keys := func(text string) func(*config.Settings) {
		return func(s *config.Settings) { s.EncryptionKey = text }
	}
	r := newRolling(t, servertest.AppSecret, servertest.OldAppSecret, keys(before))
	instances := []*servertest.Instance{r.begin(), r.begin()}
	stop := r.load()
	defer stop()
	instances = r.replace(instances, keys(after+","+before))
	settings := r.Settings()
	keys(after + "," + before)(&settings)
	cfg, err := settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Rekey(t.Context(), cfg, t.Output()); err != nil {
		t.Fatal(err)
	}
	r.more(30)
	r.Calls()
	r.replace(instances, keys(after))
	stop()
	if calls := r.Calls(); calls["customers"]+calls["sessions"] != 0 {
		t.Errorf("after the rotation: calls %v; want shoppers and sessions known", calls)
	}
	old := r.Instance(server.Options{}, keys(before))
	for _, person := range r.people {
		query := r.Store.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", servertest.AppSecret)
		got, err := servertest.VisitAt(http.DefaultClient, old.Public, "/apps/subscriptions?"+query)
		if err == nil {
			err = got.CheckOwner(person)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if calls := r.Calls(); calls["customers"] != len(r.people) || calls["sessions"] != len(r.people) {
		t.Errorf("with the old key alone: calls %v; want all to be asked for", calls)
	}
}

// TestKeyRotationOfManyStores: data that a merchant saves while only some instances have the new key
// is found by all, because none seals with a key that another does not have.
func TestKeyRotationOfManyStores(t *testing.T) {
	t.Parallel()
	const before, after = servertest.EncryptionKey, "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
	keys := func(text string) func(*config.Settings) {
		return func(s *config.Settings) { s.EncryptionKey = text }
	}
	r := newRolling(t, servertest.AppSecret, servertest.OldAppSecret, servertest.ManyStores)
	r.Connect()
	instances := []*servertest.Instance{r.begin(), r.begin()}
	stop := r.load()
	defer stop()
	for _, step := range []string{before + "," + after, after + "," + before, after} {
		if step == after {
			settings := r.Settings()
			servertest.ManyStores(&settings)
			keys(after + "," + before)(&settings)
			cfg, err := settings.Check()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Rekey(t.Context(), cfg, t.Output()); err != nil {
				t.Fatal(err)
			}
		}
		// One has the keys of this step, the other those of the last step.
		next := r.begin(keys(step))
		r.Ask(next.Public)
		r.Connect()
		r.more(30)
		for _, i := range instances {
			r.end(i)
		}
		instances = []*servertest.Instance{next, r.begin(keys(step))}
		r.more(30)
	}
}

// TestClockOff: a host whose clock is 80 s off serves like any other, and one that is 100 s off lets
// nobody in. Nothing that has expired is used after Recharge has refused it.
func TestClockOff(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-100 * time.Second, -80 * time.Second, 80 * time.Second, 100 * time.Second} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			f := servertest.Start(t)
			wrong := f.Instance(server.Options{Now: func() time.Time { return f.Clock.Now().Add(off) }})
			people := servertest.Subscribers(2)
			f.Recharge.SetCustomers(append(servertest.Customers(), people...))
			client := servertest.NewClient(t)
			// The two instances share the cache.
			for _, at := range []time.Duration{0, time.Second, 59 * time.Second, 61 * time.Second, 50 * time.Minute, time.Hour - time.Minute, time.Hour, time.Hour + 79*time.Second, 24 * time.Hour, 48 * time.Hour} {
				f.Clock.Set(at)
				for _, i := range []*servertest.Instance{wrong, {Public: f.Public}} {
					for _, person := range people {
						query := f.Store.SignedQuery("", person.ShopifyCustomerID, "/apps/subscriptions", servertest.AppSecret)
						got, err := servertest.VisitAt(client, i.Public, "/apps/subscriptions?"+query)
						if err == nil {
							err = got.CheckOwner(person)
						}
						if err != nil {
							t.Fatal(err)
						}
						want := "redirected"
						if i == wrong && off.Abs() > 90*time.Second {
							want = "forbidden"
						}
						if got.Outcome != want {
							t.Fatalf("after %v, click = %s; want %s", at, got.Outcome, want)
						}
						if got.Location == "" {
							continue
						}
						if opening := f.Open(client, got.Location); opening.Customer.ShopifyCustomerID != person.ShopifyCustomerID || opening.How != rechargetest.HowToken {
							t.Errorf("after %v the link opens for %q by %q; want its shopper, by token", at, opening.Customer.ShopifyCustomerID, opening.How)
						}
					}
				}
			}
		})
	}
}
