package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
	"manage-subscriptions/store/storetest"
)

// took takes the sweep of a shop that is due.
func took(t *testing.T, s *store.Store, shop shopify.Shop) *store.Sweep {
	t.Helper()
	sweep, err := s.TakeSweep(t.Context())
	if err != nil || sweep == nil || sweep.Shop != shop {
		t.Fatalf("TakeSweep = %+v, %v; want that of %s", sweep, err, shop)
	}
	return sweep
}

func noneDue(t *testing.T, s *store.Store) {
	t.Helper()
	if sweep, err := s.TakeSweep(t.Context()); err != nil || sweep != nil {
		t.Errorf("TakeSweep = %+v, %v; want none", sweep, err)
	}
}

func record(id string, customer recharge.Customer) recharge.Record {
	return recharge.Record{ShopifyID: id, Customer: customer}
}

// TestSweepIsOnes: of two servers one sweeps a shop, until it says nothing for the
// length of the lease; the other goes on where it was.
func TestSweepIsOnes(t *testing.T) {
	server := storetest.Redis(t)
	first := open(t, on(options(newClock(), &logged{}), server))
	second := open(t, on(options(newClock(), &logged{}), server))
	noneDue(t, first)
	ok(t, first.WatchIndex(t.Context(), pat.Shop))
	ok(t, first.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, first, pat.Shop)
	noneDue(t, second)
	noneDue(t, first)
	sweep.Running, sweep.Cursor, sweep.Pages = true, "next", 7
	if had, err := first.Keep(t.Context(), sweep); !had || err != nil {
		t.Fatalf("Keep = %v, %v; want true", had, err)
	}
	noneDue(t, second)

	// The first one crashes: its lease ends.
	ok(t, second.OrderIndex(t.Context(), pat.Shop))
	taken := took(t, second, pat.Shop)
	if !taken.Running || taken.Cursor != "next" || taken.Pages != 7 {
		t.Errorf("the second took %+v; want it to go on at the cursor", taken.Index)
	}
	sweep.Cursor = "elsewhere"
	if had, err := first.Keep(t.Context(), sweep); had || err != nil {
		t.Errorf("Keep of what another has = %v, %v; want false", had, err)
	}
	if index, err := first.Index(t.Context(), pat.Shop); err != nil || index.Cursor != "next" {
		t.Errorf("the index is at %q, %v; want what the second has", index.Cursor, err)
	}
	taken.Running = false
	ok(t, second.End(t.Context(), taken, time.Hour))
	noneDue(t, first)
	ok(t, first.WatchIndex(t.Context(), pat.Shop)) // that is no order
	noneDue(t, first)
}

// TestSweepLeaseEnds needs no order: Redis' clock does it.
func TestSweepLeaseEnds(t *testing.T) {
	s := open(t, on(options(newClock(), &logged{}), storetest.Redis(t)))
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	ok(t, s.End(t.Context(), sweep, 50*time.Millisecond))
	for deadline := time.Now().Add(10 * time.Second); ; {
		sweep, err := s.TakeSweep(t.Context())
		ok(t, err)
		if sweep != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is never due")
		}
	}
}

// TestFill: who is swept is remembered, as if looked up; who vanished is not for
// ever; and nobody else's record is theirs.
func TestFill(t *testing.T) {
	for _, redis := range []string{"real", "embedded"} {
		t.Run(redis, func(t *testing.T) {
			c := newClock()
			o := options(c, &logged{})
			if redis == "real" {
				o = on(o, storetest.Redis(t))
			}
			s := open(t, o)
			ok(t, s.WatchIndex(t.Context(), pat.Shop))
			sweep := took(t, s, pat.Shop)
			sweep.Number = 1
			others := recharge.Customer{ID: 5, Hash: "ffff", Active: 2}
			ok(t, s.Fill(t.Context(), sweep, []recharge.Record{record(string(pat.Customer), known), record(string(other.Customer), others)}))
			ok(t, s.Fill(t.Context(), sweep, nil))
			for who, want := range map[store.Shopper]recharge.Customer{pat: known, other: others, patsTwin: {}} {
				if got := s.Recall(t.Context(), who, schedule); got.Customer != want || got.Fresh != (want.ID != 0) {
					t.Errorf("Recall(%v) = %+v; want %+v, fresh", who, got, want)
				}
			}
			c.advance(25 * time.Hour) // the next night's may be an hour late
			if got := s.Recall(t.Context(), pat, schedule); !got.Fresh {
				t.Error("after 25 hours it is not fresh; want it to last until the next sweep has come by")
			}
			c.advance(5 * time.Hour)
			if got := s.Recall(t.Context(), pat, schedule); got.Fresh || got.Customer != known {
				t.Errorf("after 30 hours Recall = %+v; want it known, not fresh", got)
			}
			for key := range dump(t, s) {
				if life := s.Client().TTL(t.Context(), key).Val(); strings.Contains(key, "}c") && (life <= 0 || life > 10*24*time.Hour) {
					t.Errorf("%s lives for %v; want an end", key, life)
				}
			}
		})
	}
}

// TestSeveralRecords: of one shopper's records, however they are spread over pages,
// and whatever page is read twice, that one counts which a lookup would choose.
func TestSeveralRecords(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	rapid.Check(t, func(t *rapid.T) {
		sweep.Number++
		var all []recharge.Record
		active := 0
		var want recharge.Customer
		for i := range rapid.IntRange(1, 4).Draw(t, "records") {
			customer := recharge.Customer{ID: int64(i + 1), Hash: fmt.Sprint("hash", i), Active: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "active")}
			if customer.Active > 0 {
				active++
				want = customer
			}
			all = append(all, record(string(pat.Customer), customer))
		}
		switch {
		case len(all) == 1:
			want = all[0].Customer
		case active != 1:
			want = recharge.Customer{}
		}
		for _, page := range pages(t, rapid.Permutation(all).Draw(t, "order")) {
			for range rapid.IntRange(1, 2).Draw(t, "times") { // a sweep that was cut off reads a page again
				if err := s.Fill(context.Background(), sweep, page); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := s.Recall(context.Background(), pat, schedule)
		if got.Customer != want || got.Fresh != (want.ID != 0) || got.NotSubscriber {
			t.Fatalf("Recall = %+v; want %+v", got, want)
		}
	})
}

func pages(t *rapid.T, records []recharge.Record) [][]recharge.Record {
	return slices.Collect(slices.Chunk(records, rapid.IntRange(1, 4).Draw(t, "size")))
}

// TestNextSweepForgets: what the last sweep has found does not count for the next.
func TestNextSweepForgets(t *testing.T) {
	s := open(t, options(newClock(), &logged{}))
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	sweep.Number = 1
	ok(t, s.Fill(t.Context(), sweep, []recharge.Record{record(string(pat.Customer), recharge.Customer{ID: 1, Hash: "a", Active: 1})}))
	sweep.Number = 2
	ok(t, s.Fill(t.Context(), sweep, []recharge.Record{record(string(pat.Customer), known)}))
	if got := s.Recall(t.Context(), pat, schedule); got.Customer != known {
		t.Errorf("Recall = %+v; want what the second sweep has found", got.Customer)
	}
	// A webhook that says otherwise, and one that says the same.
	if same, err := s.Touch(t.Context(), pat.Shop, store.Change{ID: known.ID, Customer: pat.Customer, Hash: known.Hash, Active: known.Active}); !same || err != nil {
		t.Errorf("Touch with the same = %v, %v; want true", same, err)
	}
	if same, err := s.Touch(t.Context(), pat.Shop, store.Change{ID: known.ID, Customer: pat.Customer, Hash: "new", Active: 1}); same || err != nil {
		t.Errorf("Touch with another hash = %v, %v; want false", same, err)
	}
	if got := s.Recall(t.Context(), pat, schedule); got.Customer.ID != 0 {
		t.Errorf("Recall = %+v; want it forgotten", got.Customer)
	}
}

// TestIndexIsErased: with a shop goes its index, and a sweep that is under way; one
// that is connected is swept again.
func TestIndexIsErased(t *testing.T) {
	c := newClock()
	s := open(t, several(c, &logged{}))
	for _, stays := range []bool{false, true} {
		if stays {
			ok(t, s.SaveConnection(t.Context(), connected(pat.Shop)))
		}
		ok(t, s.OrderIndex(t.Context(), pat.Shop))
		sweep := took(t, s, pat.Shop)
		sweep.Running, sweep.Cursor, sweep.Number, sweep.Done = true, "of the old token", 7, c.now
		if had, err := s.Keep(t.Context(), sweep); !had || err != nil {
			t.Fatalf("Keep = %v, %v; want true", had, err)
		}
		ok(t, s.OrderErasure(t.Context(), store.Erasure{Shop: pat.Shop}))
		if erasing, err := s.Erasing(t.Context(), pat.Shop); err != nil || !erasing {
			t.Errorf("Erasing = %v, %v; want true", erasing, err)
		}
		for range 2 {
			ok(t, s.Work(t.Context()))
			c.advance(settle)
		}
		if erasing, err := s.Erasing(t.Context(), pat.Shop); err != nil || erasing {
			t.Errorf("Erasing = %v, %v; want false", erasing, err)
		}
		if had, err := s.Keep(t.Context(), sweep); had || err != nil {
			t.Errorf("connected %v: Keep = %v, %v; want it taken away", stays, had, err)
		}
		if s.Indexed(t.Context(), pat.Shop) {
			t.Errorf("connected %v: the index is complete", stays)
		}
		if stays {
			if anew := took(t, s, pat.Shop); anew.Running || anew.Cursor != "" || anew.Number != 7 {
				t.Errorf("what is swept anew is at %+v; want the beginning", anew.Index)
			}
		}
		if left := slices.Collect(maps.Keys(dump(t, s))); !stays && len(left) > 0 {
			t.Errorf("left is %q; want nothing", left)
		}
	}
}

// TestIndexOfOldKey: after a rotation the index is made anew.
func TestIndexOfOldKey(t *testing.T) {
	server := storetest.Redis(t)
	o := on(options(newClock(), &logged{}), server)
	before := open(t, o)
	ok(t, before.WatchIndex(t.Context(), pat.Shop))
	o.Keys = [][]byte{key(2), key(1)}
	after := open(t, o)
	noneDue(t, after)
	if _, ordered := server.Dump()["ms1:index"]; ordered {
		t.Error("the old key's shop is still due")
	}
	ok(t, after.WatchIndex(t.Context(), pat.Shop))
	took(t, after, pat.Shop)
}

// TestMemoryOfTheIndex holds a swept customer to 250 bytes of Redis, all told.
func TestMemoryOfTheIndex(t *testing.T) {
	const most, customers, page = 250, 20_000, 250
	server := storetest.Redis(t)
	s := open(t, on(options(newClock(), &logged{}), server))
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	sweep.Number = 300
	client := direct(t, server)
	before := usedMemory(t, client)
	for i := 0; i < customers; i += page {
		var records []recharge.Record
		for j := i; j < i+page; j++ {
			records = append(records, record(strconv.Itoa(6100200400000+j), recharge.Customer{ID: 170100200 + int64(j), Hash: fmt.Sprintf("%030x", j), Active: 1}))
		}
		ok(t, s.Fill(t.Context(), sweep, records))
	}
	each := (usedMemory(t, client) - before) / customers
	t.Logf("%d customers: %d bytes each, with expiry and tables", customers, each)
	if each > most {
		t.Errorf("%d bytes a customer; want at most %d", each, most)
	}
}

// TestFillLeavesLookups: a lookup sees all records of a shopper, a page one of them.
func TestFillLeavesLookups(t *testing.T) {
	c := newClock()
	s := open(t, options(c, &logged{}))
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	sweep.Number, sweep.Running, sweep.Began = 1, true, c.Now()
	ok(t, s.Fill(t.Context(), sweep, []recharge.Record{record(string(pat.Customer), known)}))
	c.advance(time.Minute)
	changed := known
	changed.Active = 2
	// A webhook says so, and somebody has looked it up.
	ok(t, touched(s.Touch(t.Context(), pat.Shop, store.Change{ID: known.ID, Customer: pat.Customer, Hash: known.Hash, Active: 2})))
	s.RememberCustomer(t.Context(), pat, changed)
	// A later page holds the record that the lookup did not choose.
	ok(t, s.Fill(t.Context(), sweep, []recharge.Record{record(string(pat.Customer), recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811"})}))
	if got := s.Recall(t.Context(), pat, schedule).Customer; got != changed {
		t.Errorf("remembered: %+v; want %+v, who was looked up", got, changed)
	}
}

// TestFillHoldsOverOlderKeys: where a sweep has found several records with none to
// prefer, what an older key has of the shopper is not preferred either.
func TestFillHoldsOverOlderKeys(t *testing.T) {
	c := newClock()
	server := storetest.Redis(t)
	o := on(options(c, &logged{}), server)
	open(t, o).RememberCustomer(t.Context(), pat, known)
	o.Keys = [][]byte{key(2), key(1)}
	s := open(t, o)
	ok(t, s.WatchIndex(t.Context(), pat.Shop))
	sweep := took(t, s, pat.Shop)
	sweep.Number = 1
	ok(t, s.Fill(t.Context(), sweep, []recharge.Record{
		record(string(pat.Customer), known),
		record(string(pat.Customer), recharge.Customer{ID: 70100333, Hash: "2e3d4c5b6a798811", Active: 1}),
	}))
	if got := s.Recall(t.Context(), pat, schedule); got.Customer.ID != 0 {
		t.Errorf("remembered: %+v; want nobody to prefer", got.Customer)
	}
}
