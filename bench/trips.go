package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"manage-subscriptions/recharge/rechargetest"
)

// countedShoppers click for each kind of click. A chore of the server's now and then
// asks Redis during one of the clicks, and is counted with it: so it is the median
// that tells of trips. No chore here calls Recharge: of calls, it is the most.
const countedShoppers = 5

// tripsCommand counts what the design bounds: calls to Recharge and round trips to
// Redis.
type tripsCommand struct{}

func (*tripsCommand) Run(ctx context.Context, out io.Writer) error {
	w, err := newCounted(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	fmt.Fprintf(out, "\n## What a click costs\n\nCalls as Recharge counts them, round trips as a proxy before Redis does; of %d shoppers the most calls and the median of the trips.\n\n", countedShoppers)
	rows := [][]string{{"click", "calls", "wanted", "round trips", "wanted"}}
	ask := func(what string, request func(i int) []byte, wantCalls, wantTrips int) error {
		var calls, trips []int
		for i := range countedShoppers {
			called, tripped, a, err := w.ask(request(i))
			if err == nil && a.location == "" {
				err = fmt.Errorf("answered %s", a.status)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			calls, trips = append(calls, called), append(trips, tripped)
		}
		slices.Sort(trips)
		called, tripped := slices.Max(calls), trips[len(trips)/2]
		if called > wantCalls || tripped > wantTrips {
			what += " (**too much**)"
		}
		rows = append(rows, []string{what, fmt.Sprint(called), fmt.Sprint("at most ", wantCalls), fmt.Sprint(tripped), fmt.Sprint("at most ", wantTrips)})
		return nil
	}
	clicks := func(path string) func(int) []byte {
		return func(i int) []byte { return click(shopperID(i), path) }
	}
	asked := func(i int) []byte { return post(shopperID(i)) }
	newcomers := func(i int) []byte { return post(shopperID(countedShoppers + i)) }
	for _, step := range []struct {
		what         string
		request      func(int) []byte
		calls, trips int
		before       func() error
	}{
		{"first ever", clicks(""), 3, 3, nil},
		{"same destination again, at once", clicks(""), 0, 1, nil},
		{"session remembered, another destination", clicks("/orders"), 1, 2, nil},
		{"same destination again, of a server that has just started", clicks("/orders"), 0, 1, w.restart},
		{"POST /api/portal-links, first ever", newcomers, 3, 3, nil},
		{"POST /api/portal-links, warm", newcomers, 0, 1, nil},
		{"POST /api/portal-links, warm, of a server that has just started", asked, 0, 1, w.restart},
		{"customer remembered, session over", clicks("/schedule"), 2, 3, w.endSessions},
		{"customer known, Recharge left alone", clicks("/addresses"), 0, 2, w.kill},
	} {
		if step.before != nil {
			if err := step.before(); err != nil {
				return err
			}
		}
		if err := ask(step.what, step.request, step.calls, step.trips); err != nil {
			return err
		}
	}
	fmt.Fprint(out, table(rows...))
	return nil
}

// counted is this program between a Recharge and a Redis that count.
type counted struct {
	ctx      context.Context
	redis    *process
	proxy    *proxy
	recharge *rechargetest.Server
	ours     *process
	address  string
}

func newCounted(ctx context.Context) (*counted, error) {
	redis, port, err := startRedis(ctx)
	if err != nil {
		return nil, err
	}
	w := &counted{ctx: ctx, redis: redis, recharge: recharges(2*countedShoppers + 1)}
	if w.proxy, err = newProxy("127.0.0.1:" + port); err == nil {
		err = w.restart()
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *counted) restart() error {
	if w.ours != nil {
		w.ours.stop()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, said, err := startSaying(w.ctx, nil, self, "serve-ours", "--redis", "redis://"+w.proxy.address(), "--recharge", w.recharge.URL, "--no-index")
	if err != nil {
		return err
	}
	w.ours, w.address = p, said[0]
	if _, _, _, err = w.click(w.ctx, shopperID(2*countedShoppers), ""); err != nil { // connects
		return err
	}
	return w.proxy.quiet(w.ctx, 50*time.Millisecond) // until the chores of the start are done
}

func (w *counted) close() {
	if w.ours != nil {
		w.ours.stop()
	}
	if w.proxy != nil {
		w.proxy.close()
	}
	w.recharge.Close()
	w.redis.stop()
}

func (w *counted) click(_ context.Context, shopper, path string) (calls, trips int, a answered, err error) {
	return w.ask(click(shopper, path))
}

func (w *counted) ask(request []byte) (calls, trips int, a answered, err error) {
	conn, err := dial(w.address)
	if err != nil {
		return 0, 0, answered{}, err
	}
	defer func() { _ = conn.Close() }()
	w.recharge.ResetRequests()
	before := w.proxy.trips.Load()
	a, err = conn.ask(request)
	return len(w.recharge.Requests()), int(w.proxy.trips.Load() - before), a, err
}

// endSessions has Recharge refuse the sessions of until now, and Redis forget them.
func (w *counted) endSessions() error {
	w.recharge.ExpireSessions()
	return w.proxy.forget(w.ctx, "*}s*")
}

// kill has Recharge answer nobody, until this program leaves it alone.
func (w *counted) kill() error {
	w.recharge.SetFaults(func(f *rechargetest.Faults) { f.Down = true })
	for i := range 6 {
		if _, _, _, err := w.click(w.ctx, shopperID(0), fmt.Sprint("/subscriptions/", i)); err != nil {
			return err
		}
	}
	return nil
}

// proxy passes on, and counts how often an answer follows a request:
// whatever is sent before one answer is one trip. Chores have connections of their
// own, or none while a click is under way; a trip of theirs is counted, too.
type proxy struct {
	listener net.Listener
	to       string
	trips    atomic.Int64
	bytes    atomic.Int64 // of answers
	mu       sync.Mutex
	conns    []net.Conn
	running  sync.WaitGroup
}

func newProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to}
	p.running.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to) //nolint:noctx // at once
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		var asked atomic.Bool
		p.running.Go(func() { p.pass(out, in, func(int) { asked.Store(true) }) })
		p.running.Go(func() {
			p.pass(in, out, func(n int) {
				p.bytes.Add(int64(n))
				if asked.Swap(false) {
					p.trips.Add(1)
				}
			})
		})
	}
}

func (p *proxy) pass(to, from net.Conn, saw func(int)) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		saw(n)
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// quiet returns when nobody has asked for so long.
func (p *proxy) quiet(ctx context.Context, long time.Duration) error {
	for before := int64(-1); before != p.trips.Load(); {
		before = p.trips.Load()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(long):
		}
	}
	return nil
}

// forget drops what matches, past the proxy.
func (p *proxy) forget(ctx context.Context, pattern string) error {
	client := direct(p.to)
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(ctx, pattern).Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	return client.Del(ctx, keys...).Err()
}
