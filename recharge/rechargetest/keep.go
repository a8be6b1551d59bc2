package rechargetest

import (
	"maps"
	"math"
	"slices"
	"time"
)

// history keeps the newest maxHistory items.
type history[T any] struct{ items []T }

func (h *history[T]) add(item T) {
	h.items = append(h.items, item)
	if over := len(h.items) - maxHistory; over > 0 {
		h.items = h.items[over:]
	}
}

// Answered is a kind of API call that was answered.
type Answered struct {
	Endpoint string // one of the Endpoint constants
	Status   int
}

// Answered counts all API calls that were answered since the start. Unlike Requests, it forgets none.
func (s *Server) Answered() map[Answered]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.answered)
}

// ledger keeps each grant under its token until it expires. All grants of a ledger have the same
// lifetime, so the oldest expires first.
type ledger[T any] struct {
	most   int // grants; the oldest are dropped first
	grants map[string]grant[T]
	order  []string
}

type grant[T any] struct {
	to      T
	expires time.Time
}

func (l *ledger[T]) add(token string, to T, now, expires time.Time) {
	if l.grants == nil {
		l.grants = make(map[string]grant[T])
	}
	for len(l.order) > 0 && (len(l.order) >= l.most || !now.Before(l.grants[l.order[0]].expires)) {
		delete(l.grants, l.order[0])
		l.order = l.order[1:]
	}
	if _, again := l.grants[token]; !again { // two session tokens made within a second are the same JWT
		l.order = append(l.order, token)
	}
	l.grants[token] = grant[T]{to, expires}
}

func (l *ledger[T]) live(token string, now time.Time) (T, bool) {
	g, ok := l.grants[token]
	if !ok || !now.Before(g.expires) {
		var none T
		return none, false
	}
	return g.to, true
}

// adminToken is a Token with its bucket. The server's mutex guards the bucket.
type adminToken struct {
	id           int64 // api_token_id of the sessions it makes
	scopes       []string
	clientSecret string
	bucket       bucket
}

func adminTokens(tokens []Token) map[string]*adminToken {
	byValue := make(map[string]*adminToken, len(tokens))
	for i, t := range tokens {
		if t.Value == "" { // it would let in callers that send no token
			continue
		}
		b := bucket{rate: t.Rate, size: t.Burst}
		if b.rate == 0 {
			b.rate = defaultRate
		}
		if b.size == 0 {
			b.size = defaultBurst
		}
		byValue[t.Value] = &adminToken{
			id: 20001 + int64(i), scopes: slices.Clone(t.Scopes),
			clientSecret: t.ClientSecret, bucket: b,
		}
	}
	return byValue
}

func (t *adminToken) hasAny(scopes []string) bool {
	return len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(t.scopes, s) })
}

const (
	defaultRate  = 2
	defaultBurst = 40
)

// bucket is a leaky bucket. Each call adds one, rate leaks out each second, and calls that do not fit are refused.
type bucket struct {
	rate  float64
	size  int
	level float64
	last  time.Time
}

// take adds one call if it fits. It returns how full the bucket is then.
func (b *bucket) take(now time.Time) (used int, ok bool) {
	if elapsed := now.Sub(b.last); elapsed > 0 { // an injected clock may go backwards
		b.level = max(0, b.level-elapsed.Seconds()*b.rate)
	}
	b.last = now
	if ok = b.level+1 <= float64(b.size); ok {
		b.level++
	}
	return int(math.Ceil(b.level)), ok
}
