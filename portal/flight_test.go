package portal_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// atOnce resolves all requests at the same time.
func (b *bed) atOnce(requests ...portal.Request) []portal.Result {
	results := make([]portal.Result, len(requests))
	var all sync.WaitGroup
	for i, request := range requests {
		all.Go(func() { results[i] = resolve(b.t.Context(), b.resolver, request) })
	}
	all.Wait()
	return results
}

// until waits for what another goroutine does.
func (b *bed) until(what string, is func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("timed out waiting: %s", what)
		}
	}
}

// isAsked waits until Recharge gets a request to an endpoint.
func (b *bed) isAsked(endpoint string) {
	b.t.Helper()
	b.until("Recharge is asked for "+endpoint, func() bool {
		return slices.ContainsFunc(b.recharge.Requests(), func(r rechargetest.Request) bool { return r.Endpoint == endpoint })
	})
}

// onBoth runs a test on a real Redis and on the embedded one.
func onBoth(t *testing.T, test func(t *testing.T, kept *storetest.Server)) {
	t.Run("Redis", func(t *testing.T) { t.Parallel(); test(t, storetest.Redis(t)) })
	t.Run("embedded", func(t *testing.T) { t.Parallel(); test(t, nil) })
}

// TestSimultaneousClicksAreOne: they cost as much as one click, and each leads to its own page.
func TestSimultaneousClicksAreOne(t *testing.T) {
	onBoth(t, func(t *testing.T, kept *storetest.Server) {
		b := newBed(t, kept)
		b.faults(func(f *rechargetest.Faults) { f.Latency = 50 * time.Millisecond })
		visits := []recharge.Visit{
			{To: "subscriptions"}, {To: "orders"}, {To: "orders", Locale: "fr"}, {To: "addresses", Country: "CA"}, {To: "subscriptions/50500600/cancel", Return: "/apps/abo"},
			{To: "subscriptions/50500600/cancel", Return: "/fr/apps/abo"}, {To: "gifts/7"},
		}
		var requests []portal.Request
		for i := range 100 {
			requests = append(requests, portal.Request{Visit: visits[i%len(visits)]})
		}
		led, joined, tokens := 0, 0, map[string]bool{}
		first := make(chan portal.Result)
		go func() { first <- resolve(t.Context(), b.resolver, requests[0]) }()
		b.isAsked("customers") // by the first click, which gets Recharge's own link
		results := b.atOnce(requests[1:]...)
		for i, r := range append([]portal.Result{<-first}, results...) {
			visit := requests[i].Visit
			link := address(t, r.Link.URL)
			want := "/portal/" + hash + "/" + string(visit.To)
			if link.Query().Has("redirect_to") {
				want = "/pages/" + hash + "/" + string(visit.To)
			}
			if back := link.Query().Get("redirect_to"); visit.Return != "" && !strings.HasSuffix(back, ".com"+visit.Return) {
				t.Errorf("a click to %v leads back to %q; want its own way back", visit, back)
			}
			if r.Outcome != portal.Redirected || link.Path != want {
				t.Errorf("a click to %v = %s to %s (%v); want %s", visit, r.Outcome, link.Path, r.Cause, want)
			}
			if q := link.Query(); q.Get("locale") != string(visit.Locale) || q.Get("region_country") != string(visit.Country) {
				t.Errorf("a click to %v leads to %s; want its own language and country", visit, link)
			}
			tokens[link.Query().Get("token")] = true
			switch {
			case r.Source == portal.FromRecharge && len(r.Calls) == 3:
				led++
			case r.Source == portal.FromJoined && len(r.Calls) == 0:
				joined++
			case r.Source != portal.FromLink: // a click that came after the others were done
				t.Errorf("a click got its answer from %q, with %d calls", r.Source, len(r.Calls))
			}
		}
		if led != 1 || joined == 0 || len(tokens) != 1 {
			t.Errorf("%d clicks asked Recharge, %d joined, and there are %d tokens; want one, some, one", led, joined, len(tokens))
		}
		if got := b.asked(); !slices.Equal(got, []string{"customers", "sessions", "portal_access"}) {
			t.Errorf("100 clicks made the calls %v", got)
		}
	})
}

// TestShoppersNeverJoin: when shoppers click to the same page at once, each gets their own answer,
// and nobody waits for another.
func TestShoppersNeverJoin(t *testing.T) {
	b := newBed(t, nil)
	const latency = 100 * time.Millisecond
	b.faults(func(f *rechargetest.Faults) { f.Latency = latency })
	const shoppers = 10
	everybody := people()
	var requests []portal.Request
	for i := range shoppers {
		id := fmt.Sprint(6200000000000 + i)
		everybody = append(everybody, rechargetest.Customer{
			ID: int64(70200000 + i), Hash: fmt.Sprintf("crowd%019d", i), ShopifyCustomerID: id, Subscriptions: everybody[0].Subscriptions,
		})
		// One shopper's id at Shopify is another's at Recharge.
		for range 3 {
			requests = append(requests, portal.Request{Shopper: who(shopify.CustomerID(id))}, portal.Request{Shopper: store.Shopper{Shop: shop, RechargeID: int64(70200000 + (i+1)%shoppers)}})
		}
	}
	b.recharge.SetCustomers(everybody)
	begun := time.Now()
	for i, r := range b.atOnce(requests...) {
		person := i / 6
		if i%2 == 1 {
			person = (person + 1) % shoppers
		}
		if want := fmt.Sprintf("/crowd%019d/", person); r.Outcome != portal.Redirected || !strings.Contains(r.Link.URL, want) {
			t.Errorf("%+v: %s to %q (%v); want %s", requests[i].Shopper, r.Outcome, r.Link.URL, r.Cause, want)
		}
	}
	if took := time.Since(begun); took > 3*latency+2*time.Second {
		t.Errorf("all of them took %v; want three calls' time: nobody waits for another shopper", took)
	}
	calls := map[string]int{}
	for _, endpoint := range b.asked() {
		calls[endpoint]++
	}
	if calls["customers"] != shoppers || calls["customer"] != shoppers || calls["portal_access"] != 2*shoppers {
		t.Errorf("the calls %v; want one of each for each shopper", calls)
	}
	// Nor does one shop join another.
	if r := b.click(portal.Request{Shopper: store.Shopper{Shop: "b.myshopify.com", Customer: pat}}); r.Outcome != portal.NotConnected {
		t.Errorf("the same id at another shop = %s; want not_connected", r.Outcome)
	}
}

// TestFlightThatTakesTooLong: when the click that asks runs out of time, the clicks that joined it
// end, too, by hash if a customer is cached.
func TestFlightThatTakesTooLong(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*bed)
		outcome portal.Outcome
		source  portal.Source
	}{
		"nobody is cached":     {func(*bed) {}, portal.Unavailable, portal.FromNothingLeft},
		"a customer is cached": {func(b *bed) { b.click(portal.Request{}); b.pass(30 * time.Hour) }, portal.RedirectedByHash, portal.FromOutOfDate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, nil)
			test.prepare(b)
			b.asked()
			b.resolver.Timeout = 300 * time.Millisecond
			b.faults(func(f *rechargetest.Faults) { f.Latency = 1500 * time.Millisecond })
			begun := time.Now()
			for _, r := range b.atOnce(make([]portal.Request, 20)...) {
				b.leads(name, r)
				// If the flight ended in time to report that, its clicks joined a cached customer.
				joined := r.Source == portal.FromJoined && test.outcome == portal.RedirectedByHash
				if r.Outcome != test.outcome || r.Source != test.source && !joined || r.Cause == nil {
					t.Errorf("a click = %s by %s (%v); want %s by %s, with a cause", r.Outcome, r.Source, r.Cause, test.outcome, test.source)
				}
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("all of them took %v; want not much more than their 300ms", took)
			}
			// On a busy machine a later click may have some time left, and asks once more.
			if calls := b.asked(); len(calls) > 3 {
				t.Errorf("20 clicks made the calls %v; want one, its second try and perhaps a late one", calls)
			}
		})
	}
}

// TestShopperWhoLeaves: a click's result is cached even if nobody waits for it.
func TestShopperWhoLeaves(t *testing.T) {
	b := newBed(t, nil)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if r := resolve(gone, b.resolver, portal.Request{}); r.Outcome != portal.Redirected {
		t.Errorf("the click of a shopper who has left = %s, %v; want it redirected", r.Outcome, r.Cause)
	}
	if got, _ := b.ended(portal.Request{}); got != "redirected link" {
		t.Errorf("the next click is %q; want it to find the cached link", got)
	}
}

// TestPanicInAFlight: a panic gives every click a page, also those that joined, and leaves nobody
// waiting.
func TestPanicInAFlight(t *testing.T) {
	onBoth(t, func(t *testing.T, kept *storetest.Server) {
		b := newBed(t, kept)
		b.faults(func(f *rechargetest.Faults) { f.Latency = 50 * time.Millisecond })
		broken := make(chan []portal.Result)
		go func() { broken <- b.atOnce(make([]portal.Request, 20)...) }()
		b.isAsked("customers") // by now the shopper's lock is held
		b.breaks.Store(true)
		for _, r := range <-broken {
			var fault *portal.Fault
			if r.Outcome != portal.Unavailable || !errors.As(r.Cause, &fault) || r.Link.URL != "" {
				t.Fatalf("a click = %s, %v; want unavailable, caused by a Fault", r.Outcome, r.Cause)
			}
			if !strings.Contains(string(fault.Stack), "goroutine") || strings.Contains(r.Cause.Error(), "goroutine") {
				t.Errorf("the cause is %q; want it without the stack", r.Cause)
			}
			if level := portal.Level(r.Outcome, r.Cause); level.String() != "ERROR" {
				t.Errorf("its level is %s; want an error", level)
			}
		}
		b.breaks.Store(false)
		b.faults(func(*rechargetest.Faults) {})
		others := []*portal.Resolver{b.resolver}
		if kept != nil {
			others = append(others, b.beside(kept))
		}
		for _, resolver := range others {
			begun := time.Now()
			if r := resolve(t.Context(), resolver, portal.Request{}); r.Outcome != portal.Redirected {
				t.Errorf("the next click = %s, %v; want the portal", r.Outcome, r.Cause)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("the next click took %v; want no waiting", took)
			}
		}
	})
}

// TestPanicBeforeAFlight: the resolver has no merchants, so the click panics before it asks.
func TestPanicBeforeAFlight(t *testing.T) {
	b := newBed(t, nil)
	r := resolve(t.Context(), &portal.Resolver{Store: b.store, Timeout: time.Second, Now: b.now}, portal.Request{})
	var fault *portal.Fault
	if r.Outcome != portal.Unavailable || !errors.As(r.Cause, &fault) {
		t.Errorf("a click = %s, %v; want unavailable, caused by a Fault", r.Outcome, r.Cause)
	}
}

// TestTwoInstances: on one Redis, one instance asks, and the other loads the saved result.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	kept := storetest.Redis(t)
	b := newBed(t, kept)
	second := b.beside(kept)
	b.faults(func(f *rechargetest.Faults) { f.Latency = 100 * time.Millisecond })
	first := make(chan portal.Result)
	go func() { first <- resolve(t.Context(), b.resolver, portal.Request{}) }()
	b.isAsked("customers")
	r := resolve(t.Context(), second, portal.Request{Visit: recharge.Visit{To: "orders"}})
	if r.Outcome != portal.Redirected || r.Source != portal.FromLink || len(r.Calls) != 0 || !strings.Contains(r.Link.URL, "/orders?") {
		t.Errorf("the second = %s by %s, %d calls, to %q; want it to load what the first has saved", r.Outcome, r.Source, len(r.Calls), r.Link.URL)
	}
	var names []string
	for _, step := range r.Steps {
		names = append(names, step.Name)
	}
	if want := []string{"redis_read", "wait", "redis_read"}; !slices.Equal(names, want) && !slices.Equal(names, []string{"redis_read", "budget", "wait", "redis_read"}) {
		t.Errorf("its steps are %v; want %v", names, want)
	}
	if r := <-first; r.Outcome != portal.Redirected || len(r.Calls) != 3 {
		t.Errorf("the first = %s, %d calls; want redirected, with three", r.Outcome, len(r.Calls))
	}
}

// TestClickBesideStatus: a shopper clicks while a theme's status request is still waiting for
// Recharge. A status request asks for less, and gives up sooner.
func TestClickBesideStatus(t *testing.T) {
	for name, status := range map[string]int{"it succeeds": 0, "it fails": http.StatusBadGateway} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, nil)
			b.faults(func(f *rechargetest.Faults) { f.Latency, f.Status = 200*time.Millisecond, status })
			asked, clicked := make(chan struct{}), make(chan portal.Result)
			go func() { b.status(false); close(asked) }()
			b.isAsked("customers")
			go func() { clicked <- b.click(portal.Request{}) }()
			<-asked
			b.faults(func(f *rechargetest.Faults) { *f = rechargetest.Faults{} })
			if r := <-clicked; r.Outcome != portal.Redirected {
				t.Errorf("the click = %s by %s (%v); want redirected", r.Outcome, r.Source, r.Cause)
			}
		})
	}
}
