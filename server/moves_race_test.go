package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// TestAllAtOnce: two servers; portal, accounts and Unity move; merchants look, choose, connect. Every click leads
// to the shopper's own portal, and after Disconnect nothing comes back.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", func(s *config.Settings) { s.LinkTTL = "10m"; servertest.ManyStores(s); s.CustomerAccounts = "auto" })
	f.Connect()
	other := f.Instance(server.Options{}, func(s *config.Settings) { s.LinkTTL = "10m"; servertest.ManyStores(s); s.CustomerAccounts = "auto" })
	people := f.AddSubscribers(20)
	stop := make(chan struct{})
	var all sync.WaitGroup
	loop := func(pause time.Duration, do func(int)) {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				do(i)
				time.Sleep(pause)
			}
		})
	}
	for _, at := range []string{f.Public, other.Public} {
		client := servertest.NewClient(t)
		loop(time.Millisecond, func(i int) {
			who := people[i%len(people)]
			query := f.Store.SignedQuery("", who.ShopifyCustomerID, "/apps/subscriptions", servertest.AppSecret)
			page := []string{"", "/payment-method/update", "/gifts/1", "/subscriptions/1000/cancel", "/orders"}[i%5]
			response, err := client.Get("http://" + at + "/apps/subscriptions" + page + "?" + query + "&")
			if err != nil {
				return
			}
			_ = response.Body.Close()
			location := response.Header.Get("Location")
			if location != "" && !strings.Contains(location, who.Hash) && !strings.HasPrefix(location, f.Store.AccountURL) && response.StatusCode == http.StatusFound {
				t.Errorf("%s is sent to %s", who.ShopifyCustomerID, location)
			}
			for _, o := range people {
				if o.Hash != who.Hash && strings.Contains(location, o.Hash) {
					t.Errorf("%s is sent to another's: %s", who.ShopifyCustomerID, location)
				}
			}
		})
	}
	loop(20*time.Millisecond, func(i int) { f.Recharge.SetUnity(i%3 == 0); f.Clock.Add(3 * time.Minute) })
	loop(30*time.Millisecond, func(i int) {
		f.Recharge.SetPortalBase([]string{f.Recharge.URL + "/portal/", f.Store.URL + "/tools/recurring/portal/"}[i%2])
	})
	loop(40*time.Millisecond, func(i int) { f.Store.SetAccounts([]string{"new", "legacy"}[i%2]) })
	loop(15*time.Millisecond, func(int) { f.AppHome("/app/look", f.SessionToken(nil), url.Values{}) })
	loop(25*time.Millisecond, func(i int) {
		f.AppHome("/app/settings", f.SessionToken(nil), url.Values{"link": {[]string{"", "account"}[i%2]}, "page": {f.Store.AccountPage()}})
	})
	loop(70*time.Millisecond, func(int) { f.AppHome("/app/connect", f.SessionToken(nil), servertest.ConnectForm()) })
	time.Sleep(suite.Pick(3*time.Second, time.Second))
	gone := make(chan bool)
	go func() {
		for {
			_, body := f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{})
			if strings.Contains(body, "not_connected") {
				close(gone)
				return
			}
		}
	}()
	<-gone
	close(stop)
	all.Wait()
	f.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{})
	time.Sleep(time.Second)
	if r := recordOf(f); r != "" {
		t.Errorf("a record came back")
	}
	for _, line := range f.Log.Lines("request panicked") {
		t.Error(line)
	}
	for _, line := range strings.Split(f.Log.String(), "\n") {
		if strings.Contains(line, "panic") || strings.Contains(line, "stack") {
			t.Error(line)
			break
		}
	}
}

// TestGoneDuringLook: Disconnect and uninstall while the store is looked at.
func TestGoneDuringLook(t *testing.T) {
	t.Parallel()
	f := watching(t)
	f.Begin("new", "/apps/subscriptions", servertest.ManyStores)
	f.Connect()
	other := f.Instance(server.Options{}, servertest.ManyStores)
	f.Recharge.SetFaults(func(faults *rechargetest.Faults) {
		faults.Latency, faults.Only = 2*time.Second, rechargetest.EndpointCustomers
	})
	done := make(chan string)
	go func() { done <- look(f) }()
	time.Sleep(300 * time.Millisecond)
	beside := *f
	beside.Public = other.Public
	beside.AppHome("/app/disconnect", f.SessionToken(nil), url.Values{})
	said := <-done
	if recordOf(f) != "" {
		t.Error("the record came back")
	}
	if !strings.Contains(said, `data-state="not_connected"`) {
		t.Error("the app home does not say that the store is not connected")
	}
}
