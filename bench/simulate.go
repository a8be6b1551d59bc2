package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// simulateCommand reckons what very many shops need, from what was measured for
// one. It is a model, minute by minute: nothing is run.
type simulateCommand struct {
	Shops   int     `help:"Connected shops." default:"100000"`
	Median  float64 `help:"Customers of the shop in the middle." default:"300"`
	Spread  float64 `help:"Of the logarithm of a shop's customers." default:"1.6"`
	Largest float64 `help:"Customers of the largest." default:"400000"`
	Daily   float64 `help:"Part of the customers that clicks on an ordinary day." default:"0.02"`
	Masters int     `help:"Masters of the Redis Cluster." default:"6"`

	// What was measured, see RESULTS.md.
	CustomerBytes float64       `help:"Redis memory of an indexed customer." default:"234"`
	SessionBytes  float64       `help:"Redis memory of a session and its link, for an hour." default:"1800"`
	ShopBytes     float64       `help:"Redis memory of a shop: connection, numbers, index." default:"8000"`
	ClickCPU      time.Duration `help:"Processor time of a first click." default:"500us"`
	PageCPU       time.Duration `help:"Processor time of a swept page." default:"7ms"`
	TripCPU       time.Duration `help:"Redis' time for a round trip." default:"15us"`
	KeyCPU        time.Duration `help:"Redis' time to go by a key." default:"600ns"`
}

const (
	callRate, callBurst = 2.0, 40.0
	reserve             = callBurst / 4 // what sessions leave to lookups
	pageSize            = 250
	sweepsAtOnce        = 16
	nightLength         = 4 * time.Hour
	coresOfInstance     = 2
	useAtMost           = 0.5 // of a core, of Redis
)

// shop is one in the model.
type shop struct {
	customers float64
	mailAt    int // the minute of the day; -1: none
	bucket    float64
}

// dayOf is what came of a day.
type dayOf struct {
	clicks, signedIn, byHash, unavailable float64
	calls                                 float64
	peakClicks                            float64 // a second
	sessions                              float64 // at most at the same time
	mailing                               int
	worst                                 float64 // least part signed in, of shops that mail
}

func (s *simulateCommand) Run(_ context.Context, out io.Writer) error {
	chance := rand.New(rand.NewPCG(100, 2026)) //nolint:gosec // a model
	shops := make([]shop, s.Shops)
	slots := map[uint32]float64{}
	var total, largest, pages float64
	for i := range shops {
		n := math.Ceil(min(s.Largest, s.Median*math.Exp(s.Spread*chance.NormFloat64())))
		shops[i] = shop{customers: n}
		total += n
		largest = max(largest, n)
		pages += math.Ceil(n / pageSize)
		slots[crc32.ChecksumIEEE(fmt.Append(nil, "shop-", i))%16384] += n*s.CustomerBytes + s.ShopBytes
	}
	fmt.Fprintf(out, "\n## %d shops, reckoned\n\nA model from the figures above: sizes are log-normal, %.0f customers in the middle, %.0f on average, %.0f in the largest, %.1f million in all. A campaign brings every customer once, in e-foldings of an hour. Command: `go run ./bench simulate`.\n\n",
		s.Shops, s.Median, total/float64(s.Shops), largest, total/1e6)

	rows := [][]string{{"day", "shops that mail", "clicks", "at the peak", "signed in", "by hash", "try again", "calls to Recharge", "shop with the least signed in"}}
	var peak dayOf
	for _, day := range []struct {
		name  string
		part  float64 // of the shops that mail
		index bool
	}{{"ordinary", 1.0 / 30, true}, {"the year's busiest", 0.3, true}, {"the year's busiest, without an index", 0.3, false}} {
		d := s.day(shops, chance, day.part, day.index)
		if day.index {
			peak = d
		}
		share := func(n float64) string { return fmt.Sprintf("%.1f %%", 100*n/d.clicks) }
		rows = append(rows, []string{day.name, fmt.Sprint(d.mailing), fmt.Sprintf("%.1f million", d.clicks/1e6), fmt.Sprintf("%.0f a second", d.peakClicks),
			share(d.signedIn), share(d.byHash), share(d.unavailable), fmt.Sprintf("%.1f million", d.calls/1e6), fmt.Sprintf("%.1f %%", 100*d.worst)})
	}
	fmt.Fprint(out, table(rows...), "\n")
	s.needs(out, total, pages, peak, slots)
	return nil
}

// day lives through a day, minute by minute. The budget of each shop is its own.
func (s *simulateCommand) day(shops []shop, chance *rand.Rand, part float64, index bool) dayOf {
	d := dayOf{worst: 1}
	perMinute := make([]float64, 24*60)
	sessions := make([]float64, 24*60)
	callsOf := 2.0 // a first click of a customer who is in the index
	if !index {
		callsOf = 3
	}
	for i := range shops {
		one := &shops[i]
		one.mailAt, one.bucket = -1, 0
		if chance.Float64() < part {
			one.mailAt = 8*60 + chance.IntN(6*60)
			d.mailing++
		}
		var clicks, signed float64
		for minute := range perMinute {
			n := one.customers * s.Daily / (24 * 60) * (1 + math.Sin(2*math.Pi*(float64(minute)/(24*60)-0.25)))
			if since := minute - one.mailAt; one.mailAt >= 0 && since >= 0 {
				n += one.customers / 60 * math.Exp(-float64(since)/60)
			}
			one.bucket = max(0, one.bucket-60*callRate)
			room := max(0, callBurst-reserve-one.bucket) + 60*callRate
			in := min(n, room/callsOf)
			looked := in
			if !index { // lookups go first, and take what there is
				looked = min(n, 60*callRate+callBurst)
				in = min(looked, max(0, room-looked)/2)
				d.unavailable += n - looked
			}
			calls := in * callsOf
			if !index {
				calls = looked + 2*in
			}
			one.bucket = min(callBurst, max(0, one.bucket+calls-60*callRate))
			d.calls += calls
			d.byHash += looked - in
			if index {
				d.byHash += n - looked
			}
			d.signedIn += in
			clicks, signed = clicks+n, signed+in
			perMinute[minute] += n
			sessions[minute] += in
		}
		d.clicks += clicks
		if one.mailAt >= 0 && clicks > 0 {
			d.worst = min(d.worst, signed/clicks)
		}
	}
	d.peakClicks = slices.Max(perMinute) / 60
	for minute := range sessions {
		last := 0.0
		for back := range min(minute+1, 60) {
			last += sessions[minute-back]
		}
		d.sessions = max(d.sessions, last)
	}
	return d
}

// needs tells what has to be there, the scarcest first.
func (s *simulateCommand) needs(out io.Writer, customers, pages float64, peak dayOf, slots map[uint32]float64) {
	memory := customers*s.CustomerBytes + float64(s.Shops)*s.ShopBytes + peak.sessions*s.SessionBytes
	perMaster := make([]float64, s.Masters)
	for slot, bytes := range slots {
		perMaster[int(slot)*s.Masters/16384] += bytes
	}
	heaviest := 0.0
	for _, bytes := range slots {
		heaviest = max(heaviest, bytes)
	}
	sweeping := math.Ceil(pages / nightLength.Seconds() / sweepsAtOnce)
	clicking := math.Ceil(peak.peakClicks * s.ClickCPU.Seconds() / (coresOfInstance * useAtMost))
	trips := peak.peakClicks * 3
	redisUse := trips * s.TripCPU.Seconds() / float64(s.Masters)
	pass := customers * s.KeyCPU.Seconds() / float64(s.Masters)
	gib := float64(1 << 30)
	fmt.Fprint(out, table(
		[]string{"what", "needed", "turn"},
		[]string{"instances for the nightly sweep", fmt.Sprintf("%.0f of any size: %.0f pages in %v, %d shops at a time each (%.1f cores of work in all)", sweeping, pages, nightLength, sweepsAtOnce, pages/nightLength.Seconds()*s.PageCPU.Seconds()), "more instances; a longer night; sweepsAtOnce"},
		[]string{"instances for clicks at the peak", fmt.Sprintf("%.0f of %d cores, half used", clicking, coresOfInstance), "more instances: they share nothing but Redis"},
		[]string{"Redis memory", fmt.Sprintf("%.1f GiB, of which %.1f GiB are sessions at the peak", memory/gib, peak.sessions*s.SessionBytes/gib), "masters; CUSTOMER_TTL"},
		[]string{"fullest of " + fmt.Sprint(s.Masters) + " masters", fmt.Sprintf("%.1f GiB, %.2f of the average; the heaviest slot holds %.0f MiB", slices.Max(perMaster)/gib, slices.Max(perMaster)/(memory-peak.sessions*s.SessionBytes)*float64(s.Masters), heaviest/(1<<20)), "a shop is one slot: nothing to turn, and nothing to fear at that size"},
		[]string{"busiest master at the peak", fmt.Sprintf("%.0f %% of its one core, %.0f round trips a second in all", 100*redisUse, trips), "masters"},
		[]string{"one pass over all keys of a master, after webhooks and each hour", fmt.Sprintf("%.0f s: so a customer that moved is looked for every %.0f min", pass, max(75, 20*pass*float64(s.Masters))/60), "masters; a Redis of its own for large shops"},
		[]string{"longest sweep of one shop", (time.Duration(math.Ceil(s.Largest/pageSize)) * time.Second).String(), "RECHARGE_RATE, where Recharge gives more"},
	))
}
