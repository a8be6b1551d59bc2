package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// customerBytes is the limit of bytes per customer in Redis, over all keys.
const customerBytes = 350

// sizeCommand measures the memory, start-up time and size of a program without clicks.
type sizeCommand struct {
	Starts    int           `default:"10"`
	Idle      time.Duration `default:"5s"`
	Customers []int         `help:"Measure stores of so many imported customers." default:"1000,20000,100000"`
}

func (s *sizeCommand) Run(ctx context.Context, out io.Writer) error {
	if s.Starts > 0 {
		if err := s.process(ctx, out); err != nil {
			return err
		}
	}
	return s.customers(ctx, out)
}

// customers measures the memory that Redis uses.
func (s *sizeCommand) customers(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\n## Redis memory\n\nBytes per customer of one store: the memory that Redis frees when all keys are ",
		"deleted, and how much of it the keys of each kind use. The rest is Redis's table of keys.\n\n")
	rows := [][]string{{
		"customers", "bytes a customer", "goal", "their values", "the index", "record, counters and the like",
	}}
	missed := 0
	for _, n := range s.Customers {
		one, err := measureStore(ctx, n, false)
		if err != nil {
			return err
		}
		verdict := "reached"
		if one.all > customerBytes {
			verdict = "**not reached**"
			missed++
		}
		rows = append(rows, one.row(fmt.Sprint(n, ", imported"), fmt.Sprintf("≤ %d: %s", customerBytes, verdict)))
	}
	clicked, err := measureStore(ctx, s.Customers[0], true)
	if err != nil {
		return err
	}
	rows = append(rows, clicked.row(fmt.Sprint(s.Customers[0], ", with session and portal access"), ""))
	fmt.Fprint(out, table(rows...))
	if missed > 0 {
		return fmt.Errorf("more than %d bytes a customer: %w", customerBytes, errMissed)
	}
	return nil
}

func (s storeSize) row(customers, verdict string) []string {
	return []string{customers, fmt.Sprint(s.all), verdict, fmt.Sprint(s.values), fmt.Sprint(s.index), fmt.Sprint(s.rest)}
}

// storeSize is in bytes per customer.
type storeSize struct{ all, values, index, rest int }

// measureStore imports a store's customers, who then click once if clicks is true.
func measureStore(ctx context.Context, customers int, clicks bool) (storeSize, error) {
	bed, err := newTestbed(ctx, customers)
	if err != nil {
		return storeSize{}, err
	}
	defer bed.close()
	ours, err := bed.serve("--import")
	if err == nil && clicks {
		err = firstClicks(ours, customers)
	}
	if err != nil {
		return storeSize{}, err
	}
	bed.stopServers()
	for bed.info("connected_clients") > 1 { // until Redis has freed their buffers
		time.Sleep(10 * time.Millisecond)
	}
	size, err := bed.byKind(customers)
	if err != nil {
		return storeSize{}, err
	}
	// Latency tracking would take 20 kB at the first FLUSHALL. Redis before 7.0 lacks it.
	_ = bed.client.ConfigSet(ctx, "latency-tracking", "no")
	full := bed.info("used_memory")
	err = bed.client.FlushAll(ctx).Err()
	size.all = (full - bed.info("used_memory")) / customers
	return size, err
}

// byKind adds up the MEMORY USAGE of all keys, by kind.
func (b *testbed) byKind(customers int) (storeSize, error) {
	keys, err := b.client.Keys(b.ctx, "*").Result()
	sums := map[string]int{}
	for some := range slices.Chunk(keys, 1000) {
		all, err := b.client.Pipelined(b.ctx, func(pipe redis.Pipeliner) error {
			for _, key := range some {
				pipe.MemoryUsage(b.ctx, key, 0)
			}
			return nil
		})
		if err != nil {
			return storeSize{}, err
		}
		for i, key := range some {
			_, kind, _ := strings.Cut(key, "}:")
			kind, _, _ = strings.Cut(kind, ":")
			sums[kind] += int(all[i].(*redis.IntCmd).Val())
		}
	}
	rest := 0
	for kind, n := range sums {
		if kind != "c" && kind != "r" {
			rest += n
		}
	}
	return storeSize{values: sums["c"] / customers, index: sums["r"] / customers, rest: rest / customers}, err
}

// process measures the release build of the program.
func (s *sizeCommand) process(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "manage-subscriptions")
	build := exec.CommandContext(ctx, "sh", ".ci/build", binary)
	if printed, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, printed)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	bed, err := newTestbed(ctx, 1)
	if err != nil {
		return err
	}
	defer bed.close()
	var starts []time.Duration
	resident := 0
	for i := range s.Starts {
		begun := time.Now()
		p, err := s.start(bed, binary)
		if err != nil {
			return err
		}
		starts = append(starts, time.Since(begun))
		if i == s.Starts-1 {
			time.Sleep(s.Idle)
			resident = p.resident()
		}
		p.stop()
	}
	slices.Sort(starts)
	fmt.Fprint(out, "\n## Start, memory, size\n\n")
	fmt.Fprintf(out, "The release build of the program, with Redis on the same machine; %d starts.\n\n", s.Starts)
	fmt.Fprint(out, table(
		[]string{"ready after (median)", "goal", "memory, idle", "goal", "binary", "goal"},
		[]string{
			ms(quantile(starts, 0.5)), "under 100 ms", fmt.Sprintf("%.1f MiB", float64(resident)/1024), "under 40 MiB",
			fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "at most 25 MB",
		},
	))
	return nil
}

// start starts the program and returns when it is ready.
func (s *sizeCommand) start(bed *testbed, binary string) (*process, error) {
	public, err := freePort()
	if err != nil {
		return nil, err
	}
	ops, err := freePort()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(bed.ctx, binary, "serve")
	command.Dir = filepath.Dir(binary) // a folder without .env
	command.Env = []string{
		"SHOPIFY_API_KEY=bench", "SHOPIFY_API_SECRET=" + appSecret, "SHOPIFY_SHOP=" + benchShop,
		"APP_URL=https://bench.example",
		"RECHARGE_API_TOKEN=" + adminToken, "RECHARGE_API_URL=" + bed.recharge.URL, "REDIS_URL=redis://" + bed.redis.at[0],
		"ADDR=127.0.0.1:" + public, "OPS_ADDR=127.0.0.1:" + ops,
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command}
	p.stdin = killer{p} // a graceful shutdown would keep serving for some seconds
	for {
		response, err := http.Get("http://127.0.0.1:" + ops + "/readyz") //nolint:noctx // on loopback
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-bed.ctx.Done():
			p.stop()
			return nil, bed.ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
