package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// toggle is one of the panel's faults, or a choice that the merchant can make.
type toggle struct {
	Name   string // in forms and tests
	Label  string // the thing that is broken, or the choice
	Expect string // how a click then ends
	Choice bool   // nothing is broken
	set    func(on bool) error
	on     atomic.Bool
}

func (t *toggle) On() bool { return t.on.Load() }

// Switch turns a fault on or off by its name.
func (s *Sandbox) Switch(name string, on bool) error {
	for _, toggle := range s.switches {
		if toggle.Name == name {
			return s.turn(on, toggle)
		}
	}
	return fmt.Errorf("no switch is called %q", name)
}

// AllOff turns every switch off.
func (s *Sandbox) AllOff() error {
	return s.turn(false, s.switches...)
}

func (s *Sandbox) turn(on bool, toggles ...*toggle) (err error) {
	changed := false
	for _, toggle := range toggles {
		if toggle.on.Swap(on) != on {
			err = errors.Join(err, toggle.set(on))
			changed = changed || !toggle.Choice
		}
	}
	if changed && !on {
		err = errors.Join(err, s.environment.recover())
	}
	return err
}

// Forget deletes every cached shopper from Redis. It keeps what merchants have saved.
func (s *Sandbox) Forget() {
	for _, key := range s.environment.redis.Keys() {
		_, kind, _ := strings.Cut(key, "}:")
		if strings.HasPrefix(kind, "c:") || strings.HasPrefix(kind, "r:") || kind == "i" { // with what the import has found
			s.environment.redis.Del(key)
		}
	}
}

// dump returns everything in a Redis.
func dump(redis *miniredis.Miniredis) map[string]string {
	held := map[string]string{}
	for _, key := range redis.Keys() {
		value, err := redis.Get(key)
		if err != nil { // it is a hash
			fields, _ := redis.HKeys(key)
			for _, field := range fields {
				value += field + "=" + redis.HGet(key, field) + "\n"
			}
		}
		held[key] = value
	}
	return held
}

func (s *Sandbox) toggles() []*toggle {
	const byHash = "Known shoppers get in, after a minute by a hash link. Others are asked to try again."
	type (
		api   = rechargetest.Faults
		store = shopifytest.Faults
	)
	behind := []*toggle{
		s.rechargeToggle("limited", "Recharge refuses calls (429)", byHash,
			func(f *api, on bool) { f.Limited = on }),
		s.rechargeToggle("slow", "Recharge takes 10 seconds", "Known shoppers get in by a hash link, after 3 to 6 seconds.",
			func(f *api, on bool) { f.Latency = seconds(10, on) }),
		s.rechargeToggle("down", "Recharge is down", byHash,
			func(f *api, on bool) { f.Down = on }),
		s.rechargeToggle("sessions", "Recharge creates no sessions",
			"Shoppers get in by a hash link, unless their session is cached.",
			func(f *api, on bool) { f.RefuseSessions = on }),
		s.rechargeToggle("filter", "Recharge ignores the customer filter",
			"Shoppers get into their own portal, or are asked to try again. Nobody gets into another’s.",
			func(f *api, on bool) { f.IgnoreFilter = on }),
		{
			Name: "redis", Label: "Redis is down", set: s.setRedisGone,
			Expect: "Shoppers still get in, but each click makes three or four calls to Recharge.",
		},
	}
	if s.kind.headless { // its shoppers do not come through Shopify
		return behind
	}
	return append(behind,
		&toggle{
			Name: "unity", Label: "Portal in the customer account (Unity)", Choice: true,
			Expect: "Clicks lead to Recharge’s page in Shopify’s customer account.",
			set: func(on bool) error {
				s.Recharge.SetUnity(on)
				s.look()
				return nil
			},
		},
		s.accountsToggle(),
		s.storeToggle("bots", "The store blocks bots (430)",
			"Clicks work as before. The server keeps what it knows about the store.", func(f *store, on bool) {
				f.Bots = 0
				if on {
					f.Bots = 430
				}
			}),
		s.storeToggle("clock", "Shopify’s clock is 100 seconds slow", "Clicks are refused (403), as if they were replayed.",
			func(f *store, on bool) { f.ClockOffset = seconds(-100, on) }),
		s.storeToggle("secret", "Shopify signs with the wrong secret", "Clicks are refused (403), as if they were forged.",
			func(f *store, on bool) { f.WrongSecret = on }),
		s.storeToggle("signin", "Signing in has no effect",
			"Shoppers sign in once, then see a page that asks them to sign in again.",
			func(f *store, on bool) { f.ForgetShopper = on }),
		s.storeToggle("shop", "The store is not connected", "Shoppers see a page that says so.", func(f *store, on bool) {
			f.Shop = ""
			if on {
				f.Shop = "another-store.myshopify.com"
			}
		}),
	)
}

// accountsToggle switches to the kind of customer accounts that the store does not have at the start.
func (s *Sandbox) accountsToggle() *toggle {
	now, other := s.kind.accounts, "legacy"
	label := "Legacy customer accounts"
	if now == "legacy" {
		other, label = "new", "Current customer accounts"
	}
	expect := "Clicks work as before. Shoppers sign in on the other page."
	return &toggle{Name: "accounts", Label: label, Choice: true, Expect: expect, set: func(on bool) error {
		if on {
			s.Store.SetAccounts(other)
		} else {
			s.Store.SetAccounts(now)
		}
		s.look()
		return nil
	}}
}

// look presses "Look again" as a merchant does in the app home, so that the next click shows the switch. A
// look may fail, as in a store that has not installed the app, or while something else is broken.
func (s *Sandbox) look() {
	_, _ = s.inAppHome(context.Background(), "/app/look", url.Values{})
}

func seconds(n int, on bool) time.Duration {
	if !on {
		return 0
	}
	return time.Duration(n) * time.Second
}

func (s *Sandbox) rechargeToggle(name, label, expect string, set func(*rechargetest.Faults, bool)) *toggle {
	return &toggle{Name: name, Label: label, Expect: expect, set: func(on bool) error {
		s.Recharge.SetFaults(func(f *rechargetest.Faults) { set(f, on) })
		return nil
	}}
}

func (s *Sandbox) storeToggle(name, label, expect string, set func(*shopifytest.Faults, bool)) *toggle {
	return &toggle{Name: name, Label: label, Expect: expect, set: func(on bool) error {
		s.Store.SetFaults(func(f *shopifytest.Faults) { set(f, on) })
		return nil
	}}
}

func (s *Sandbox) setRedisGone(gone bool) error {
	if gone {
		s.environment.redis.Close()
		return nil
	}
	return s.environment.redis.Restart()
}

// pauses is longer than the server leaves Recharge, one of its tokens or Redis alone after a failure.
const pauses = 31 * time.Second

// openCircuit is in the metrics while an endpoint of Recharge is not called because it has failed.
var openCircuit = regexp.MustCompile(`breakers_open{[^}]*} [1-9]`)

// recover makes the next click work at once when a fault has been switched off. The clock skips all pauses. Circuits do
// not follow it. If any is open, this takes up to five seconds.
func (e *environment) recover() error {
	e.skip(pauses)
	for {
		response, err := http.Get(e.metrics)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil || !openCircuit.Match(body) {
			return err
		}
		recharge.Wait(e.ctx, clockTick)
	}
}
