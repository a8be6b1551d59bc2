package merchant

import (
	"slices"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// TestTroubles: stores reports each trouble that a store has, and none that it nearly has.
func TestTroubles(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 15, 30, 0, 0, time.UTC)
	lately, earlier := now.Truncate(time.Hour), now.Truncate(time.Hour).Add(-5*time.Hour)
	type state struct {
		connection store.Connection
		record     store.Record
		progress   store.Import
		webhooks   store.Proof
		hour       time.Time
		counts     map[string]int64
		errors     []ErrorSum
		since      map[string]int64 // counts of this hour
	}
	for name, test := range map[string]struct {
		state
		want string
	}{
		"nothing":             {state{}, ""},
		"token refused":       {state{connection: store.Connection{Look: store.Look{Refused: true}}}, "token refused"},
		"three of a day fail": {state{hour: earlier, counts: map[string]int64{"unavailable": 3, "redirected": 2}}, "clicks fail"},
		"three failed, all is well again": {state{
			hour: earlier, counts: map[string]int64{"unavailable": 3, "redirected": 2}, since: map[string]int64{"redirected": 1},
		}, ""},
		"three failed, and still do": {state{
			hour: earlier, counts: map[string]int64{"unavailable": 3}, since: map[string]int64{"unavailable": 1},
		}, "clicks fail"},
		"a 429 holds back clicks":    {state{errors: []ErrorSum{{RecentError: store.RecentError{Last: now, What: "rate limited", Times: 3}}}}, "limited"},
		"the budget is spent":        {state{errors: []ErrorSum{{RecentError: store.RecentError{Last: now, What: "call budget spent", Times: 3}}}}, "limited"},
		"a 429 held back two clicks": {state{errors: []ErrorSum{{RecentError: store.RecentError{Last: now, What: "rate limited", Times: 2}}}}, ""},
		"a 429 this morning": {state{errors: []ErrorSum{
			{RecentError: store.RecentError{Last: now.Add(-2 * time.Hour), What: "rate limited", Times: 9}},
		}}, ""},
		"half of a day fail":      {state{hour: earlier, counts: map[string]int64{"unavailable": 3, "redirected": 3}}, ""},
		"two of a day fail":       {state{hour: earlier, counts: map[string]int64{"unavailable": 2}}, ""},
		"strangers' requests":     {state{hour: earlier, counts: map[string]int64{"unverified": 9}}, ""},
		"all refused":             {state{hour: lately, counts: map[string]int64{"unverified": 10}}, "clicks fail"},
		"many 429":                {state{hour: lately, counts: map[string]int64{"calls_limited": 10, "calls": 90}}, "limited"},
		"few 429":                 {state{hour: lately, counts: map[string]int64{"calls_limited": 9}}, ""},
		"429 this morning":        {state{hour: earlier, counts: map[string]int64{"calls_limited": 99}}, ""},
		"most by hash":            {state{hour: lately, counts: map[string]int64{"redirected_by_hash": 10, "redirected": 9}}, "not signed in"},
		"some by hash":            {state{hour: lately, counts: map[string]int64{"redirected_by_hash": 10, "redirected": 10}}, ""},
		"no sessions":             {state{connection: store.Connection{Detected: store.Traits{Link: "hash"}}}, "no sessions"},
		"hash by choice":          {state{connection: store.Connection{Detected: store.Traits{Link: "hash"}, Chosen: store.Traits{Link: "hash"}}}, ""},
		"import stuck":            {state{progress: store.Import{Problem: "scope missing", Done: now.Add(-72 * time.Hour)}}, "import stuck"},
		"import old":              {state{progress: store.Import{Done: now.Add(-37 * time.Hour)}}, "import old"},
		"import of last night":    {state{progress: store.Import{Done: now.Add(-35 * time.Hour)}}, ""},
		"first import is running": {state{progress: store.Import{Running: true, Began: now.Add(-time.Hour)}}, ""},
		"never imported":          {state{connection: store.Connection{SavedAt: now.Add(-37 * time.Hour)}}, "import old"},
		"webhooks not registered": {state{webhooks: store.Proven, connection: store.Connection{Webhooks: store.WebhookState{Problem: "bad token"}}}, "webhooks not registered"},
		"webhooks refused":        {state{webhooks: store.Refuted}, "webhooks refused"},
		"webhooks silent": {state{
			webhooks: store.Unproven, connection: store.Connection{Webhooks: store.WebhookState{OK: true, CheckedAt: now.Add(-2 * time.Hour)}},
			record: store.Record{WebhookVerified: now.Add(-8 * 24 * time.Hour)},
		}, "webhooks silent"},
		"a message was just asked for": {state{
			webhooks: store.Unproven, connection: store.Connection{Webhooks: store.WebhookState{OK: true, CheckedAt: now.Add(-time.Minute)}},
		}, ""},
		"no message was asked for since": {state{
			webhooks: store.Unproven, connection: store.Connection{Webhooks: store.WebhookState{OK: true, CheckedAt: now.Add(-20 * time.Hour)}},
			record: store.Record{WebhookVerified: now.Add(-7*24*time.Hour - time.Hour)},
		}, ""},
	} {
		o := Overview{Portal: "signed_in", Webhooks: test.webhooks, Errors: test.errors}
		hours := []store.Hour{{Start: test.hour, Counts: test.counts}, {Start: lately, Counts: test.since}}
		o.judge(now, &test.connection, &test.record, test.progress, hours)
		var got []string
		for _, trouble := range o.Troubles {
			got = append(got, trouble.Name)
		}
		want := []string{test.want}
		if test.want == "" {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
		if len(got) > 0 && o.Rank() <= 0 {
			t.Errorf("%s: %s has no rank", name, got[0])
		}
	}
}
