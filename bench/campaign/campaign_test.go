package campaign_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/manage-subscriptions/manage-subscriptions/bench/campaign"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a campaign in virtual time, and fails the test if a promise is broken.
func run(t *testing.T, o campaign.Options) (report campaign.Report) {
	t.Helper()
	o.Rate = 14
	synctest.Test(t, func(t *testing.T) {
		var err error
		if report, err = campaign.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		for _, broken := range report.Broken() {
			t.Error(broken)
		}
		if report.Outcomes["redirected"] == 0 {
			t.Error("nobody was signed in")
		}
		if got := report.Share("redirected", "redirected_by_hash"); o.Index && got != 1 {
			t.Errorf("%.3f of the subscribers reach the portal; want all", got)
		}
	})
	return report
}

// number reads the size of a store from the environment.
func number(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestUnplanned sends an e-mail to all subscribers, who make 14 clicks a second, in
// virtual time. CAMPAIGN_SHOPPERS is their number.
func TestUnplanned(t *testing.T) {
	shoppers := number(t, "CAMPAIGN_SHOPPERS", 3000)
	for _, index := range []bool{false, true} {
		t.Run(fmt.Sprintf("index %t", index), func(t *testing.T) {
			report := run(t, campaign.Options{Shoppers: shoppers, Index: index})
			t.Logf("\n%s", &report)
		})
	}
}

// TestPlanned: with enough notice nearly all shoppers are signed in, and the forecast says so.
func TestPlanned(t *testing.T) {
	report := run(t, campaign.Options{Shoppers: 1000, Index: true, Plan: true, Notice: 45 * time.Minute})
	t.Logf("\n%s%s%s", &report, campaign.Head(), report.Row())
	if got := report.Share("redirected"); got < 0.95 {
		t.Errorf("%.3f of the shoppers are signed in; want at least 0.95", got)
	}
	if report.Ready < report.Forecast-0.03 {
		t.Errorf("%.3f were ready at the start; the forecast was %.3f", report.Ready, report.Forecast)
	}
}

// TestStrangers: while accesses are made ahead, the first clicks of shoppers whom no import has seen take no
// longer than without.
func TestStrangers(t *testing.T) {
	o := campaign.Options{
		Shoppers: 1000, Clicks: 100, Index: true, Notice: 40 * time.Minute, Strangers: 400, Latency: 150 * time.Millisecond,
	}
	without := run(t, o)
	o.Plan = true
	with := run(t, o)
	if with.Ready < 0.5 || with.Strangers.Share("redirected") != 1 || without.Strangers.Share("redirected") != 1 {
		t.Errorf("%.3f were ready; the strangers' clicks ended in %v and, without a campaign, in %v; want all signed in",
			with.Ready, with.Strangers.Outcomes, without.Strangers.Outcomes)
	}
	for _, q := range []float64{0.5, 0.99, 1} {
		if a, b := with.Strangers.Quantile(q), without.Strangers.Quantile(q); a > b+b/20 {
			t.Errorf("quantile %g of the strangers' waiting times: %s; without a campaign %s; want at most 5 %% more", q, a, b)
		}
	}
	t.Logf("strangers waited %s; without a campaign %s", with.Strangers.Waits(), without.Strangers.Waits())
}

// cell is one row of the benchmark's table.
type cell struct {
	shoppers int
	notice   time.Duration
	token    int
}

// cells reads cells such as "20000/12h/2". Without notice nothing is planned.
func cells(t *testing.T, texts string) (all []cell) {
	t.Helper()
	for text := range strings.FieldsSeq(texts) {
		parts := strings.Split(text, "/")
		if len(parts) != 3 {
			t.Fatalf("%q is not a cell", text)
		}
		shoppers, err := strconv.Atoi(parts[0])
		notice, err2 := time.ParseDuration(parts[1])
		token, err3 := strconv.Atoi(parts[2])
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
		all = append(all, cell{shoppers, notice, token})
	}
	return all
}

// TestTable prints a table of campaigns, and compares each with its forecast. CAMPAIGN_CELLS are its rows. Of
// the customers of a large store, 20,000 click. The first cells should be those that take longest.
func TestTable(t *testing.T) {
	all := cells(t, cmp.Or(os.Getenv("CAMPAIGN_CELLS"), "1000/20m/1"))
	rows := make([]string, len(all))
	next := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				t.Run(fmt.Sprint(all[i]), func(t *testing.T) { rows[i] = row(t, all[i]) })
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
	t.Logf("\n%s%s", campaign.Head(), strings.Join(rows, ""))
}

func row(t *testing.T, c cell) string {
	t.Helper()
	report := run(t, campaign.Options{
		Shoppers: c.shoppers, Clicks: min(c.shoppers, 20000), Index: true, Plan: c.notice > 0, Notice: c.notice, Token: c.token,
	})
	if got := report.Share("redirected"); c.notice > 0 && (got < report.Forecast-0.03 || report.Ready < report.Forecast-0.03) {
		t.Errorf("%.3f of the shoppers were ready and %.3f are signed in; the forecast was %.3f", report.Ready, got, report.Forecast)
	}
	return report.Row()
}
