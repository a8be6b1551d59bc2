package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"manage-subscriptions/recharge/rechargetest"
	"manage-subscriptions/server/bare"
)

// warmCommand measures what most clicks are: the link is remembered.
type warmCommand struct {
	Rounds      int           `help:"How often each has its turn." default:"7"`
	Turn        time.Duration `help:"How long a turn takes." default:"3s"`
	Connections int           `help:"How many are busy at the same time." default:"16"`
	Shoppers    int           `help:"How many different ones click." default:"1000"`
	Only        string        `help:"Measure these alone, such as ours,bare; else ours, bare and node."`
	Profile     string        `help:"Write a processor profile of this program there."`
}

// contestant is one of those that are compared.
type contestant struct {
	name    string
	address string
	process *process
	results []loaded
}

func recharges(shoppers int) *rechargetest.Server {
	people := make([]rechargetest.Customer, shoppers)
	for i := range people {
		people[i] = rechargetest.Customer{ID: int64(70100000 + i), Hash: hash(i), ShopifyCustomerID: shopperID(i), Subscriptions: []rechargetest.Subscription{{ID: int64(i)}}}
	}
	return rechargetest.NewServer(rechargetest.Options{
		Shop: benchShop, PortalBase: portalBase, Customers: people,
		Tokens: []rechargetest.Token{{Value: adminToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1e6, Burst: 1e6}},
	})
}

func hash(i int) string { return fmt.Sprintf("%016x", 0x1f2e3d4c00000000+i) }

func (w *warmCommand) Run(ctx context.Context, out io.Writer) error {
	redisServer, redisPort, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redisServer.stop()
	recharge := recharges(w.Shoppers)
	defer recharge.Close()
	contestants, err := w.contestants(ctx, redisPort, recharge.URL)
	defer func() {
		for _, c := range contestants {
			c.process.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, c := range contestants {
		if err := each(c.address, w.Connections, w.Shoppers); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	theirs := func(i int, location string) bool { return strings.HasPrefix(location, portalBase+hash(i)+"/") }
	for round := range w.Rounds + 1 {
		posts := make([][]byte, w.Shoppers)
		requests := make([][]byte, w.Shoppers) // a signature is good for 90 s
		for i := range requests {
			requests[i] = click(shopperID(i), "")
			posts[i] = post(shopperID(i))
		}
		for _, c := range contestants {
			requests := requests
			if c.name == "post" {
				requests = posts
			}
			result, err := load(ctx, c.address, c.process, w.Connections, w.Turn, requests, theirs)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 { // the first one warms
				c.results = append(c.results, result)
			}
		}
	}
	w.tell(out, contestants)
	return nil
}

// each has every shopper click until their link is remembered: more than the budget
// allows go by hash at first.
func each(address string, connections, shoppers int) error {
	var all sync.WaitGroup
	failed := make(chan error, connections)
	for n := range connections {
		all.Go(func() {
			conn, err := dial(address)
			for i := n; i < shoppers && err == nil; {
				var a answered
				if a, err = conn.ask(click(shopperID(i), "")); strings.Contains(a.location, "token=") {
					i += connections
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
			if err != nil {
				failed <- err
				return
			}
			_ = conn.Close()
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

// contestants start all that are to be compared, and put into Redis what each of
// them will read.
func (w *warmCommand) contestants(ctx context.Context, redisPort, recharge string) ([]*contestant, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	redisURL := "redis://127.0.0.1:" + redisPort
	if err := seed(ctx, redisPort, w.Shoppers); err != nil {
		return nil, err
	}
	nodePort, err := freePort()
	if err != nil {
		return nil, err
	}
	var all []*contestant
	for _, c := range []struct {
		name        string
		environment []string
		command     []string
	}{
		{"bare", nil, []string{self, "serve-bare", "--redis", redisURL}},
		{"ours", nil, []string{self, "serve-ours", "--redis", redisURL, "--recharge", recharge, "--profile", w.Profile}},
		{"node", []string{"PORT=" + nodePort, "REDIS_PORT=" + redisPort, "SECRET=" + appSecret, "NODE_ENV=production"}, []string{"node", filepath.Join("bench", "node", "server.js")}},
	} {
		if w.Only != "" && !strings.Contains(w.Only, c.name) {
			continue
		}
		p, said, err := startSaying(ctx, c.environment, c.command...)
		if err != nil {
			return all, err
		}
		address := "127.0.0.1:" + nodePort
		if len(said) > 0 {
			address = said[0]
		}
		all = append(all, &contestant{name: c.name, address: address, process: p})
		if c.name == "ours" { // the same program, asked by a store's middleware
			all = append(all, &contestant{name: "post", address: address, process: p})
		}
	}
	return all, nil
}

func direct(address string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: address, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
}

// seed puts the links in place for those that only read them.
func seed(ctx context.Context, port string, shoppers int) error {
	client := direct("127.0.0.1:" + port)
	defer func() { _ = client.Close() }()
	_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range shoppers {
			pipe.Set(ctx, bare.Key(shopperID(i)), portalBase+hash(i)+"/subscriptions?token=00112233445566778899aabbccddeeff", time.Hour)
		}
		return nil
	})
	return err
}

func (w *warmCommand) tell(out io.Writer, contestants []*contestant) {
	title, note := "Warm clicks", " This program holds for two seconds in its memory whom it has just sent on: here that is nearly everybody."
	if w.Shoppers > 10000 {
		title, note = "Warm clicks, each of them from Redis", " Nobody comes back within the two seconds that this program holds in its memory."
	}
	fmt.Fprintf(out, "\n## %s\n\n%d connections, %d shoppers, %d turns of %s each, one after the other in each round; medians, and the least and the most of all rounds.%s\n\n",
		title, w.Connections, w.Shoppers, w.Rounds, w.Turn, note)
	rows := [][]string{{"", "clicks a second", "p50", "p99", "processor time a click"}}
	by := map[string][]loaded{}
	for _, c := range contestants {
		by[c.name] = c.results
		of := func(value func(loaded) float64) spread {
			var s spread
			for _, r := range c.results {
				s = append(s, value(r))
			}
			return s
		}
		perSecond := of(func(r loaded) float64 { return r.perSecond })
		name := map[string]string{"bare": "bare Echo handler", "ours": "this program", "post": "this program, POST /api/portal-links", "node": "Node app"}[c.name]
		rows = append(rows, []string{
			name, fmt.Sprintf("%.0f (%.0f–%.0f)", perSecond.median(), perSecond.sorted()[0], perSecond.sorted()[len(perSecond)-1]),
			of(func(r loaded) float64 { return float64(r.p50) / 1e6 }).String() + " ms", of(func(r loaded) float64 { return float64(r.p99) / 1e6 }).String() + " ms",
			fmt.Sprintf("%.0f µs", of(func(r loaded) float64 { return float64(r.cpu) / 1e3 }).median()),
		})
	}
	fmt.Fprint(out, table(rows...), "\n")
	for _, c := range []struct {
		what, a, b, goal string
		value            func(loaded) float64
		atLeast, atMost  float64
	}{
		{"clicks a second, this program to the bare handler", "ours", "bare", "at least 0.85", func(r loaded) float64 { return r.perSecond }, 0.85, 1e9},
		{"p99, this program to the bare handler", "ours", "bare", "at most 1.3", func(r loaded) float64 { return float64(r.p99) }, 0, 1.3},
		{"processor time, this program to the bare handler", "ours", "bare", "", func(r loaded) float64 { return float64(r.cpu) }, 0, 1e9},
		{"answers a second, POST /api/portal-links to the bare handler's clicks", "post", "bare", "", func(r loaded) float64 { return r.perSecond }, 0, 1e9},
		{"clicks a second, this program to the Node app", "ours", "node", "at least 3", func(r loaded) float64 { return r.perSecond }, 3, 1e9},
	} {
		var ratios spread
		for i := range min(len(by[c.a]), len(by[c.b])) {
			ratios = append(ratios, c.value(by[c.a][i])/c.value(by[c.b][i]))
		}
		if len(ratios) == 0 {
			continue
		}
		reached := ""
		if c.goal != "" {
			reached = ", wanted " + c.goal + ": not reached"
			if m := ratios.median(); m >= c.atLeast && m <= c.atMost {
				reached = ", wanted " + c.goal + ": reached"
			}
		}
		fmt.Fprintf(out, "- %s: %s%s\n", c.what, ratios, reached)
	}
}
