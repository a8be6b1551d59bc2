package store

import (
	"context"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
)

// LeaseLife is how long a lease lasts.
const LeaseLife = lease

// Rest is how long a Redis that failed is left alone.
const Rest = restFor

// Client reaches what the store wrote, the embedded Redis' too.
func (s *Store) Client() redis.UniversalClient { return s.redis }

// Embedded is the embedded Redis.
func (s *Store) Embedded() *miniredis.Miniredis { return s.embedded.server }

// Patient makes the store wait long for Redis, before it is first used: a test
// of what is remembered must not fail because its machine is busy.
func (s *Store) Patient() {
	const long = 20 * time.Second
	switch client := s.redis.(type) {
	case *redis.Client:
		client.Options().ReadTimeout, client.Options().WriteTimeout = long, long
	case *redis.ClusterClient:
		client.Options().ReadTimeout, client.Options().WriteTimeout = long, long
	}
}

// Pending is how many shops have numbers that are not flushed, and how many names
// one of them has.
func (s *Store) Pending(shop shopify.Shop) (shops, names int) {
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	if g := s.pending.shops[shop]; g != nil {
		for _, numbers := range g.hours {
			names += len(numbers)
		}
	}
	return len(s.pending.shops), names
}

// EraseShopper is one pass of a shopper's erasure.
func (s *Store) EraseShopper(ctx context.Context, who Shopper) error {
	return s.erase(ctx, Erasure{Shop: who.Shop, Customer: who.Customer})
}

// EraseShop is one pass of a shop's erasure that leaves its connection.
func (s *Store) EraseShop(ctx context.Context, shop shopify.Shop) error {
	return s.erase(ctx, Erasure{Shop: shop})
}

// RememberCustomer has the store learn a customer, and nothing else.
func (s *Store) RememberCustomer(ctx context.Context, who Shopper, customer recharge.Customer) {
	s.Learn(ctx, who, Learned{Customer: customer})
}

// RememberNotSubscriber has the store learn that there is none.
func (s *Store) RememberNotSubscriber(ctx context.Context, who Shopper) {
	s.Learn(ctx, who, Learned{NotSubscriber: true})
}

// RememberLink has the store learn a session and a link.
func (s *Store) RememberLink(ctx context.Context, who Shopper, visit Visit, session recharge.Session, link recharge.Link) {
	s.Learn(ctx, who, Learned{Session: session, Link: link, Visit: visit})
}

// IsRecent tells whether the process' memory holds a shopper.
func (s *Store) IsRecent(who Shopper) bool {
	s.recent.mu.RLock()
	defer s.recent.mu.RUnlock()
	return len(s.recent.young[who])+len(s.recent.old[who]) > 0
}

// RecallWhile is Recall, with something that happens after Redis was read.
func (s *Store) RecallWhile(ctx context.Context, who Shopper, visit Visit, happens func()) {
	_, epoch, _ := s.recent.get(who, visit, s.options.Now())
	memory := s.read(ctx, who, visit)
	happens()
	s.recent.put(who, visit, memory, epoch, s.options.Now())
}

// HoldRecent holds what was not recalled.
func (s *Store) HoldRecent(who Shopper, visit Visit, memory Memory) {
	memory.Link.Expires = s.options.Now().Add(time.Hour)
	s.recent.put(who, visit, memory, s.recent.epoch, s.options.Now())
}

// RecentSize is how many shoppers the process' memory holds.
func (s *Store) RecentSize() int { return len(s.recent.young) + len(s.recent.old) }
