package handlers_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"manage-subscriptions/config"
	"manage-subscriptions/internal/servertest"
	"manage-subscriptions/recharge/rechargetest"
)

// TestHealth checks that clicks and calls are counted, and that errors are explained in words.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, servertest.ManyStores)
	f.Connect()
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Pat)
	f.LinkedHash(servertest.Robin)
	f.Recharge.SetFaults(func(f *rechargetest.Faults) { f.Limited = true })
	f.LinkedHash(servertest.Sam)
	health := func() string {
		_, body := f.AppHome("/app/health", f.SessionToken(nil), nil)
		return body
	}
	for _, want := range []string{
		"4 clicks in the last 24 hours, 2 of them to the portal.", "In the portal, signed in: <b>2</b>", "No subscriber: <b>1</b>", "Asked to try again: <b>1</b>",
		"Recharge received too many calls", "Reference <code>", "1 refused for being too many", "Recharge has asked to wait",
	} {
		if got := health(); !strings.Contains(got, want) {
			t.Errorf("health = %s; want %q in it", got, want)
		}
	}
	f.Until("what is counted is in Redis", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(f.Redis.Dump())), func(key string) bool { return strings.Contains(key, "}:h:") })
	})
	f.Calls()
	health()
	if calls := f.Calls(); len(calls) != 0 {
		t.Errorf("health makes calls %v; want none", calls)
	}
	if _, other := f.AppHome("/app/health", f.SessionToken(servertest.ForShop(otherShop)), nil); !strings.Contains(other, "0 clicks") || strings.Contains(other, "Reference") {
		t.Errorf("another shop reads %s; want nothing of this one's", other)
	}
}

// TestContact: the app home says whom to ask, while Redis is down, too.
func TestContact(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t, func(s *config.Settings) { s.SupportContact = "help@agency.example" })
	home := "/?embedded=1&shop=" + servertest.Shop + "&id_token=" + f.SessionToken(nil)
	const want = `<a href="mailto:help@agency.example" target="_blank" rel="noopener">help@agency.example</a>`
	if _, body := f.AppHome(home, "", nil); !strings.Contains(body, want) {
		t.Errorf("home = %s; want %s in it", body, want)
	}
	f.Redis.Stop()
	if _, body := f.AppHome(home, "", nil); !strings.Contains(body, "data-outage") || !strings.Contains(body, want) {
		t.Errorf("without Redis, home = %s; want %s in it", body, want)
	}
}

// TestHomeOfOneStore checks that settings from the environment are shown and cannot be changed, and
// that the rest of the app home works.
func TestHomeOfOneStore(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	_, home := f.AppHome("/?embedded=1&shop="+servertest.Shop+"&id_token="+f.SessionToken(nil), "", nil)
	if !strings.Contains(home, `data-state="connected"`) || !strings.Contains(home, f.Store.URL+"/tools/recurring/portal/") || strings.Contains(home, `name="token"`) {
		t.Errorf("home = %s; want it connected, and nothing to paste", home)
	}
	for _, path := range []string{"/app/connect", "/app/settings", "/app/disconnect"} {
		if response, _ := f.AppHome(path, f.SessionToken(nil), servertest.ConnectForm()); response.StatusCode != http.StatusForbidden {
			t.Errorf("%s = %d; want 403", path, response.StatusCode)
		}
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(nil), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="redirected"`) {
		t.Errorf("try: %s; want redirected", body)
	}
	f.LinkedHash(servertest.Pat)
	if _, body := f.AppHome("/app/health", f.SessionToken(nil), nil); !strings.Contains(body, "1 click in the last 24 hours") {
		t.Errorf("health: %s; want the click", body)
	}
	// Another shop can install the app, too.
	_, home = f.AppHome("/?embedded=1&shop="+otherShop+"&id_token="+f.SessionToken(servertest.ForShop(otherShop)), "", nil)
	if !strings.Contains(home, "another store") || strings.Contains(home, "/tools/recurring/portal/") {
		t.Errorf("another shop's home = %s; want it told, and nothing of the one store's", home)
	}
	if _, body := f.AppHome("/app/try", f.SessionToken(servertest.ForShop(otherShop)), url.Values{"customer": {servertest.Pat}}); !strings.Contains(body, `data-result="not_connected"`) {
		t.Errorf("another shop's try: %s; want not_connected", body)
	}
}
