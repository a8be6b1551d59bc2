package server_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server"
)

func (f *fixture) preview(q server.Question, change ...func(*config.Settings)) (string, error) {
	f.t.Helper()
	settings := f.settings()
	for _, edit := range change {
		edit(&settings)
	}
	cfg, err := settings.Check()
	if err != nil {
		f.t.Fatal(err)
	}
	var out bytes.Buffer
	err = server.Preview(f.t.Context(), cfg, q, &out,
		server.WithLog(slog.New(slog.NewJSONHandler(f.log, nil))), server.WithClock(f.clock.now), server.WithShopify(f.platform()))
	return out.String(), err
}

// keyKind is what a shop's key holds: c, r, x and d are of shoppers, l are locks.
var keyKind = regexp.MustCompile(`^ms2:\{[^}]+\}:([a-z]):`)

// TestPreview tells where a click would lead, and changes nothing of it.
func TestPreview(t *testing.T) {
	f := start(t)
	all := []struct {
		name    string
		q       server.Question
		before  func()
		source  string
		outcome string
		steps   string
		refused bool
	}{
		{"nobody knows", server.Question{Customer: pat}, func() {}, "Recharge: ", "redirected: ", "redis_read budget customers sessions portal_access", false},
		{"nothing of it was remembered", server.Question{Customer: pat, Destination: "orders"}, func() {}, "Recharge: ", "redirected: ", "redis_read budget customers sessions portal_access", false},
		{"after a click", server.Question{Customer: pat, Shop: shop}, func() { f.click(f.shopper(pat), "/apps/subscriptions") }, "cache: a portal access", "redirected: ", "redis_read", false},
		{"another page", server.Question{Customer: pat, Destination: "orders"}, func() {}, "cache: a portal access", "redirected: ", "redis_read", false},
		{"the access is over", server.Question{Customer: pat}, func() { f.clock.add(2 * time.Minute) }, "cache: who the shopper is and a session", "redirected: ", "redis_read budget portal_access", false},
		{"does not subscribe", server.Question{Customer: robin}, func() {}, "Recharge: ", "not_a_subscriber: ", "redis_read budget customers", false},
		{"another shop", server.Question{Customer: pat, Shop: "other.myshopify.com"}, func() {}, "nowhere", "not_connected: ", "redis_read", true},
		{"Recharge is down", server.Question{Customer: sam}, func() { f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Status = 500 }) }, "nowhere", "unavailable: ", "redis_read budget customers customers", true},
	}
	for _, test := range all {
		test.before()
		before := f.redis.Dump()
		out, err := f.preview(test.q)
		if refused := errors.Is(err, server.ErrTurnedAway); refused != test.refused || err != nil && !refused {
			t.Errorf("%s: Preview: %v", test.name, err)
		}
		var steps []string
		for _, step := range regexp.MustCompile(`(?m)^  (\w+) `).FindAllStringSubmatch(out, -1) {
			steps = append(steps, step[1])
		}
		if got := strings.Join(steps, " "); got != test.steps {
			t.Errorf("%s: steps %q; want %q", test.name, got, test.steps)
		}
		for name, want := range map[string]string{"answer from": test.source, "outcome": test.outcome} {
			if !regexp.MustCompile(`(?m)^` + name + ` +` + regexp.QuoteMeta(want)).MatchString(out) {
				t.Errorf("%s: %s is not %q in\n%s", test.name, name, want, out)
			}
		}
		for what, secret := range f.secrets() {
			if strings.Contains(out, secret) {
				t.Errorf("%s: the preview shows %s", test.name, what)
			}
		}
		for key := range f.redis.Dump() {
			_, was := before[key]
			if kind := keyKind.FindStringSubmatch(key); !was && kind != nil && strings.Contains("crxdl", kind[1]) {
				t.Errorf("%s: the preview has left %s in Redis", test.name, key)
			}
		}
	}
	if openings := f.recharge.Openings(); len(openings) != 0 {
		t.Errorf("previews have opened %d portals", len(openings))
	}
}

// TestPreviewOfTheIndex says that a sweep has found the shopper.
func TestPreviewOfTheIndex(t *testing.T) {
	f := indexed(t, 0)
	f.complete()
	out, err := f.preview(server.Question{Customer: pat})
	if err != nil || !strings.Contains(out, "index: who the shopper is") {
		t.Errorf("Preview does not say that the index knows the shopper: %v\n%s", err, out)
	}
}

// TestPreviewHoldsNobodyUp: while it asks Recharge, no server is told to wait for
// what it finds, since it keeps that to itself.
func TestPreviewHoldsNobodyUp(t *testing.T) {
	f := start(t)
	f.recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 150 * time.Millisecond })
	done := make(chan struct{})
	var out string
	var err error
	go func() {
		defer close(done)
		out, err = f.preview(server.Question{Customer: pat}, func(s *config.Settings) { s.Redirect = "page" })
	}()
	for asking := true; asking; {
		select {
		case <-done:
			asking = false
		default:
		}
		for key := range f.redis.Dump() {
			if kind := keyKind.FindStringSubmatch(key); kind != nil && kind[1] == "l" {
				t.Fatalf("the preview holds %s", key)
			}
		}
	}
	if err != nil || !strings.Contains(out, "redirected: a page that forwards to the portal at") {
		t.Errorf("Preview: %v\n%s", err, out)
	}
}

func TestPreviewOfAWrongQuestion(t *testing.T) {
	f := start(t)
	_, err := f.preview(server.Question{Customer: "pat@example.test", Shop: "www.brand.example"})
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("Preview: %v; want two problems", err)
	}
}
