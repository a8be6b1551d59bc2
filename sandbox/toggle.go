package sandbox

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"

	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/shopify/shopifytest"
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
			if toggle.on.Swap(on) == on {
				return nil
			}
			return toggle.set(on)
		}
	}
	return fmt.Errorf("no switch is called %q", name)
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
	const mostlyByHash = "signed in for a minute, then by hash; a shopper who is not known: try again"
	type (
		recharge = rechargetest.Faults
		store    = shopifytest.Faults
	)
	behind := []*toggle{
		s.rechargeToggle("limited", "Recharge limits us (429)", mostlyByHash,
			func(f *recharge, on bool) { f.Limited = on }),
		s.rechargeToggle("slow", "Recharge takes 10 seconds", "the same, after 3 to 6 seconds",
			func(f *recharge, on bool) { f.Latency = seconds(10, on) }),
		s.rechargeToggle("down", "Recharge is down", mostlyByHash,
			func(f *recharge, on bool) { f.Down = on }),
		s.rechargeToggle("sessions", "Recharge refuses sessions", "by hash, unless a session is cached",
			func(f *recharge, on bool) { f.RefuseSessions = on }),
		s.rechargeToggle("filter", "Recharge ignores the filter", "the shopper's own portal, or try again; nobody else's",
			func(f *recharge, on bool) { f.IgnoreFilter = on }),
		{
			Name: "redis", Label: "Redis is gone", Expect: "signed in all the same, with three or four calls each time",
			set: s.setRedisGone,
		},
	}
	if s.kind.headless { // its shoppers do not come through Shopify
		return behind
	}
	return append(behind,
		&toggle{
			Name: "unity", Label: "Recharge's portal: Unity, not Affinity", Choice: true,
			Expect: "the page in the current customer account, once the app home has its address; the server notices at once",
			set: func(on bool) error {
				s.Recharge.SetUnity(on)
				s.look()
				return nil
			},
		},
		s.accountsToggle(),
		s.storeToggle("bots", "The store refuses bots (430)", "as before; the server keeps what it knows of the store",
			func(f *store, on bool) {
				f.Bots = 0
				if on {
					f.Bots = 430
				}
			}),
		s.storeToggle("clock", "Shopify's clock is 100 s off", "403, as for a replayed click",
			func(f *store, on bool) { f.ClockOffset = seconds(-100, on) }),
		s.storeToggle("secret", "Signed with a wrong secret", "403, as for a forged click",
			func(f *store, on bool) { f.WrongSecret = on }),
		s.storeToggle("signin", "The sign-in does not take", "one round trip, then a page: sign in once more",
			func(f *store, on bool) { f.ForgetShopper = on }),
		s.storeToggle("shop", "A store without Recharge", "a page: not set up yet", func(f *store, on bool) {
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
	label := "Customer accounts: legacy, not current"
	if now == "legacy" {
		other, label = "new", "Customer accounts: current, not legacy"
	}
	expect := "as before; a signed-out shopper returns from the other sign-in; the server notices at once"
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
