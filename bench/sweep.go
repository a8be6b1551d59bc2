package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"manage-subscriptions/recharge/rechargetest"
)

// sweepCommand sweeps a large store.
type sweepCommand struct {
	Customers int `default:"100000"`
}

func (s *sweepCommand) Run(ctx context.Context, out io.Writer) error {
	redis, port, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	recharge := recharges(s.Customers)
	defer recharge.Close()
	calls, err := newProxy(strings.TrimPrefix(recharge.URL, "http://"))
	if err != nil {
		return err
	}
	defer calls.close()
	client := direct("127.0.0.1:" + port)
	defer func() { _ = client.Close() }()
	used := func() int {
		info := client.Info(ctx, "memory").Val()
		_, behind, _ := strings.Cut(info, "used_memory:")
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(behind, "\n", 2)[0]))
		return n
	}
	before, begun := used(), time.Now()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, said, err := startSaying(ctx, nil, self, "serve-ours", "--redis", "redis://127.0.0.1:"+port, "--recharge", "http://"+calls.address())
	if err != nil {
		return err
	}
	defer p.stop()
	for int(client.DBSize(ctx).Val()) < s.Customers {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	took, pages := time.Since(begun), 0
	for _, request := range recharge.Requests() {
		if request.Endpoint == rechargetest.EndpointCustomers {
			pages++
		}
	}
	cpu, held := p.cpu(), (used()-before)/s.Customers
	// A customer of the last page is new to everybody but the index.
	conn, err := dial(said[0])
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	recharge.ResetRequests()
	a, err := conn.ask(click(shopperID(s.Customers-1), ""))
	if err != nil || a.status != "302" {
		return fmt.Errorf("a click after the sweep: %s %w", a.status, err)
	}
	firstClicks := len(recharge.Requests())
	cpu2 := p.cpu()
	if err := each(said[0], 16, min(3000, s.Customers)); err != nil {
		return err
	}
	perClick := (p.cpu() - cpu2) / time.Duration(min(3000, s.Customers))
	fmt.Fprintf(out, "\n## The index\n\n%d customers, with a budget that bounds nothing; at 2 calls a second a sweep makes one each second.\n\n", s.Customers)
	fmt.Fprint(out, table(
		[]string{"calls", "bytes read", "took", "at one call a second", "processor time", "Redis", "the process holds", "calls of a first click then", "its processor time"},
		[]string{fmt.Sprint(pages), fmt.Sprintf("%.1f MB", float64(calls.bytes.Load())/1e6), took.Round(time.Millisecond * 10).String(), (time.Duration(pages) * time.Second).String(),
			cpu.String(), fmt.Sprintf("%d bytes a customer", held), fmt.Sprintf("%d MiB", p.resident()>>10), fmt.Sprint(firstClicks), fmt.Sprintf("%d µs", perClick.Microseconds())},
	))
	return nil
}
