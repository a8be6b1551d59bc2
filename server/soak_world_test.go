package server_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
	"github.com/manage-subscriptions/manage-subscriptions/server"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// soakWorld is two running programs on one real Redis, an emulated Recharge, and what the judge knows
// about both.
type soakWorld struct {
	tb    testing.TB
	f     *servertest.Fixture // its settings and emulators
	born  time.Time
	taps  []*tap
	error *errorLog
	redis *redisLife
	hook  string // the path that Recharge's webhooks go to
	many  bool   // the programs serve many stores

	ids   atomic.Int64   // of records and messages
	lines chan *soakLine // unused lines for webhooks; see borrow

	mu       sync.Mutex
	shoppers []string
	records  []*soakRecord          // existing records, as Recharge lists them
	deleted  []*soakRecord          // the latest deleted ones
	byHash   map[string]*soakRecord // all that ever existed
	recent   []string               // the shoppers of the latest changes
	suspects []suspect
	findings []string
	kinds    map[string]int // findings
	counts   map[string]int // operations
}

// newSoakWorld starts two programs, and a Redis with these arguments. They end with the test.
func newSoakWorld(tb testing.TB, redis []string, change ...func(*config.Settings)) *soakWorld {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024) // weak and quick: it signs as often as clicks are cold
	if err != nil {
		tb.Fatal(err)
	}
	w := &soakWorld{
		tb: tb, born: time.Now(), error: &errorLog{}, hook: "/webhooks/recharge", lines: make(chan *soakLine, 1024),
		byHash: map[string]*soakRecord{}, kinds: map[string]int{}, counts: map[string]int{},
		f: &servertest.Fixture{Clock: &servertest.Clock{}, Log: &servertest.Logs{}},
	}
	tb.Cleanup(w.hangUp)
	w.f.Redis = storetest.Redis(tb, redis...)
	w.redis = &redisLife{server: w.f.Redis, now: w.now}
	w.emulate(key)
	for range 2 {
		w.launch(change...)
	}
	return w
}

// lastingRedis returns the arguments of a Redis that restarts with everything that it has
// acknowledged. Its files are on a RAM disk if there is one. That survives a killed process, too, and
// a real disk would make the run several times as long.
func lastingRedis(tb testing.TB) []string {
	tb.Helper()
	args := []string{"--appendonly", "yes", "--appendfsync", "always"}
	dir, err := os.MkdirTemp("/dev/shm", "soak")
	if err != nil {
		return args
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return append(args, "--dir", dir)
}

// emulate starts Recharge and Shopify.
func (w *soakWorld) emulate(key *rsa.PrivateKey) {
	w.f.Recharge = rechargetest.NewServer(rechargetest.Options{
		Shop: servertest.Shop,
		Tokens: []rechargetest.Token{{
			Value: servertest.APIToken, Scopes: []string{"read_customers", "write_session"}, Rate: 1e6, Burst: 1e6, ClientSecret: servertest.WebhookSecret,
		}},
		StorefrontToken: servertest.StorefrontToken,
		ClientSecret:    servertest.RechargeSecret,
		SigningKey:      key,
	})
	w.tb.Cleanup(w.f.Recharge.Close)
	w.f.Store = shopifytest.NewServer(shopifytest.Options{Shop: servertest.Shop, Name: "Fixture Shop", Accounts: "new"})
	w.tb.Cleanup(w.f.Store.Close)
	w.f.Recharge.SetPortalBase(w.f.Store.URL + "/tools/recurring/portal/")
}

// soakSettings returns the settings of a store whose links expire soon, so that the programs ask for
// more while records move.
func (w *soakWorld) soakSettings(change ...func(*config.Settings)) config.Settings {
	settings := w.f.Settings()
	settings.RechargeClientSecret, settings.PortalAPIKey = servertest.WebhookSecret, servertest.APIKey
	settings.RechargeRate = "1000,10000"
	settings.CustomerTTL, settings.LinkTTL = "1m", "2s"
	settings.RechargeTimeout, settings.ClickTimeout = "2s", "8s"
	settings.LogLevel = "error"
	for _, edit := range change {
		edit(&settings)
	}
	return settings
}

// launch runs one program.
func (w *soakWorld) launch(change ...func(*config.Settings)) {
	w.tb.Helper()
	tapped, err := newTap(w.now)
	if err != nil {
		w.tb.Fatal(err)
	}
	cfg, err := w.soakSettings(change...).Check()
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended, listening := make(chan error, 1), make(chan server.Addresses, 1)
	go func() {
		ended <- server.Run(ctx, cfg, server.Options{
			Log:      slog.New(slog.NewJSONHandler(w.error, &slog.HandlerOptions{Level: slog.LevelError})),
			Platform: w.f.Platform(), Listener: tapped, Listening: listening,
		})
	}()
	select {
	case <-listening:
	case err := <-ended:
		w.tb.Fatalf("Run: %v", err)
	}
	w.taps = append(w.taps, tapped)
	w.tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.tb.Errorf("Run: %v", err)
		}
	})
}

func (w *soakWorld) now() stamp { return stamp(time.Since(w.born)) }

func (w *soakWorld) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// borrow returns a line to an instance, for a webhook.
func (w *soakWorld) borrow(instance int) *soakLine {
	for range len(w.lines) {
		select {
		case l := <-w.lines:
			if l.tap == w.taps[instance] {
				return l
			}
			w.giveBack(l)
		default:
		}
	}
	return &soakLine{tap: w.taps[instance]}
}

func (w *soakWorld) giveBack(l *soakLine) {
	select {
	case w.lines <- l:
	default:
		l.close()
	}
}

// hangUp closes the unused lines.
func (w *soakWorld) hangUp() {
	for {
		select {
		case l := <-w.lines:
			l.close()
		default:
			return
		}
	}
}

// edit is what a change does to one record.
type edit struct {
	record         *soakRecord
	owner          string
	active, exists bool
}

// soakMessage is a webhook from Recharge, as it was when its record changed.
type soakMessage struct {
	record      *soakRecord
	topic, body string
}

// change makes edits at Recharge, all at once, and returns the webhooks about them. The world's mutex
// is held.
func (w *soakWorld) change(edits ...edit) []soakMessage {
	before := w.now()
	var messages []soakMessage
	var changes []func(after stamp)
	for _, e := range edits {
		r, was := e.record, *e.record
		r.owner, r.active, r.exists = e.owner, e.active, e.exists
		w.list(r, was.exists)
		messages = append(messages, news(r, was)...)
		changes = append(changes, func(after stamp) { r.became(was, before, after) })
		w.remember(was.owner, r.owner)
	}
	w.publish()
	after := w.now()
	for _, change := range changes {
		change(after)
	}
	return messages
}

// became notes how a record differs from was.
func (r *soakRecord) became(was soakRecord, before, after stamp) {
	named, names := was.owner != "" && was.exists, r.owner != "" && r.exists
	if named && (!names || was.owner != r.owner) {
		r.end(was.owner, after)
	}
	if names && (!named || was.owner != r.owner) {
		r.begin(r.owner, before)
	}
	switch {
	case was.exists && !r.exists:
		r.end(existence, after)
	case !was.exists && r.exists:
		r.begin(existence, before)
	}
	r.note(after, "owner %q, active %v, exists %v (was %q, %v, %v; changing since %s)",
		r.owner, r.active, r.exists, was.owner, was.active, was.exists, before)
}

// list adds a record to Recharge's list or removes it.
func (w *soakWorld) list(r *soakRecord, listed bool) {
	switch {
	case r.exists && !listed:
		w.records = append(w.records, r)
		w.deleted = slices.DeleteFunc(w.deleted, func(other *soakRecord) bool { return other == r })
	case !r.exists && listed:
		w.records = slices.DeleteFunc(w.records, func(other *soakRecord) bool { return other == r })
		w.deleted = append(w.deleted, r)
		w.deleted = w.deleted[max(0, len(w.deleted)-20):]
	}
}

// remember keeps the shoppers of the latest changes, who click more often.
func (w *soakWorld) remember(shoppers ...string) {
	for _, shopper := range shoppers {
		if shopper != "" {
			w.recent = append(w.recent, shopper)
		}
	}
	w.recent = w.recent[max(0, len(w.recent)-8):]
}

// publish makes Recharge list the world's records.
func (w *soakWorld) publish() {
	customers := make([]rechargetest.Customer, len(w.records))
	for i, r := range w.records {
		customers[i] = rechargetest.Customer{ID: r.id, Hash: r.hash, ShopifyCustomerID: r.owner}
		if r.active {
			customers[i].Subscriptions = []rechargetest.Subscription{{ID: r.id, Product: "Morning House"}}
		}
	}
	w.f.Recharge.SetCustomers(customers)
}

// newRecord returns a record that does not exist yet. The world's mutex is held.
func (w *soakWorld) newRecord() *soakRecord {
	id := 70000000 + w.ids.Add(1)
	r := &soakRecord{id: id, hash: fmt.Sprintf("soak%016x", id), spells: map[string][]spell{}}
	w.byHash[r.hash] = r
	return r
}

// news returns the webhooks that Recharge sends about a record that has changed.
func news(r *soakRecord, was soakRecord) []soakMessage {
	body := customerBody(r)
	switch {
	case was.exists && !r.exists:
		return []soakMessage{{r, "customer/deleted", fmt.Sprintf(`{"customer":{"id":%d}}`, r.id)}}
	case !was.exists && r.exists:
		return []soakMessage{{r, "customer/created", body}}
	case was.active && !r.active:
		return []soakMessage{{r, "customer/updated", body}, {r, "customer/deactivated", body}}
	case !was.active && r.active:
		return []soakMessage{{r, "customer/updated", body}, {r, "customer/activated", body}}
	}
	return []soakMessage{{r, "customer/updated", body}}
}

func customerBody(r *soakRecord) string {
	owner, count := "null", 0
	if r.owner != "" {
		owner = strconv.Quote(r.owner)
	}
	if r.active {
		count = 1
	}
	return fmt.Sprintf(`{"customer":{"id":%d,"hash":%q,"email":"soak@example.test",`+
		`"external_customer_id":{"ecommerce":%s},"subscriptions_active_count":%d,"subscriptions_total_count":1}}`,
		r.id, r.hash, owner, count)
}

// signedNow returns a message as Recharge would send it now.
func (w *soakWorld) signedNow(m soakMessage) string {
	seconds := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(servertest.WebhookSecret))
	mac.Write([]byte(seconds + "." + m.body))
	return postRequest(w.hook, m.body, "X-Recharge-Topic", m.topic, "X-Recharge-Webhook-Timestamp", seconds,
		"X-Recharge-Webhook-Signature", "t="+seconds+",v1="+hex.EncodeToString(mac.Sum(nil)))
}

// populate creates the shoppers with a record for each, half as many inactive records, and some that
// name nobody.
func (w *soakWorld) populate(shoppers int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range shoppers {
		w.shoppers = append(w.shoppers, fmt.Sprint(6300000000000+i))
	}
	var edits []edit
	for i := range 2 * shoppers {
		e := edit{record: w.newRecord(), exists: true, active: i < shoppers || i%3 == 0}
		if i < shoppers*3/2 {
			e.owner = w.shoppers[i%shoppers]
			e.active = i < shoppers
		}
		edits = append(edits, e)
	}
	w.change(edits...)
}

// deliver sends a message to an instance and reports whether Recharge would not send it again.
func (w *soakWorld) deliver(m soakMessage, instance int) (done bool) {
	w.count("webhook " + m.topic)
	delivered, answer, ok := w.post(w.signedNow(m), instance)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok {
		m.record.note(w.now(), "%s delivered at %s to instance %d failed", m.topic, delivered, instance)
		return false
	}
	m.record.note(answer.done, "%s delivered at %s to instance %d, answered 200: %s", m.topic, delivered, instance, m.body)
	m.record.tell(told{delivered, answer.done, m.body})
	return true
}

// lose sends a message and hangs up, so that Recharge does not know whether it arrived.
func (w *soakWorld) lose(m soakMessage, instance int) {
	l := &soakLine{tap: w.taps[instance]}
	defer l.close()
	_ = l.send(w.signedNow(m)) // it may not arrive, which is the point
	w.count("webhook lost")
}

// post sends a webhook and reports whether it was answered 200.
func (w *soakWorld) post(request string, instance int) (delivered stamp, answer soakReply, ok bool) {
	l := w.borrow(instance)
	defer w.giveBack(l)
	delivered = w.now()
	answer, err := l.do(request)
	switch {
	case err == nil && answer.status == http.StatusOK:
		return delivered, answer, true
	case err != nil:
		w.find("a webhook that was not answered", nil, "delivered at %s: %v\n%s", delivered, err, request)
	case answer.status == http.StatusInternalServerError && w.redis.troubled(delivered, answer.done):
		w.count("webhook answered 500 while Redis was down")
	default:
		w.find("a webhook that was refused", nil, "delivered at %s, answered %d at %s, Redis down %s\n%s\n%s",
			delivered, answer.status, answer.done, w.redis.history(), request, w.error.last())
	}
	return delivered, answer, false
}

// tellShopify sends a webhook from Shopify and reports whether Shopify would not send it again.
func (w *soakWorld) tellShopify(topic, body, id string, instance int) (done bool) {
	mac := hmac.New(sha256.New, []byte(servertest.AppSecret))
	mac.Write([]byte(body))
	w.count("webhook " + topic)
	_, _, ok := w.post(postRequest("/webhooks/shopify", body,
		"X-Shopify-Topic", topic, "X-Shopify-Shop-Domain", servertest.Shop, "X-Shopify-Webhook-Id", id,
		"X-Shopify-Api-Version", "2026-07", "X-Shopify-Triggered-At", time.Now().UTC().Format(time.RFC3339Nano),
		"X-Shopify-Hmac-Sha256", base64.StdEncoding.EncodeToString(mac.Sum(nil))), instance)
	return ok
}

// click makes a click and judges it.
func (w *soakWorld) click(c soakClick, l *soakLine) {
	var request string
	if c.door == "api" {
		request = postRequest("/api/portal-links", c.path, "Authorization", "Bearer "+servertest.APIKey)
	} else {
		destination, query, _ := strings.Cut(c.path, "?")
		signed := w.f.Store.SignedQuery(query, c.shopper, "/apps/subscriptions", servertest.AppSecret)
		request = getRequest("/apps/subscriptions" + destination + "?" + signed)
	}
	c.begun = w.now()
	var err error
	if c.reply, err = l.do(request); err != nil {
		w.find("a click that was not answered", nil, "%s: %v", c, err)
		return
	}
	w.judge(c)
}

// apiBody returns the body of a request for a link.
func apiBody(who, destination, locale string) string {
	return fmt.Sprintf(`{%s,"destination":%q,"locale":%q}`, who, destination, locale)
}

// proxyPath returns what a browser requests from the store, after the path of the app.
func proxyPath(destination, locale, country string) string {
	query := url.Values{}
	for name, value := range map[string]string{"locale": locale, "country": country} {
		if value != "" {
			query.Set(name, value)
		}
	}
	path := ""
	if destination != "" {
		path = "/" + destination
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// redisLife is when Redis was down.
type redisLife struct {
	server *storetest.Server
	now    func() stamp

	mu   sync.Mutex
	down []spell
}

// findRedis is how long a program may take to notice that Redis is back, on a busy machine.
const findRedis = stamp(5 * time.Second)

// restart kills Redis and starts it again after a while, or when ctx ends.
func (r *redisLife) restart(ctx context.Context, after time.Duration) {
	r.mu.Lock()
	r.down = append(r.down, spell{r.now(), forever})
	r.mu.Unlock()
	r.server.Stop()
	pause(ctx, after)
	r.server.Start()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[len(r.down)-1].to = r.now()
}

// troubled reports whether Redis was down, or not yet in use again, at any time between two moments.
func (r *redisLife) troubled(from, to stamp) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.down, func(s spell) bool {
		return s.from <= to && (s.to == forever || s.to+findRedis >= from)
	})
}

func (r *redisLife) history() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(r.down)
}

// pause waits and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// errorLog keeps the last errors that the programs logged, and all panics.
type errorLog struct {
	mu     sync.Mutex
	newest []string
	panics []string
}

func (e *errorLog) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.newest = append(e.newest, string(p))
	e.newest = e.newest[max(0, len(e.newest)-10):]
	if bytes.Contains(p, []byte(`"msg":"panic"`)) && len(e.panics) < 3 {
		e.panics = append(e.panics, string(p))
	}
	return len(p), nil
}

func (e *errorLog) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.newest, "")
}

func (e *errorLog) panicked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.panics)
}
