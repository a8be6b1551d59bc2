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
	"time"
)

// sizeCommand measures what an operator pays for a server that nobody clicks at.
type sizeCommand struct {
	Starts int           `default:"10"`
	Idle   time.Duration `default:"5s"`
}

func (s *sizeCommand) Run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "manage-subscriptions")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, said)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	redis, port, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	recharge := recharges(1)
	defer recharge.Close()
	var starts []time.Duration
	resident := 0
	for i := range s.Starts {
		ops, err := freePort()
		if err != nil {
			return err
		}
		begun := time.Now()
		p, err := s.start(ctx, binary, ops, port, recharge.URL)
		if err != nil {
			return err
		}
		starts = append(starts, time.Since(begun))
		if i == s.Starts-1 {
			time.Sleep(s.Idle)
			resident = p.resident()
		}
		_ = p.command.Process.Kill() // in order, it would wait for its notice
		p.stop()
	}
	slices.Sort(starts)
	fmt.Fprintf(out, "\n## Start, memory, size\n\nThe program as it is built for release, with a Redis beside it; %d starts.\n\n", s.Starts)
	fmt.Fprint(out, table(
		[]string{"ready after (median)", "wanted", "holds, idle", "wanted", "binary"},
		[]string{ms(quantile(starts, 0.5)), "under 100 ms", fmt.Sprintf("%.1f MiB", float64(resident)/1024), "under 40 MiB", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)},
	))
	return nil
}

// start returns when the program says that it is ready.
func (s *sizeCommand) start(ctx context.Context, binary, ops, redisPort, recharge string) (*process, error) {
	public, err := freePort()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, binary, "serve")
	command.Dir = filepath.Dir(binary) // where no .env is
	command.Env = []string{
		"SHOPIFY_API_KEY=bench", "SHOPIFY_API_SECRET=" + appSecret, "SHOPIFY_SHOP=" + benchShop, "APP_URL=https://bench.example",
		"RECHARGE_API_TOKEN=" + adminToken, "RECHARGE_API_URL=" + recharge, "REDIS_URL=redis://127.0.0.1:" + redisPort,
		"ADDR=127.0.0.1:" + public, "OPS_ADDR=127.0.0.1:" + ops,
	}
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command, stdin}
	for {
		response, err := http.Get("http://127.0.0.1:" + ops + "/readyz") //nolint:noctx // on loopback
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
