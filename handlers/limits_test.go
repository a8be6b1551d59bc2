package handlers_test

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/virtual"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// TestSlowClients checks in virtual time that a slow client cannot hold a connection longer than
// the limits.
func TestSlowClients(t *testing.T) {
	const head = "GET /app/home.css HTTP/1.1\r\nHost: a\r\n"
	const webhook = "POST /webhooks/shopify HTTP/1.1\r\nHost: a\r\nX-Shopify-Topic: shop/redact\r\nX-Shopify-Webhook-Id: 1\r\n" +
		"X-Shopify-Hmac-Sha256: 4Oc0QpipbBR5oftMiZb7kkJ65B5kaS2EpJWZG3hSuFU=\r\nContent-Length: 1000\r\n\r\n"
	for _, tt := range []struct {
		name        string
		first, then string // then is repeated, one letter each second
		most        time.Duration
		status      int // of the answer; 0 if there is none
	}{
		{"says nothing", "", "", 5 * time.Second, 0},
		{"no end of the first line", "", "G", 5 * time.Second, 400},
		{"no end of the head", head, "X-A: a\r\n", 5 * time.Second, 0},
		{"no end of a webhook", webhook, "{", 10 * time.Second, 400},
		{"no webhook at all", webhook, "", 10 * time.Second, 400},
		{"no end of what nobody reads", strings.Replace(webhook, "shop/redact", "evil", 1), "a", 10 * time.Second, 401},
		{"nothing more to ask", head + "\r\n", "", 2 * time.Minute, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				world := startWorld(t)
				connection, err := world.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				var writing sync.WaitGroup
				writing.Go(func() {
					_, err := io.WriteString(connection, tt.first)
					for i := 0; err == nil && tt.then != ""; i++ {
						time.Sleep(time.Second)
						_, err = io.WriteString(connection, tt.then[i%len(tt.then):][:1])
					}
				})
				answer, _ := io.ReadAll(connection)
				took := time.Since(start)
				_ = connection.Close()
				writing.Wait()
				status := 0
				if response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil); err == nil {
					status = response.StatusCode
				}
				// net/http waits half a second before it closes, so that the answer can arrive.
				if took > tt.most+time.Second || status != tt.status {
					t.Errorf("answered with %d, closed after %v; want %d after at most %v", status, took, tt.status, tt.most)
				}
			})
		})
	}
}

// TestSlowReader checks that a client that does not read the answer is cut off, too.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := startWorld(t)
		connection, err := world.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(connection, "GET /app/home.js HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(19 * time.Second) // longer than CLICK_TIMEOUT plus 10 s
		if answer, err := io.ReadAll(connection); err != nil || len(answer) > 0 {
			t.Errorf("after 19 s there is still an answer of %d bytes, %v; want the connection closed", len(answer), err)
		}
		_ = connection.Close()
	})
}

func startWorld(t *testing.T) *virtual.World {
	t.Helper()
	world, err := virtual.Start(virtual.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := world.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return world
}

// TestTooMuch checks that no route reads more than it needs.
func TestTooMuch(t *testing.T) {
	f := servertest.Start(t, servertest.ManyStores)
	form, webhook := strings.Repeat("a", 64<<10), strings.Repeat("a", 256<<10)
	for _, tt := range []struct {
		path, body string
		header     []string
		status     int
	}{
		{"/webhooks/shopify", webhook + "a", shopifyHeader(), 413},
		{"/webhooks/shopify", webhook + "a", nil, 401}, // not read at all
		{"/webhooks/recharge/fixture-shop/key", webhook + "a", nil, 401},
		{"/app/connect", "token=" + form, []string{"Authorization", "Bearer " + f.SessionToken(nil)}, 413},
		{"/app/settings", "link=" + form, []string{"Authorization", "Bearer " + f.SessionToken(nil)}, 413},
		{"/app/disconnect", form + "a", []string{"Authorization", "Bearer " + f.SessionToken(nil)}, 413},
		{"/app/try", "customer=" + form, []string{"Authorization", "Bearer " + f.SessionToken(nil)}, 413},
		{"/app/connect", "token=" + form, nil, 401}, // not read at all
		{"/app/settings", "a=%zz", []string{"Authorization", "Bearer " + f.SessionToken(nil)}, 400},
	} {
		for _, chunked := range []bool{false, true} {
			request := httptest.NewRequest(http.MethodPost, "http://"+f.Public+tt.path, strings.NewReader(tt.body))
			request.RequestURI = ""
			if chunked {
				request.ContentLength = -1
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for i := 0; i < len(tt.header); i += 2 {
				request.Header.Set(tt.header[i], tt.header[i+1])
			}
			response, err := (&http.Client{Timeout: 20 * time.Second}).Do(request)
			if err != nil {
				t.Errorf("%s, %d bytes: %v", tt.path, len(tt.body), err)
				continue
			}
			_ = response.Body.Close()
			if response.StatusCode != tt.status {
				t.Errorf("%s, %d bytes (chunks: %t) = %d; want %d", tt.path, len(tt.body), chunked, response.StatusCode, tt.status)
			}
		}
	}
}

func shopifyHeader() []string {
	return []string{"X-Shopify-Topic", "shop/redact", "X-Shopify-Webhook-Id", "1", "X-Shopify-Hmac-Sha256", "4Oc0QpipbBR5oftMiZb7kkJ65B5kaS2EpJWZG3hSuFU="}
}

// TestForbiddenIsOneAnswer checks that all refusals of one channel are the same to the byte, except
// for the request id and the date.
func TestForbiddenIsOneAnswer(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	id := regexp.MustCompile(`(<bdi>|"request_id":")[a-z2-7]{10}`)
	causes := map[string]bool{}
	type one struct{ answer, where string }
	by := map[any]one{}
	for _, a := range readAttacks(t) {
		if a.outcome != "forbidden" {
			continue
		}
		got := strike(f, a, request(f, a))
		if got == nil {
			continue
		}
		var head []string
		for _, line := range got.headers {
			if !strings.HasPrefix(line, "Date: ") {
				head = append(head, line)
			}
		}
		whole := strconv.Itoa(got.Status) + "\n" + strings.Join(head, "\n") + "\n\n" + id.ReplaceAllString(got.Body, "$1-")
		channel := got.Line["channel"]
		if by[channel].answer == "" {
			by[channel] = one{whole, a.where}
		}
		if first := by[channel]; whole != first.answer {
			t.Errorf("%s is answered with\n%s\n%s with\n%s", a.where, whole, first.where, first.answer)
		}
		cause, _ := got.Line["cause"].(string)
		causes[cause] = true
	}
	if len(by) != 3 {
		t.Errorf("refused by %d channels; want 3", len(by))
	}
	for _, check := range []string{"signature", "parameter shop", "parameter logged_in_customer_id", "parameter path_prefix", "parameter timestamp", "timestamp"} {
		if !causes["proxy request refused: "+check] {
			t.Errorf("no attack was refused for %q; want each reason compared", check)
		}
	}
}

// TestHeadersOfPages checks that HSTS is set for our own host, and not for the store's.
func TestHeadersOfPages(t *testing.T) {
	t.Parallel()
	f := servertest.Start(t)
	signed := f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret)
	for path, ours := range map[string]bool{
		"/": true, "/app/home.css": true, "/app/health": true, "/evil": true, "/app/bounce": true,
		"/apps/subscriptions?" + signed: false, "/apps/subscriptions": false, "/apps/subscriptions/status?" + signed: false, "/apps/subscriptions/orders": false,
	} {
		response, _ := f.Request(http.MethodGet, f.Public, path)
		if got := response.Header.Get("Strict-Transport-Security") != ""; got != ours {
			t.Errorf("%s has Strict-Transport-Security: %t; want %t", path, got, ours)
		}
		if response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s has no X-Content-Type-Options", path)
		}
	}
	// Every page of the app has a policy, even an error page.
	for _, path := range []string{"/", "/?shop=evil", "/app/install?shop=evil", "/?id_token=evil&ms_bounced=1"} {
		response, _ := f.Request(http.MethodGet, f.Public, path)
		if !strings.Contains(response.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s has the policy %q; want one that begins with none", path, response.Header.Get("Content-Security-Policy"))
		}
	}
}

// TestForbiddenTakesOneTime compares how long refusals take, on one connection and in turn. The shortest
// times are compared, since other work only makes a request longer.
func TestForbiddenTakesOneTime(t *testing.T) {
	f := servertest.Start(t)
	good := strings.Split(f.Store.SignedQuery("", servertest.Pat, "/apps/subscriptions", servertest.AppSecret), "&signature=")[0]
	wrong := shopifytest.Signature("another secret", good)
	signed := func(query string) string {
		return query + "&signature=" + shopifytest.Signature(servertest.AppSecret, query)
	}
	queries := map[string]string{
		"nothing":            "",
		"no signature":       good,
		"signed by another":  good + "&signature=" + wrong,
		"one digit off":      good + "&signature=" + wrong[:63] + "0",
		"a stray percent":    good + "&a=%zz&signature=" + wrong,
		"shop twice":         good + "&shop=evil.myshopify.com&signature=" + wrong,
		"signed, no shop":    signed(strings.Replace(good, "shop=", "shop1=", 1)),
		"signed, another id": signed(strings.Replace(good, servertest.Pat, "x", 1)),
	}
	connection, err := net.Dial("tcp", f.Public)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	reader := bufio.NewReader(connection)
	shortest := map[string]time.Duration{}
	for range 200 {
		for name, query := range queries {
			start := time.Now()
			_, _ = io.WriteString(connection, "GET /apps/subscriptions?"+query+" HTTP/1.1\r\nHost: a\r\n\r\n")
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			took := time.Since(start)
			if response.StatusCode != http.StatusForbidden {
				t.Fatalf("%s: %d; want 403", name, response.StatusCode)
			}
			if was, ok := shortest[name]; !ok || took < was {
				shortest[name] = took
			}
		}
	}
	t.Log(shortest)
	times := slices.Sorted(maps.Values(shortest))
	if least, most := times[0], times[len(times)-1]; most-least > 200*time.Microsecond {
		t.Errorf("refusals take %v; want them within 0.2 ms of one another", shortest)
	}
}
