package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// output is what a command prints, for a test to read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// TestCampaignCommand checks that the command says what is possible, prepares a campaign without any server,
// lists it and cancels it.
func TestCampaignCommand(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	f.Stop() // no server helps
	f.Recharge.SetCustomers(append(servertest.Subscribers(20), servertest.Customers()...))
	list := []byte("id\n" + servertest.Pat + "\n6200000000001\n999\n")
	soon := f.Clock.Now().Add(5 * time.Minute)
	campaign := func(ctx context.Context, ask server.CampaignOptions, change func(*config.Settings), out *output) error {
		settings := f.Settings()
		if change != nil {
			change(&settings)
		}
		cfg, err := settings.Check()
		if err != nil {
			t.Fatal(err)
		}
		if ask.Audience == "" {
			ask.Audience = "active" // the flag's default
		}
		return server.Campaign(ctx, cfg, ask, out, server.Options{Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler)})
	}
	says := func(name string, ask server.CampaignOptions, wants ...string) string {
		t.Helper()
		var out output
		err := campaign(t.Context(), ask, nil, &out)
		for _, want := range wants {
			if err != nil || !strings.Contains(out.String(), want) {
				t.Errorf("%s = %v, and says %q; want %q", name, err, out.String(), want)
			}
		}
		return out.String()
	}
	spring := server.CampaignOptions{Name: "Spring", StartsAt: soon}
	says("dry run, before any import", server.CampaignOptions{Name: "Spring", StartsAt: soon, DryRun: true}, "The customers are not all read from Recharge yet.")
	says("list of none", server.CampaignOptions{List: true}, "There are no campaigns.")
	said := says("plan", spring, "Spring\nThe customers are not all read", "It waits until all customers have been read", "Ready: 23 of 23 are prepared.")
	if n := f.Calls()["portal_access"]; n != 23 {
		t.Errorf("it made %d accesses; want 23", n)
	}
	id := regexp.MustCompile(`^[0-9a-f]{16}`).FindString(said)
	says("list", server.CampaignOptions{List: true}, id+"  "+soon.UTC().Format("2006-01-02 15:04")+" UTC  Spring  Ready: 23 of 23 are prepared.")
	says("dry run of a list", server.CampaignOptions{Name: "Few", StartsAt: soon, DryRun: true, Customers: list}, "2 links need about 10 min", "1 listed customer without")
	var again output
	if err := campaign(t.Context(), spring, nil, &again); err == nil || !strings.HasSuffix(err.Error(), " or choose another name. Its id is "+id+".") {
		t.Errorf("planned again: %v, %q; want the id of the other", err, again.String())
	}
	says("cancel", server.CampaignOptions{Cancel: id}, "Cancelled.")

	for name, test := range map[string]struct {
		ask    server.CampaignOptions
		change func(*config.Settings)
		want   string
	}{
		"cancel again":       {server.CampaignOptions{Cancel: id}, nil, "no such campaign"},
		"no name":            {server.CampaignOptions{StartsAt: soon}, nil, "Give the campaign a name"},
		"no time":            {server.CampaignOptions{Name: "x"}, nil, "start between now"},
		"no ids":             {server.CampaignOptions{Name: "x", StartsAt: soon, Customers: []byte("id\n\n7123456789012\nPat Doe")}, nil, " Check line 4."},
		"renewals":           {server.CampaignOptions{Name: "x", Audience: "renewals"}, nil, "may not read orders"},
		"two audiences":      {server.CampaignOptions{Name: "x", Audience: "renewals", Customers: list}, nil, "leave out --audience"},
		"another store":      {server.CampaignOptions{Name: "x", Shop: "other.myshopify.com"}, nil, "found no store"},
		"PREPARE=off":        {spring, func(s *config.Settings) { s.Prepare = "off" }, "PREPARE=off"},
		"the embedded Redis": {spring, func(s *config.Settings) { s.RedisURL = "" }, "REDIS_URL is empty"},
	} {
		var out output
		if err := campaign(t.Context(), test.ask, test.change, &out); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %q; want %q", name, err, out.String(), test.want)
		}
	}

	// Ctrl-C leaves a campaign to the servers.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out output
	ended := make(chan error, 1)
	go func() {
		ended <- campaign(ctx, server.CampaignOptions{Name: "Later", StartsAt: soon.Add(5 * 24 * time.Hour)}, nil, &out)
	}()
	f.Until("it waits", func() bool { return strings.Contains(out.String(), "Planned: it starts at") })
	stop()
	if err := <-ended; err != nil || !strings.Contains(out.String(), "The servers go on with it.") {
		t.Errorf("after Ctrl-C: %v, %q", err, out.String())
	}
	if strings.Contains(out.String(), "database") {
		t.Errorf("Ctrl-C is taken for a broken database: %q", out.String())
	}
	says("list", server.CampaignOptions{List: true}, "Later  Planned: it starts at")
}

// TestCampaignCommandOfManyStores lists the campaigns of all stores, and prints a line to cancel that works.
func TestCampaignCommandOfManyStores(t *testing.T) {
	t.Parallel()
	f := servertest.Connected(t)
	f.Stop()
	f.SaveElsewhere(store.Connection{Shop: "other-shop.myshopify.com", APIToken: "sk_test_other", SavedAt: f.Clock.Now()})
	settings := f.Settings()
	servertest.ManyStores(&settings)
	cfg, err := settings.Check()
	if err != nil {
		t.Fatal(err)
	}
	campaign := func(ctx context.Context, ask server.CampaignOptions, out *output) error {
		return server.Campaign(ctx, cfg, ask, out, server.Options{Now: f.Clock.Now, Log: slog.New(slog.DiscardHandler)})
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var planned, listed, cancelled output
	ended := make(chan error, 1)
	go func() {
		ended <- campaign(ctx, server.CampaignOptions{
			Shop: servertest.Shop, Name: "Later", Audience: "active", StartsAt: f.Clock.Now().Add(5 * 24 * time.Hour),
		}, &planned)
	}()
	f.Until("it waits", func() bool { return strings.Contains(planned.String(), "Later\n") })
	stop()
	err = <-ended
	hint := regexp.MustCompile(`campaign --shop (\S+) --cancel ([0-9a-f]{16})\n`).FindStringSubmatch(planned.String())
	if err != nil || hint == nil || hint[1] != servertest.Shop {
		t.Fatalf("after Ctrl-C: %v, %q; want a line to cancel it with --shop", err, planned.String())
	}
	err = campaign(t.Context(), server.CampaignOptions{List: true}, &listed)
	if want := hint[1] + "  " + hint[2] + "  "; err != nil || !strings.HasPrefix(listed.String(), want) {
		t.Errorf("list: %v, %q; want %q first", err, listed.String(), want)
	}
	err = campaign(t.Context(), server.CampaignOptions{Cancel: hint[2]}, &cancelled)
	if _, usage := errors.AsType[config.Problems](err); !usage || !strings.Contains(err.Error(), "--shop is missing") {
		t.Errorf("cancel without --shop: %v; want a problem, for exit code 2", err)
	}
	if err = campaign(t.Context(), server.CampaignOptions{Shop: hint[1], Cancel: hint[2]}, &cancelled); err != nil {
		t.Errorf("cancel: %v", err)
	}
}
