package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// connected is the connection of a shop.
func connected(shop shopify.Shop) store.Connection {
	return store.Connection{
		Shop: shop, APIToken: "sk_1x1_0123456789abcdef", StorefrontToken: "strfnt_fedcba9876543210", ClientSecret: "hush-hush-client-secret",
		Detected:   store.Traits{PortalURL: "https://fixture-shop.example/tools/recurring/portal/", Accounts: "new"},
		Chosen:     store.Traits{Accounts: "legacy"},
		WebhookKey: "unguessable-webhook-key",
		Webhooks:   store.WebhookState{CheckedAt: newClock().now.UTC(), Problem: "not there"},
		SavedAt:    newClock().now.UTC(),
	}
}

// several are options of a store for several shops.
func several(c *clock, l *logged) store.Options {
	o := options(c, l)
	o.Connections = true
	return o
}

// wantConnection compares without the methods that hide what is in it.
func wantConnection(t *testing.T, s *store.Store, shop shopify.Shop, want *store.Connection) *store.Connection {
	t.Helper()
	got, err := s.Connection(t.Context(), shop)
	if err != nil {
		t.Fatalf("Connection = %v", err)
	}
	sameConnection(t, "Connection", got, want)
	memory := s.Recall(t.Context(), store.Shopper{Shop: shop, Customer: "1"}, schedule)
	if memory.Connection != got || memory.Lost {
		t.Errorf("Recall has %p, lost %v; want the same pointer as Connection, %p", memory.Connection, memory.Lost, got)
	}
	return got
}

func sameConnection(t *testing.T, what string, got, want *store.Connection) {
	t.Helper()
	type plain store.Connection
	if diff := cmp.Diff((*plain)(want), (*plain)(got)); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConnections(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		ctx := t.Context()
		s := open(several(newClock(), &logged{}))
		wantConnection(t, s, pat.Shop, nil)
		if got := dump(t, s); len(got) > 0 {
			t.Errorf("a shop that is not connected left %q; want nothing", keys(got))
		}
		want := connected(pat.Shop)
		ok(t, s.SaveConnection(ctx, want))
		first := wantConnection(t, s, pat.Shop, &want)
		if again := wantConnection(t, s, pat.Shop, &want); again != first {
			t.Error("an unchanged connection is another pointer; want the same")
		}
		wantConnection(t, s, patsTwin.Shop, nil)

		ok(t, s.ReviseConnection(ctx, pat.Shop, func(c *store.Connection) bool { c.APIToken = "lost"; return false }))
		if got := wantConnection(t, s, pat.Shop, &want); got != first {
			t.Error("what was not revised is another pointer; want the same")
		}
		revised := want
		revised.Webhooks.OK = true
		ok(t, s.ReviseConnection(ctx, pat.Shop, func(c *store.Connection) bool { c.Webhooks.OK = true; return true }))
		wantConnection(t, s, pat.Shop, &revised)
		sameConnection(t, "what was returned before", first, &want)

		ok(t, s.ReviseConnection(ctx, patsTwin.Shop, func(*store.Connection) bool { t.Error("revised what is not there"); return true }))
		wantConnection(t, s, patsTwin.Shop, nil)

		ok(t, s.DropConnection(ctx, pat.Shop))
		ok(t, s.DropConnection(ctx, pat.Shop))
		wantConnection(t, s, pat.Shop, nil)
		if got := dump(t, s); len(got) > 0 {
			t.Errorf("after DropConnection there is %q; want nothing", keys(got))
		}
	})
}

// TestConnectionsUnderTwoKeys: the newest key's holds, and each is told once.
func TestConnectionsUnderTwoKeys(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	o := on(several(newClock(), &logged{}), server)
	before := open(t, o)
	o.Keys = [][]byte{key(2), key(1)}
	after := open(t, o)
	older, newer := connected(pat.Shop), connected(pat.Shop)
	older.APIToken, newer.APIToken = "older", "newer"
	twin := connected(patsTwin.Shop)
	ok(t, after.SaveConnection(ctx, newer))
	ok(t, before.SaveConnection(ctx, older)) // one that has not heard of the new key
	ok(t, before.SaveConnection(ctx, twin))
	wantConnection(t, after, pat.Shop, &newer)
	wantConnection(t, after, patsTwin.Shop, &twin)

	var got []string
	ok(t, after.EachConnection(ctx, func(c store.Connection) error {
		got = append(got, string(c.Shop)+" "+c.APIToken)
		return nil
	}))
	slices.Sort(got)
	if want := []string{string(pat.Shop) + " newer", string(patsTwin.Shop) + " " + twin.APIToken}; !slices.Equal(got, want) {
		t.Errorf("EachConnection told %q; want %q", got, want)
	}
	enough := errors.New("enough")
	if err := after.EachConnection(ctx, func(store.Connection) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("EachConnection = %v; want what do returned", err)
	}

	// Revised under the old key, saved under the new: nothing is left under the old.
	twin.WebhookKey = "another"
	ok(t, after.ReviseConnection(ctx, patsTwin.Shop, func(c *store.Connection) bool { c.WebhookKey = "another"; return true }))
	wantConnection(t, after, patsTwin.Shop, &twin)
	ok(t, after.SaveConnection(ctx, twin))
	wantConnection(t, before, patsTwin.Shop, nil)
	ok(t, after.DropConnection(ctx, pat.Shop))
	ok(t, after.DropConnection(ctx, patsTwin.Shop))
	if got := server.Dump(); len(got) > 0 {
		t.Errorf("after DropConnection there is %q; want nothing", keys(got))
	}
}

// TestReviseAtOnce: of changes at the same time none is lost.
func TestReviseAtOnce(t *testing.T) {
	eraseFrom(t, func(t *testing.T, open func(store.Options) *store.Store) {
		s := open(several(newClock(), &logged{}))
		c := connected(pat.Shop)
		c.WebhookKey = ""
		ok(t, s.SaveConnection(t.Context(), c))
		var revisers sync.WaitGroup
		for range 12 {
			revisers.Go(func() {
				err := s.ReviseConnection(t.Context(), pat.Shop, func(c *store.Connection) bool { c.WebhookKey += "x"; return true })
				if err != nil {
					t.Errorf("ReviseConnection = %v", err)
				}
			})
		}
		revisers.Wait()
		c.WebhookKey = strings.Repeat("x", 12)
		wantConnection(t, s, pat.Shop, &c)
	})
}

// TestConnectionWithoutRedis: what this process knows goes on to serve.
func TestConnectionWithoutRedis(t *testing.T) {
	ctx := t.Context()
	server := storetest.Redis(t)
	c, l := newClock(), &logged{}
	s := openInHaste(t, on(several(c, l), server))
	want := connected(pat.Shop)
	ok(t, s.SaveConnection(ctx, want))
	server.Stop()
	memory := s.Recall(ctx, pat, schedule)
	sameConnection(t, "Recall without Redis", memory.Connection, &want)
	if memory.Lost {
		t.Error("Recall without Redis of a known connection is lost")
	}
	if got, err := s.Connection(ctx, pat.Shop); err != nil || got != memory.Connection {
		t.Errorf("Connection without Redis = %p, %v; want %p", got, err, memory.Connection)
	}
	if got := s.Recall(ctx, patsTwin, schedule); got != (store.Memory{Lost: true}) {
		t.Errorf("Recall of who knows = %+v; want lost", got)
	}
	if _, err := s.Connection(ctx, patsTwin.Shop); err == nil {
		t.Error("Connection of who knows = nil; want an error")
	}
	for name, err := range map[string]error{
		"SaveConnection":   s.SaveConnection(ctx, want),
		"DropConnection":   s.DropConnection(ctx, patsTwin.Shop),
		"ReviseConnection": s.ReviseConnection(ctx, pat.Shop, func(*store.Connection) bool { return true }),
		"EachConnection":   s.EachConnection(ctx, func(store.Connection) error { return nil }),
	} {
		if err == nil {
			t.Errorf("%s without Redis = nil; want an error", name)
		}
	}
	server.Start()                                                                                               // empty
	for deadline := time.Now().Add(10 * time.Second); memory.Connection != nil && time.Now().Before(deadline); { // go-redis tries once a second
		c.advance(store.Rest)
		memory = s.Recall(ctx, pat, schedule)
	}
	if memory != (store.Memory{}) {
		t.Errorf("Recall of a connection that is gone = %+v; want nothing", memory)
	}
	server.Stop()
	if got := s.Recall(ctx, pat, schedule); got != (store.Memory{Lost: true}) {
		t.Errorf("Recall of a connection that was gone = %+v; want lost", got)
	}
}

// TestConnectionDamaged: what does not open is no shop that has none.
func TestConnectionDamaged(t *testing.T) {
	ctx := t.Context()
	s := open(t, several(newClock(), &logged{}))
	ok(t, s.SaveConnection(ctx, connected(pat.Shop)))
	ok(t, s.SaveConnection(ctx, connected(patsTwin.Shop)))
	held := dump(t, s)
	places := keys(held)
	set(t, s, places[0], held[places[1]])
	lost := 0
	for _, who := range []store.Shopper{pat, patsTwin} {
		memory := s.Recall(ctx, who, schedule)
		_, err := s.Connection(ctx, who.Shop)
		if memory.Lost != (err != nil) || memory.Lost == (memory.Connection != nil) {
			t.Errorf("Recall = %+v, Connection = %v; want both, or none", memory, err)
		}
		if memory.Lost {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d are lost; want the one in whose place another's stands", lost)
	}
	told := 0
	if err := s.EachConnection(ctx, func(store.Connection) error { told++; return nil }); err == nil || told != 1 {
		t.Errorf("EachConnection = %v, told %d; want an error after the other one", err, told)
	}
}

// TestConnectionSurvives kills Redis as soon as it has said that it has it.
func TestConnectionSurvives(t *testing.T) {
	server := storetest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	o := on(several(newClock(), &logged{}), server)
	want := connected(pat.Shop)
	ok(t, open(t, o).SaveConnection(t.Context(), want))
	server.Stop()
	server.Start()
	wantConnection(t, open(t, o), pat.Shop, &want)
}

func TestConnectionIsNeverPrinted(t *testing.T) {
	c := connected(pat.Shop)
	holders := []any{c, &c, struct{ C store.Connection }{c}, struct{ C *store.Connection }{&c}, []store.Connection{c}, map[string]store.Connection{"k": c}, store.Memory{Connection: &c}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, holder := range holders {
			fmt.Fprintf(&out, verb+"\n", holder)
		}
	}
	for _, holder := range holders {
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", holder)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", holder)
		text, err := json.Marshal(holder)
		ok(t, err)
		out.Write(text)
	}
	out.WriteString(c.String())
	for _, secret := range []string{c.APIToken, c.StorefrontToken, c.ClientSecret, c.WebhookKey} {
		for _, spelling := range spellings(secret) {
			if strings.Contains(out.String(), spelling) {
				t.Errorf("%q was printed", spelling)
			}
		}
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing was printed at all")
	}
}

func TestTraits(t *testing.T) {
	c := store.Connection{Detected: store.Traits{PortalURL: "a/", Accounts: "new"}, Chosen: store.Traits{Accounts: "legacy", Link: "hash"}}
	if got, want := c.Traits(), (store.Traits{PortalURL: "a/", Accounts: "legacy", Link: "hash"}); got != want {
		t.Errorf("Traits = %+v; want %+v", got, want)
	}
}

// TestRecallWithConnection costs one round trip, too.
func TestRecallWithConnection(t *testing.T) {
	server := storetest.Redis(t)
	p := newProxy(t, server.Addr)
	o := several(newClock(), &logged{})
	o.Keys = [][]byte{key(2), key(1)}
	o.Redis = &redis.UniversalOptions{Addrs: []string{p.listener.Addr().String()}}
	s := open(t, o)
	ok(t, s.SaveConnection(t.Context(), connected(pat.Shop)))
	s.RememberCustomer(t.Context(), pat, known)
	var memory store.Memory
	if trips := p.count(func() { memory = s.Recall(t.Context(), pat, schedule) }); trips != 1 {
		t.Errorf("%d round trips; want 1", trips)
	}
	if memory.Connection == nil || memory.Customer != known {
		t.Errorf("Recall = %+v; want connection and customer", memory)
	}
}
