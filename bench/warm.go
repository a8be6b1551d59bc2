package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/server/bare"
)

// warmCommand measures the most frequent kind of click, whose portal access is cached.
// Each click reads it from Redis, for another shopper than the last click.
type warmCommand struct {
	Rounds      int           `help:"How often each has its turn." default:"7"`
	Turn        time.Duration `help:"How long a turn takes." default:"3s"`
	Connections int           `help:"How many are busy at the same time." default:"16"`
	Shoppers    int           `help:"How many different ones click." default:"30000"`
	Only        string        `help:"Measure these alone, such as ours,bare; else bare, ours, post and node."`
	Profile     string        `help:"Write a CPU profile of this program there, and allocations to the same with .allocs."`
}

// contestant is one of the programs that are compared.
type contestant struct {
	name    string
	process *process
	results []loaded
}

func (w *warmCommand) Run(ctx context.Context, out io.Writer) error {
	bed, err := newTestbed(ctx, w.Shoppers)
	if err != nil {
		return err
	}
	defer bed.close()
	ours, err := bed.serve()
	if err != nil {
		return err
	}
	contestants, err := w.contestants(bed, ours)
	defer func() {
		for _, c := range contestants {
			if c.process != ours {
				c.process.stop()
			}
		}
	}()
	if err == nil {
		err = firstClicks(ours, w.Shoppers)
	}
	if err != nil {
		return err
	}
	before, clicks := bed.info("total_commands_processed"), 0
	for round := range w.Rounds + 1 {
		slices.Reverse(contestants) // so that none always follows the same other one
		for _, c := range contestants {
			result, err := load(ctx, c.process, w.Connections, w.Turn, w.requests(c))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			clicks += result.clicks
			if round > 0 { // the first round is to warm up
				c.results = append(c.results, result)
			}
		}
	}
	commands := float64(bed.info("total_commands_processed")-before) / float64(clicks)
	w.print(out, contestants, commands)
	if w.Profile != "" {
		return w.profile(ctx, ours)
	}
	return nil
}

// requests signs new requests, which each turn needs since a signature is valid for 90 s.
func (w *warmCommand) requests(c *contestant) [][]byte {
	requests := make([][]byte, w.Shoppers)
	for i := range requests {
		requests[i] = clickNow(i)
		if c.name == "post" {
			requests[i] = post(shopperID(i))
		}
	}
	return requests
}

// contestants starts the other servers, and writes the links that they read to Redis.
func (w *warmCommand) contestants(bed *testbed, ours *process) ([]*contestant, error) {
	const page = "/subscriptions?token=00112233445566778899aabbccddeeff"
	_, err := bed.client.Pipelined(bed.ctx, func(pipe redis.Pipeliner) error {
		for i := range w.Shoppers {
			pipe.Set(bed.ctx, bare.Key(shopperID(i)), portalBase+hash(i)+page, time.Hour)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []*contestant
	for _, name := range []string{"bare", "ours", "post", "node"} {
		if w.Only != "" && !slices.Contains(strings.Split(w.Only, ","), name) {
			continue
		}
		p := ours
		switch name {
		case "bare":
			p, err = startSelf(bed.ctx, "serve-bare", "--redis", "redis://"+bed.redis.at[0])
		case "node":
			p, err = startNode(bed)
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, &contestant{name: name, process: p})
	}
	return all, nil
}

func startNode(bed *testbed) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	_, redisPort, _ := strings.Cut(bed.redis.at[0], ":")
	environment := []string{"PORT=" + port, "REDIS_PORT=" + redisPort, "SECRET=" + appSecret, "NODE_ENV=production"}
	p, err := start(bed.ctx, "ready", environment, "node", filepath.Join("bench", "node", "server.js"))
	if err == nil {
		p.at = []string{"127.0.0.1:" + port}
	}
	return p, err
}

func (w *warmCommand) print(out io.Writer, contestants []*contestant, commands float64) {
	fmt.Fprintf(out, "\n## Warm clicks\n\n%d connections, %d shoppers one after another, %d rounds "+
		"in which each program has a turn of %s. The figures are the medians, with the minimum and the "+
		"maximum of all rounds. ",
		w.Connections, w.Shoppers, w.Rounds, w.Turn)
	fmt.Fprintf(out, "Redis executed %.2f commands a click. "+
		"This program and the bare handler log each click the same way, to a file.\n\n", commands)
	rows := [][]string{{"", "clicks a second", "p50 in ms", "p99 in ms", "processor time a click in µs"}}
	values := map[string]map[string]spread{} // by contestant, then by measure
	titles := map[string]string{
		"bare": "bare Echo handler", "ours": "this program", "node": "Node app",
		"post": "this program, POST /api/portal-links",
	}
	for _, name := range []string{"bare", "ours", "post", "node"} {
		i := slices.IndexFunc(contestants, func(c *contestant) bool { return c.name == name })
		if i < 0 {
			continue
		}
		of := map[string]spread{}
		for _, r := range contestants[i].results {
			of["rate"] = append(of["rate"], r.perSecond)
			of["p50"] = append(of["p50"], r.p50.Seconds()*1e3)
			of["p99"] = append(of["p99"], r.p99.Seconds()*1e3)
			of["cpu"] = append(of["cpu"], r.cpu.Seconds()*1e6)
		}
		values[name] = of
		rows = append(rows, []string{
			titles[name], of["rate"].with("%.0f"), of["p50"].with("%.2f"), of["p99"].with("%.2f"), of["cpu"].with("%.0f"),
		})
	}
	fmt.Fprint(out, table(rows...), "\n")
	printRatios(out, values)
}

// printRatios compares the results of two contestants, round by round.
func printRatios(out io.Writer, values map[string]map[string]spread) {
	atLeast := func(goal float64) func(float64) bool { return func(r float64) bool { return r >= goal } }
	atMost := func(goal float64) func(float64) bool { return func(r float64) bool { return r <= goal } }
	for _, r := range []struct {
		text, measure, of, to, goal string
		reached                     func(float64) bool
	}{
		{"clicks a second, this program to the bare handler", "rate", "ours", "bare", "at least 0.85", atLeast(0.85)},
		{"p99, this program to the bare handler", "p99", "ours", "bare", "at most 1.3", atMost(1.3)},
		{"processor time a click, this program to the bare handler", "cpu", "ours", "bare", "", nil},
		{"clicks a second, POST /api/portal-links to the bare handler", "rate", "post", "bare", "", nil},
		{"clicks a second, this program to the Node app", "rate", "ours", "node", "at least 3", atLeast(3)},
	} {
		var ratios spread
		for i, value := range values[r.of][r.measure] {
			if others := values[r.to][r.measure]; i < len(others) {
				ratios = append(ratios, value/others[i])
			}
		}
		if len(ratios) == 0 {
			continue
		}
		verdict := ""
		if r.reached != nil {
			verdict = "; goal " + r.goal + ": **not reached**"
			if r.reached(ratios.median()) {
				verdict = "; goal " + r.goal + ": reached"
			}
		}
		fmt.Fprintf(out, "- %s: %s%s\n", r.text, ratios.with("%.2f"), verdict)
	}
}

// profile has this program profile itself during one more turn.
func (w *warmCommand) profile(ctx context.Context, ours *process) error {
	loading := make(chan error, 1)
	go func() {
		_, err := load(ctx, ours, w.Connections, w.Turn, w.requests(&contestant{}))
		loading <- err
	}()
	profiles := map[string]string{"": fmt.Sprintf("profile?seconds=%.0f", w.Turn.Seconds()), ".allocs": "allocs"}
	for end, path := range profiles {
		response, err := http.Get("http://" + ours.at[1] + "/debug/pprof/" + path) //nolint:noctx // on loopback
		if err != nil {
			return err
		}
		profile, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err == nil {
			err = os.WriteFile(w.Profile+end, profile, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return <-loading
}
