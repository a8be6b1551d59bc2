package handlers

import (
	"context"
	"errors"
	"sync"

	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// Way is a connected shop's way to Recharge.
type Way struct {
	Client         *recharge.Client
	LegacyAccounts bool // the store signs in at /account/login
	ByHash         bool // never ask for a signed-in link
}

// Shops knows which shops have connected Recharge, and keeps a client for each.
// Own is the one that is configured here; where there is none, merchants connect
// theirs in the admin, and Store has what they gave.
type Shops struct {
	Store *store.Store
	Own   shopify.Shop                                // "": many
	Mine  *Way                                        // Own's; nil: not connected
	Make  func(*store.Connection, *Way) (*Way, error) // the way of a connection, and the one that it replaces

	mu   sync.Mutex
	ways map[shopify.Shop]kept
}

type kept struct {
	of  *store.Connection
	way *Way
}

// errLost is why a shop's way is not known.
var errLost = errors.New("not known whether the shop has connected Recharge: Redis does not answer")

// Find returns the shop's way, nil if it has not connected Recharge.
func (s *Shops) Find(ctx context.Context, shop shopify.Shop) (*Way, error) {
	if s.Own != "" {
		return s.fixed(shop), nil
	}
	connection, err := s.Store.Connection(ctx, shop)
	if err != nil {
		return nil, errLost
	}
	return s.of(shop, connection)
}

// recalled is Find with what a shopper's memory says of the shop, which costs no
// round trip of its own.
func (s *Shops) recalled(shop shopify.Shop, memory store.Memory) (*Way, error) {
	switch {
	case s.Own != "":
		return s.fixed(shop), nil
	case memory.Lost:
		return nil, errLost
	}
	return s.of(shop, memory.Connection)
}

// fixed is nil for another shop, which can have installed the app, too: its
// clicks are Shopify's, but it has connected nothing here.
func (s *Shops) fixed(shop shopify.Shop) *Way {
	if shop != s.Own {
		return nil
	}
	return s.Mine
}

// Ways are those of the shop that is configured here, or of those whose clicks
// have come by.
func (s *Shops) Ways() map[shopify.Shop]*Way {
	if s.Own != "" {
		if s.Mine == nil {
			return nil
		}
		return map[shopify.Shop]*Way{s.Own: s.Mine}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := make(map[shopify.Shop]*Way, len(s.ways))
	for shop, kept := range s.ways {
		ways[shop] = kept.way
	}
	return ways
}

// Forget drops a shop's way, and with it its tokens: who has left clicks no more.
func (s *Shops) Forget(shop shopify.Shop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ways, shop)
}

// of is the way of a connection. A connection never changes, so that its way is
// made once.
func (s *Shops) of(shop shopify.Shop, connection *store.Connection) (*Way, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.ways[shop]
	switch {
	case connection == nil:
		delete(s.ways, shop)
		return nil, nil
	case last.of == connection:
		return last.way, nil
	}
	way, err := s.Make(connection, last.way)
	if err != nil {
		return nil, err
	}
	if s.ways == nil {
		s.ways = map[shopify.Shop]kept{}
	}
	s.ways[shop] = kept{connection, way}
	return way, nil
}
