package store

import (
	"slices"
	"sync"
	"time"
)

// recentAtMost bounds whom the process' memory holds.
const recentAtMost = 10_000

// recent holds, for a moment, what Redis has just said of shoppers who have a link.
// What this server itself learns to have changed is dropped from it at once; what
// others do, counts when the moment is over. The zero value holds nothing.
type recent struct {
	life time.Duration

	mu         sync.RWMutex
	young, old map[Shopper][]recalled
	turned     time.Time // when young was begun
	epoch      uint64    // how often something was dropped
}

type recalled struct {
	visit  Visit
	memory Memory
	until  time.Time
}

// get returns what is held of a shopper's visit. Where nothing is, the epoch is
// what put has to be told.
func (r *recent) get(who Shopper, visit Visit, now time.Time) (memory Memory, epoch uint64, ok bool) {
	if r.life == 0 {
		return Memory{}, 0, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, held := range [][]recalled{r.young[who], r.old[who]} {
		for _, one := range held {
			if one.visit == visit && now.Before(one.until) && !now.Before(one.until.Add(-r.life)) {
				return one.memory, r.epoch, true
			}
		}
	}
	return Memory{}, r.epoch, false
}

// put holds what was read since the epoch, unless something was dropped meanwhile:
// then it may be that.
func (r *recent) put(who Shopper, visit Visit, memory Memory, epoch uint64, now time.Time) {
	if r.life == 0 || memory.Link.URL == "" || memory.Lost {
		return
	}
	until := now.Add(r.life)
	if memory.Link.Expires.Before(until) {
		until = memory.Link.Expires
	}
	memory.Session.Token = "" // the link will do
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	if age := now.Sub(r.turned); age >= r.life || age < 0 || len(r.young) >= recentAtMost {
		r.old, r.young, r.turned = r.young, map[Shopper][]recalled{}, now
		if age >= 2*r.life || age < 0 {
			r.old = nil
		}
	}
	held := slices.DeleteFunc(r.young[who], func(one recalled) bool { return one.visit == visit })
	r.young[who] = append(held, recalled{visit, memory, until})
}

// drop drops all that fits.
func (r *recent) drop(fits func(Shopper, Memory) bool) {
	if r.life == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	for _, shoppers := range []map[Shopper][]recalled{r.young, r.old} {
		for who, held := range shoppers {
			if slices.ContainsFunc(held, func(one recalled) bool { return fits(who, one.memory) }) {
				delete(shoppers, who)
			}
		}
	}
}

// forget drops one shopper.
func (r *recent) forget(who Shopper) {
	if r.life == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	delete(r.young, who)
	delete(r.old, who)
}
