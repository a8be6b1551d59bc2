package recharge

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

// TestPriorities: a click goes on by hash without a session, but nowhere without a
// lookup, and no click waits for a background call.
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

// flaky is a shared limiter. Its nth Take is the nth of the list.
type flaky struct {
	takes []func() (Turn, error)
	taken int
}

func (f *flaky) Take(context.Context, Bucket, Ask, float64, float64) (Turn, error) {
	f.taken++
	return f.takes[f.taken-1]()
}

func (f *flaky) Instances() int { return 1 }

// TestFailingSharedLimiter: what this process knows of the bucket is never less than what
// it has spent or the shared limiter has said, in whichever order the answers come.
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
		takes []func() (Turn, error) // the first begins before the others, each of which follows the last
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
