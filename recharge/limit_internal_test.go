package recharge

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

// TestPriorities: a click can do without a session, but not without a lookup, and no click waits
// for a background call.
func TestPriorities(t *testing.T) {
	now := time.Unix(1735689600, 0)
	l := NewLimiter(2, 40, func() time.Time { return now })
	l.bucket.MaxWait = time.Nanosecond
	take := func(p Priority) Reason {
		var ask Ask
		ask[p] = 1
		_, err := l.Reserve(t.Context(), nil, ask)
		return ReasonOf(err)
	}
	got := map[Priority]int{}
	for _, p := range []Priority{Background, Normal, High} {
		for take(p) == "" {
			got[p]++
		}
	}
	if want := map[Priority]int{Background: 21, Normal: 10, High: 9}; !maps.Equal(got, want) {
		t.Errorf("calls granted, by priority: %v; want %v of a burst of 40", got, want)
	}
	now = now.Add(6 * time.Second)
	if got := take(Background); got != OverBudget {
		t.Errorf("a Background call after 6s = %q; want %q", got, OverBudget)
	}
	if got := take(Normal); got != "" {
		t.Errorf("a Normal call after 6s = %q; want it granted", got)
	}
	now = now.Add(6 * time.Second)
	if got := take(Background); got != "" {
		t.Errorf("a Background call after 12s = %q; want it granted", got)
	}
}

// flaky is a shared limiter with a prepared result for each Take.
type flaky struct {
	takes []func() (Turn, error)
	taken int
}

func (f *flaky) Take(context.Context, Bucket, Ask, float64, float64) (Turn, error) {
	f.taken++
	return f.takes[f.taken-1]()
}

func (f *flaky) Instances() int { return 1 }

// TestFailingSharedLimiter: the account of this process never holds less than it has spent or than
// the shared limiter has reported, in whatever order the answers come.
func TestFailingSharedLimiter(t *testing.T) {
	t.Parallel()
	fails := func() (Turn, error) { return Turn{}, errors.New("gone") }
	answers := func(level float64, at int64) func() (Turn, error) {
		return func() (Turn, error) { return Turn{Ask: Ask{High: 1}, Level: level, At: at}, nil }
	}
	late := func(take func() (Turn, error)) func() (Turn, error) {
		return func() (Turn, error) {
			time.Sleep(time.Second / 10)
			return take()
		}
	}
	tests := []struct {
		name  string
		takes []func() (Turn, error) // the first begins first and may end last; the others run in order
		spent int
	}{
		{"an older answer comes last", []func() (Turn, error){late(answers(1, 1)), answers(40, 2)}, 40},
		{"a clock is set back", []func() (Turn, error){answers(3, 9), answers(4, 2)}, 4},
		{"a call is granted while a report is under way", []func() (Turn, error){fails, fails, late(fails), answers(1, 1)}, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shared := &flaky{takes: test.takes}
				l := NewLimiter(1e-6, 40, time.Now)
				for range test.takes {
					go func() { _, _ = l.Reserve(t.Context(), shared, Ask{High: 1}) }()
					synctest.Wait()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := l.Budget(); got.Burst-got.Left != test.spent {
					t.Errorf("%d calls spent; want %d", got.Burst-got.Left, test.spent)
				}
			})
		})
	}
}

// lossy is a shared limiter that does its work but loses its answers, either at once or when held
// is closed.
type lossy struct {
	level float64
	at    int64
	lost  bool
	held  chan struct{} // holds back the next answer
}

func (s *lossy) Take(_ context.Context, b Bucket, ask Ask, unreported, level float64) (Turn, error) {
	turn := b.Grant(max(0, s.level+unreported, level), ask, 1)
	s.at++
	s.level, turn.At = turn.Level, s.at
	held := s.held
	if held != nil {
		s.held = nil
		<-held
	}
	if s.lost || held != nil {
		return Turn{}, errors.New("i/o timeout")
	}
	return turn, nil
}

func (s *lossy) Instances() int { return 1 }

// TestGivenBackOnce: calls are given back only once, even if we do not know whether the shared
// limiter has heard of it.
func TestGivenBackOnce(t *testing.T) {
	t.Parallel()
	// given returns the state after 20 calls here, 10 of them given back, and 10 elsewhere.
	given := func(t *testing.T) (*Limiter, *lossy) {
		l, shared := NewLimiter(1e-6, 40, time.Now), &lossy{}
		if _, err := l.Reserve(t.Context(), shared, Ask{High: 10}); err != nil {
			t.Fatal(err)
		}
		grant, err := l.Reserve(t.Context(), shared, Ask{High: 10})
		if err != nil {
			t.Fatal(err)
		}
		grant.Release(t.Context())
		shared.level += 10
		return l, shared
	}
	t.Run("the report's answer is lost", func(t *testing.T) {
		l, shared := given(t)
		shared.lost = true
		for range 3 {
			if _, err := l.Reserve(t.Context(), shared, Ask{High: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if shared.level < 20+3 {
			t.Errorf("the shared limiter knows of %v calls; want the 20 and 3 that were made", shared.level)
		}
	})
	t.Run("the report is under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, shared := given(t)
			held := make(chan struct{})
			shared.held = held
			go func() { _, _ = l.Reserve(t.Context(), shared, Ask{High: 1}) }()
			synctest.Wait()
			if _, err := l.Reserve(t.Context(), shared, Ask{High: 1}); err != nil {
				t.Fatal(err)
			}
			if l.level < 20+2 {
				t.Errorf("this process knows of %v calls; want the 20 and 2 that were made", l.level)
			}
			close(held)
			synctest.Wait()
		})
	})
}
