package server_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

func preview(f *servertest.Fixture, q server.Question, change ...func(*config.Settings)) (string, error) {
	f.T.Helper()
	cfg := f.Config(change...)
	var out bytes.Buffer
	err := server.Preview(f.T.Context(), cfg, q, &out,
		server.Options{Log: slog.New(slog.NewJSONHandler(f.Log, nil)), Now: f.Clock.Now, Platform: f.Platform()})
	return out.String(), err
}

// TestPreview: a preview prints where a click would lead, and does not change that.
func TestPreview(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	all := []struct {
		name    string
		q       server.Question
		before  func()
		source  string
		outcome string
		steps   string
		refused bool
	}{
		{"nobody knows", server.Question{Customer: servertest.Pat}, func() {}, "Recharge: ", "redirected: ", "redis_read budget customers sessions portal_access", false},
		{"nothing of it was remembered", server.Question{Customer: servertest.Pat, Destination: "orders"}, func() {}, "Recharge: ", "redirected: ", "redis_read budget customers sessions portal_access", false},
		{"after a click", server.Question{Customer: servertest.Pat, Shop: servertest.Shop}, func() { f.Click(f.Shopper(servertest.Pat), "/apps/subscriptions") }, "cache: a portal access", "redirected: ", "redis_read", false},
		{"another page", server.Question{Customer: servertest.Pat, Destination: "orders"}, func() {}, "cache: a portal access", "redirected: ", "redis_read", false},
		{"the access is over", server.Question{Customer: servertest.Pat}, func() { f.Clock.Add(2 * time.Minute) }, "cache: who the shopper is and a session", "redirected: ", "redis_read budget portal_access", false},
		{"does not subscribe", server.Question{Customer: servertest.Robin}, func() {}, "Recharge: ", "not_a_subscriber: ", "redis_read budget customers", false},
		{"another shop", server.Question{Customer: servertest.Pat, Shop: "other.myshopify.com"}, func() {}, "nowhere", "not_connected: ", "redis_read", true},
		{"Recharge is down", server.Question{Customer: servertest.Sam}, func() { f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Status = 500 }) }, "nowhere", "unavailable: ", "redis_read budget customers customers", true},
	}
	for _, test := range all {
		test.before()
		before := f.Redis.Dump()
		out, err := preview(f, test.q)
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
		for what, secret := range f.Secrets() {
			if strings.Contains(out, secret) {
				t.Errorf("%s: the preview shows %s", test.name, what)
			}
		}
		for key := range f.Redis.Dump() {
			_, was := before[key]
			if kind := servertest.KeyKind.FindStringSubmatch(key); !was && kind != nil && strings.Contains("crxdl", kind[1]) {
				t.Errorf("%s: the preview has left %s in Redis", test.name, key)
			}
		}
	}
	if openings := f.Recharge.Openings(); len(openings) != 0 {
		t.Errorf("previews have opened %d portals", len(openings))
	}
}

// TestPreviewOfTheIndex: a preview says that an import has found the shopper.
func TestPreviewOfTheIndex(t *testing.T) {
	t.Parallel()
	f := servertest.StartWithImport(t, 0)
	f.WaitForImport()
	out, err := preview(f, server.Question{Customer: servertest.Pat})
	if err != nil || !strings.Contains(out, "index: who the shopper is") {
		t.Errorf("Preview does not say that the index knows the shopper: %v\n%s", err, out)
	}
}

// TestPreviewHoldsNobodyUp: a preview takes no lock, since it saves nothing that a server could wait
// for.
func TestPreviewHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Latency = 150 * time.Millisecond })
	done := make(chan struct{})
	var out string
	var err error
	go func() {
		defer close(done)
		out, err = preview(f, server.Question{Customer: servertest.Pat}, func(s *config.Settings) { s.Redirect = "page" })
	}()
	for asking := true; asking; {
		select {
		case <-done:
			asking = false
		default:
		}
		for key := range f.Redis.Dump() {
			if kind := servertest.KeyKind.FindStringSubmatch(key); kind != nil && kind[1] == "l" {
				t.Fatalf("the preview holds %s", key)
			}
		}
	}
	if err != nil || !strings.Contains(out, "redirected: a page that forwards to the portal at") {
		t.Errorf("Preview: %v\n%s", err, out)
	}
}

func TestPreviewOfAWrongQuestion(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	_, err := preview(f, server.Question{Customer: "pat@example.test", Shop: "www.brand.example"})
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("Preview: %v; want two problems", err)
	}
}
