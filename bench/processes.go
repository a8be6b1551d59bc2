package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// process is a server that ends when its standard input is closed, or with the context.
type process struct {
	command *exec.Cmd
	stdin   io.Closer
	at      []string // the addresses it listens on
}

// start starts a process and returns once it has printed word, followed on the same line
// by the addresses it listens on.
func start(ctx context.Context, word string, environment []string, name string, args ...string) (*process, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, rest, found := strings.Cut(lines.Text(), word); found {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return &process{command, stdin, strings.Fields(rest)}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s ended before it printed %q", name, word), command.Wait())
}

// startSelf starts one of this program's own servers.
func startSelf(ctx context.Context, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, "ready", nil, self, args...)
}

func (p *process) stop() {
	_ = p.stdin.Close()
	ended := time.AfterFunc(10*time.Second, func() { _ = p.command.Process.Kill() })
	defer ended.Stop()
	_ = p.command.Wait()
}

// cpu returns the processor time the process has used.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	_, behind, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(behind)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns the resident memory of the process, in KiB.
func (p *process) resident() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib
		}
	}
	return 0
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// startRedis starts a redis-server that saves nothing to disk.
func startRedis(ctx context.Context) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, "Ready to accept connections", nil,
		"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err == nil {
		p.stdin, p.at = killer{p}, []string{"127.0.0.1:" + port}
	}
	return p, err
}

// killer kills a process that does not watch its standard input.
type killer struct{ *process }

func (k killer) Close() error { return k.command.Process.Kill() }

// connect returns a Redis client with ordinary settings.
func connect(address string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     address,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// testbed is a Redis, an emulated Recharge, and servers of this program that use them.
type testbed struct {
	ctx      context.Context
	redis    *process
	client   *redis.Client // of redis
	recharge *rechargetest.Server
	through  string // the address at which servers reach Redis
	servers  []*process
}

func newTestbed(ctx context.Context, customers int) (*testbed, error) {
	redis, err := startRedis(ctx)
	if err != nil {
		return nil, err
	}
	people := make([]rechargetest.Customer, customers)
	for i := range people {
		people[i] = rechargetest.Customer{
			ID: int64(70100000 + i), Hash: hash(i), ShopifyCustomerID: shopperID(i),
			Subscriptions: []rechargetest.Subscription{{ID: int64(i)}},
		}
	}
	return &testbed{
		ctx: ctx, redis: redis, client: connect(redis.at[0]), through: redis.at[0],
		recharge: rechargetest.NewServer(rechargetest.Options{
			Shop: benchShop, PortalBase: portalBase, Customers: people,
			Tokens: []rechargetest.Token{{
				Value: adminToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1e6, Burst: 1e6,
			}},
		}),
	}, nil
}

// serve starts one of this program's servers.
func (b *testbed) serve(flags ...string) (*process, error) {
	args := []string{"serve-ours", "--redis", "redis://" + b.through, "--recharge", b.recharge.URL}
	p, err := startSelf(b.ctx, append(args, flags...)...)
	if err == nil {
		b.servers = append(b.servers, p)
	}
	return p, err
}

// stopServers shuts the servers down gracefully, so that they write their counters.
func (b *testbed) stopServers() {
	for _, p := range b.servers {
		p.stop()
	}
	b.servers = nil
}

func (b *testbed) close() {
	b.stopServers()
	_ = b.client.Close()
	b.recharge.Close()
	b.redis.stop()
}

// info returns a number from the output of INFO.
func (b *testbed) info(name string) int {
	_, behind, _ := strings.Cut(b.client.Info(b.ctx, "all").Val(), "\n"+name+":")
	text, _, _ := strings.Cut(behind, "\r")
	n, _ := strconv.Atoi(text)
	return n
}

// calls counts the calls to Recharge that were made for shoppers, by endpoint.
func (b *testbed) calls() (all int, by map[string]int) {
	by = map[string]int{}
	for _, request := range b.recharge.Requests() {
		switch request.Endpoint {
		case rechargetest.EndpointCustomers, rechargetest.EndpointCustomer,
			rechargetest.EndpointSessions, rechargetest.EndpointPortalAccess:
			by[request.Endpoint]++
			all++
		}
	}
	return all, by
}
