package docs

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
)

const scale, results = "docs/scale.md", "bench/RESULTS.md"

// TestScaleDocRepeatsTheBenchmark compares single figures of docs/scale.md with the benchmark and the code.
func TestScaleDocRepeatsTheBenchmark(t *testing.T) {
	for _, same := range [][3]string{
		{`answered ([0-9,]+) warm clicks a second`, results, `(?m)^\| this program \| ([0-9]+) `},
		{`99 % of them within ([0-9.]+) ms`, results, `(?m)^\| this program \|.*\| ([0-9.]+) \([^|]*\| [0-9]+ \([0-9–]+\) \|$`},
		{`took ([0-9]+) µs of processor time`, results, `(?m)^\| this program \|.*\| ([0-9]+) \([0-9–]+\) \|$`},
		{`handler answered ([0-9,]+) in the same run`, results, `(?m)^\| bare Echo handler \| ([0-9]+) `},
		{`ratio is ([0-9.]+)\.`, results, `clicks a second, this program to the bare handler: ([0-9.]+)`},
		{`goal is ([0-9.]+), so we have not reached it`, results, `this program to the bare handler: .* goal at least ([0-9.]+): \*\*not reached`},
		{`first click took ([0-9]+) µs`, results, `(?m)\| ([0-9]+) µs \|$`},
		{`100,000 customers take ([0-9]+) calls`, results, `(?m)^\| ([0-9]+) \| [0-9.]+s \|`},
		{`calls, or (\w+) if nobody clicks`, results, `(?m)^\| [0-9]+ \| [0-9.]+s \| (\w+) \|`},
		{`idle server uses ([0-9.]+) MiB`, results, `(?m) ms \| under 100 ms \| ([0-9.]+) MiB`},
		{`100,000 customers, it held ([0-9]+) MiB`, results, `(?m)s \| ([0-9]+) MiB \|`},
		{`without a campaign,\s+only ([0-9.]+) % reached`, results, `customers imported: false \|\n(?:.*\n){2}\| redirected_by_hash \| [0-9]+ \(([0-9.]+) %`},
		{`with all keys \| ([0-9]+) to`, results, `(?m)^\| 100000, imported \| ([0-9]+) `},
		{`with all keys \| [0-9]+ to ([0-9]+) `, results, `(?m)^\| 1000, imported \| ([0-9]+) `},
		{`a portal access \| ([0-9,]+) `, results, `with session and portal access \| ([0-9]+) `},
		{`One server imports\s+([0-9]+) stores`, "importer/importer.go", `importsAtOnce = ([0-9]+)`},
		{`counters of ([0-9]+) days`, "store/counters.go", `countsFor += ([0-9]+) \* 24 \* time.Hour`},
	} {
		repeats(t, scale, same[0], same[1], same[2])
	}
}

// TestScaleDocCountsCalls checks how many sign-ins and links the calls of a token are enough for.
func TestScaleDocCountsCalls(t *testing.T) {
	rate := number(t, match(t, "recharge/client.go", `return ([0-9]+), 40 // what Recharge allows most tokens`)[0][1])
	each := number(t, match(t, "importer/plan.go", `callsEach = ([0-9]+)`)[0][1])
	cover := number(t, match(t, "importer/campaign.go", `cover = ([0-9]+) \* time.Hour`)[0][1])
	clicks := match(t, scale, `(?m)^\|[^|]+\| ([0-9]) \| ([0-9]+) a minute \|$`)
	links := match(t, scale, `(?m)^\| (usual|twice|five times) \| ([0-9,]+) \| ([0-9,]+) \|$`)
	if len(clicks) != 4 || len(links) != 3 {
		t.Fatalf("%s has %d kinds of clicks and %d of tokens; want 4 and 3", scale, len(clicks), len(links))
	}
	for _, row := range clicks {
		if number(t, row[1])*number(t, row[2]) != rate*60 {
			t.Errorf("%s: %s; a token allows %v calls a minute", scale, row[0], rate*60)
		}
	}
	for _, row := range links {
		hourly := times[row[1]] * rate / 2 / each * 3600
		if want := hourly * (portal.PreparedFor.Hours() - cover); number(t, row[2]) != hourly || number(t, row[3]) != want {
			t.Errorf("%s: %s; want %v and %v", scale, row[0], hourly, want)
		}
	}
}

// TestScaleDocRepeatsCampaigns compares the shares of links and of sign-ins with the simulated campaigns.
func TestScaleDocRepeatsCampaigns(t *testing.T) {
	ready, signedIn := map[string]string{}, map[string]string{}
	for _, row := range match(t, results, `(?m)^\| ([0-9]+) \| (12 h|6 h|none) \| ([0-9])× \| [^|]* \| ([^|]*) \| ([^|]*) \|`) {
		campaign := strings.Join(row[1:4], ", ")
		ready[campaign], signedIn[campaign] = round(t, row[4]), round(t, row[5])
	}
	compared := 0
	compare := func(row, said, is string) {
		compared++
		if said != is {
			t.Errorf("%s: %s; %q should be %q, as in %s", scale, row, said, is, results)
		}
	}
	for _, row := range match(t, scale, `(?m)^\| an e-mail to ([0-9,]+) \| ([a-z ]+) \|.*\| ([0-9]+ %) / ([0-9]+ %) \|`) {
		for i, notice := range []string{"12 h", "6 h"} {
			compare(row[0], row[3+i], ready[fmt.Sprintf("%v, %s, %v", number(t, row[1]), notice, times[row[2]])])
		}
	}
	notices := map[string]string{"12 hours": "12 h", "6 hours": "6 h", "not planned": "none"}
	for _, row := range match(t, scale, `(?m)^\| ([0-9,]+) \| ([a-z0-9 ]+) \| ([0-9]+ %) \| ([0-9]+ %) \| ([0-9]+ %) \|$`) {
		for i, token := range []int{1, 2, 5} {
			compare(row[0], row[3+i], signedIn[fmt.Sprintf("%v, %s, %d", number(t, row[1]), notices[row[2]], token)])
		}
	}
	if want := 5*2 + len(signedIn); compared != want {
		t.Errorf("%s has %d shares; want %d", scale, compared, want)
	}
}

// TestScaleDocComputesMemory checks the memory of Redis in the first table against the bytes of a customer and a store.
func TestScaleDocComputesMemory(t *testing.T) {
	perCustomer := map[string]float64{}
	for _, row := range match(t, results, `(?m)^\| ([0-9]+), imported \| ([0-9]+) `) {
		perCustomer[row[1]] = number(t, row[2])
	}
	withLink := number(t, match(t, scale, `a portal access \| ([0-9,]+) `)[0][1])
	perStore := number(t, match(t, scale, `its record and the import \| about ([0-9,]+) `)[0][1]) + number(t, match(t, scale, `at most ([0-9,]+) \|`)[0][1])
	rows := match(t, scale, `(?m)^\| (?:([0-9,]+) stores of )?(?:an e-mail to )?([0-9,]+)[^|]*\|[^|]*\|[^|]*\| ([0-9.]+ [MG]B) \| ([0-9.]+ [MG]B) \|`)
	if len(rows) != 8 {
		t.Fatalf("%s has %d rows with memory; want 8", scale, len(rows))
	}
	for _, row := range rows {
		stores, ofStore := 1.0, 0.0
		if row[1] != "" {
			stores, ofStore = number(t, row[1]), perStore
		}
		customers := number(t, row[2])
		for i, each := range []float64{perCustomer[fmt.Sprint(customers)], withLink} {
			if want := size(stores * (customers*each + ofStore)); row[3+i] != want {
				t.Errorf("%s: %s; %s should be %s", scale, row[0], row[3+i], want)
			}
		}
	}
}

// times has how many times the usual rate a token has.
var times = map[string]float64{"usual": 1, "twice": 2, "five times": 5}

func number(t *testing.T, digits string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(digits, ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// round returns a share such as "54.0 %" without its decimals.
func round(t *testing.T, share string) string {
	t.Helper()
	digits, _, ok := strings.Cut(share, " %")
	if !ok {
		return ""
	}
	return fmt.Sprintf("%.0f %%", number(t, digits))
}

// size returns bytes in megabytes, or from half a gigabyte on in gigabytes with a decimal.
func size(bytes float64) string {
	if bytes < 500e6 {
		return fmt.Sprintf("%.0f MB", bytes/1e6)
	}
	return fmt.Sprintf("%.1f GB", bytes/1e9)
}
