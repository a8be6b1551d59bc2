package rechargetest

import (
	"strconv"
	"testing"
	"time"
)

func TestHistoryKeepsNewest(t *testing.T) {
	t.Parallel()
	var h history[int]
	for i := range 3 * maxHistory {
		h.add(i)
	}
	if got, want := len(h.items), maxHistory; got != want {
		t.Errorf("len = %d; want %d", got, want)
	}
	if got, want := h.items[maxHistory-1], 3*maxHistory-1; got != want {
		t.Errorf("newest = %d; want %d", got, want)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	l := ledger[int]{most: maxGrants}
	for i := range 2 * maxGrants {
		l.add(strconv.Itoa(i), i, now, now.Add(time.Hour))
	}
	l.add("0", 0, now, now.Add(time.Hour))
	l.add("0", 0, now, now.Add(time.Hour))
	if len(l.grants) > maxGrants || len(l.grants) != len(l.order) {
		t.Errorf("grants = %d, order = %d; want both at most %d", len(l.grants), len(l.order), maxGrants)
	}
	if _, ok := l.live("1", now); ok {
		t.Error(`live("1") = true; want the oldest gone`)
	}
	later := now.Add(time.Hour)
	if _, ok := l.live("0", later); ok {
		t.Error(`live("0") an hour later = true; want false`)
	}
	l.add("new", 1, later, later.Add(time.Hour))
	if got := len(l.grants); got != 1 {
		t.Errorf("grants after all others expired = %d; want 1", got)
	}
}
