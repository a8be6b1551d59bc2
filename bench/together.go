package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/recharge/rechargetest"
)

// togetherCommand has one shopper click many times at once, on two servers.
type togetherCommand struct {
	Clicks int `default:"1000"`
}

func (t *togetherCommand) Run(ctx context.Context, out io.Writer) error {
	redis, port, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	recharge := recharges(1)
	defer recharge.Close()
	recharge.SetFaults(func(f *rechargetest.Faults) { f.Latency = 100 * time.Millisecond })
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var addresses []string
	for range 2 {
		p, said, err := startSaying(ctx, nil, self, "serve-ours", "--redis", "redis://127.0.0.1:"+port, "--recharge", recharge.URL, "--no-index")
		if err != nil {
			return err
		}
		defer p.stop()
		addresses = append(addresses, said[0])
	}
	conns := make([]*connection, t.Clicks)
	for i := range conns {
		if conns[i], err = dial(addresses[i%2]); err != nil {
			return err
		}
		defer func() { _ = conns[i].Close() }()
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		times []time.Duration
		links = map[string]int{}
	)
	request := click(shopperID(0), "")
	for _, conn := range conns {
		all.Go(func() {
			a, err := conn.ask(request)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || a.status != "302" || !strings.HasPrefix(a.location, portalBase+hash(0)+"/") {
				links[fmt.Sprintf("%s %v", a.status, err)]++
				return
			}
			links["signed in"]++
			times = append(times, a.took)
		})
	}
	all.Wait()
	slices.Sort(times)
	calls := map[string]int{}
	for _, request := range recharge.Requests() {
		calls[request.Endpoint]++
	}
	fmt.Fprintf(out, "\n## One shopper, everywhere at once\n\n%d simultaneous first clicks on two servers, with a Recharge that takes 100 ms a call.\n\n", t.Clicks)
	fmt.Fprint(out, table(
		[]string{"clicks", "calls at Recharge", "p50", "p99"},
		[]string{fmt.Sprint(links), fmt.Sprint(calls), ms(quantile(times, 0.5)), ms(quantile(times, 0.99))},
	))
	return nil
}
