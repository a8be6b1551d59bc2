package handlers_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// attack is a line of testdata/attacks or testdata/harmless. The README of the first describes the format.
type attack struct{ where, kind, outcome, input string }

func (a attack) harmless() bool { return strings.HasPrefix(a.where, "harmless/") }

func readAttacks(t *testing.T) []attack {
	t.Helper()
	files, err := filepath.Glob("testdata/[ah]*/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []attack
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			parts := strings.SplitN(line, " ", 3)
			if len(parts) != 3 {
				t.Fatalf("%s:%d: %q; want kind, outcome and input", file, i+1, line)
			}
			a := attack{fmt.Sprintf("%s:%d", strings.TrimPrefix(file, "testdata/"), i+1), parts[0], parts[1], parts[2]}
			if a.harmless() != (a.outcome == "redirected") {
				t.Errorf("%s: %s; no attack opens a portal, and every harmless input does", a.where, a.outcome)
			}
			if strings.HasPrefix(a.input, `"`) {
				if a.input, err = strconv.Unquote(a.input); err != nil {
					t.Fatalf("%s: %v", a.where, err)
				}
			}
			all = append(all, a)
		}
	}
	return all
}

const (
	mostAnswer = 64 << 10        // the most bytes of an answer, head and body
	mostTime   = 5 * time.Second // for an answer
	mostHeap   = 16 << 20        // the most bytes by which all attacks may grow the heap
)

// TestAttacks sends every hostile input over a real connection, and checks the answer against its
// expected outcome and the rules for all answers.
func TestAttacks(t *testing.T) {
	f := servertest.Start(t, servertest.WithAPIKeys)
	attacks := readAttacks(t)
	hostile := len(slices.DeleteFunc(slices.Clone(attacks), attack.harmless))
	if hostile < 300 {
		t.Errorf("there are %d attacks; want 300", hostile)
	}
	before := heap()
	kinds := map[string]int{}
	for _, a := range attacks {
		kinds[a.kind]++
		sent := request(f, a)
		if got := strike(f, a, sent); got != nil {
			judge(f, a, sent, got)
		}
	}
	if grown := heap() - before; grown > mostHeap {
		t.Errorf("the heap has grown by %d KiB; want at most %d", grown>>10, mostHeap>>10)
	}
	for line := range strings.Lines(f.Log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("an attack has written into the log: %s", line)
		}
	}
	t.Logf("%d attacks and %d harmless inputs: %v", hostile, len(attacks)-hostile, kinds)
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// request returns the bytes to send for an attack.
func request(f *servertest.Fixture, a attack) string {
	now := f.Clock.Now().Unix()
	fill := func(text string) string { return fill(text, now) }
	input := fill(a.input)
	if request, ok := apiRequest(f, a, input); ok {
		return request
	}
	good := fill("{good}")
	goodSigned := good + "&signature=" + shopifytest.Signature(servertest.AppSecret, good)
	nobody := fill("logged_in_customer_id=&path_prefix=%2Fapps%2Fsubscriptions&shop={shop}&timestamp={time}")
	path, query, host, header := "/apps/subscriptions", goodSigned, "app.example", ""
	switch a.kind {
	case "visitor":
		query = signed(input + "&" + good)
	case "nobody":
		query = signed(input + "&" + nobody)
	case "signed":
		query = signed(input)
	case "unsigned":
		query = input
	case "resplit":
		from, to, _ := strings.Cut(input, " => ")
		query = to + "&signature=" + shopifytest.Signature(servertest.AppSecret, from)
	case "shop", "customer", "prefix", "timestamp":
		query = signed(replaced(good, a.kind, input))
	case "signature":
		query = good + "&signature=" + input
	case "locale":
		query = signed("locale=" + url.QueryEscape(input) + "&" + good)
	case "return":
		escaped := url.QueryEscape(input)
		query = signed("return_to=" + escaped + "&return_url=" + escaped + "&checkout_url=" + escaped + "&locale=" + escaped + "&" + nobody)
	case "destination":
		path += "/" + input
	case "elsewhere":
		path, query = path+"/"+input, signed(nobody)
	case "path":
		path = input
	case "app":
		path, query, _ = strings.Cut(input, "?")
	case "host":
		host = input
	case "header":
		header = input + "\r\n"
	case "request":
		return input
	default:
		f.T.Fatalf("%s: there is no kind %q", a.where, a.kind)
	}
	return "GET " + path + "?" + query + " HTTP/1.1\r\nHost: " + host + "\r\n" + header + "\r\n"
}

// apiRequest returns the request for an attack on the routes of a store's own middleware.
func apiRequest(f *servertest.Fixture, a attack, input string) (request string, ok bool) {
	post := func(authorization, body string) string {
		return "POST /api/portal-links HTTP/1.1\r\nHost: app.example\r\n" + authorization + "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	link := f.SignedLink(strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(a.where), servertest.Pat)
	good := strings.TrimPrefix(f.SignLink(servertest.APIKey, link), "/go?")
	input = strings.ReplaceAll(input, "{go}", good)
	switch a.kind {
	case "authorization":
		return post("Authorization: "+input+"\r\n", servertest.ByShopifyID(servertest.Pat)), true
	case "key":
		return post(input, servertest.ByShopifyID(servertest.Pat)), true
	case "body":
		return post("Authorization: Bearer "+servertest.APIKey+"\r\n", input), true
	case "link":
		return "GET /go?" + input + " HTTP/1.1\r\nHost: app.example\r\n\r\n", true
	case "altered":
		query, _ := url.ParseQuery(good)
		changed, _ := url.ParseQuery(input)
		for name, values := range changed {
			query[name] = values
		}
		return "GET /go?" + query.Encode() + " HTTP/1.1\r\nHost: app.example\r\n\r\n", true
	case "visit":
		return "GET /go?" + good + " HTTP/1.1\r\nHost: app.example\r\n" + input + "\r\n\r\n", true
	}
	return "", false
}

func signed(query string) string {
	return query + "&signature=" + shopifytest.Signature(servertest.AppSecret, query)
}

// replaced returns a good query with another value for one parameter.
func replaced(good, kind, value string) string {
	name := map[string]string{"shop": "shop", "customer": "logged_in_customer_id", "prefix": "path_prefix", "timestamp": "timestamp"}[kind]
	query, _ := url.ParseQuery(good)
	query.Set(name, value)
	return query.Encode()
}

var (
	timeShape = regexp.MustCompile(`\{time([+-][0-9]+)?\}`)
	longShape = regexp.MustCompile(`\{long:([0-9]+)\}`)
	cutShape  = regexp.MustCompile(`\{sig:([0-9]+)\}`)
)

// fill replaces the placeholders that a file uses for values of the test run.
func fill(text string, now int64) string {
	at := strconv.FormatInt(now, 10)
	good := "logged_in_customer_id=" + servertest.Pat + "&path_prefix=%2Fapps%2Fsubscriptions&shop=" + servertest.Shop + "&timestamp=" + at
	signature := shopifytest.Signature(servertest.AppSecret, good)
	text = strings.NewReplacer(
		"{good}", good, "{shop}", servertest.Shop, "{pat}", servertest.Pat, "{kim}", servertest.Kim,
		"{sig}", signature, "{SIG}", strings.ToUpper(signature),
		"{old}", shopifytest.Signature(servertest.OldAppSecret, good), "{none}", shopifytest.Signature("", good),
	).Replace(text)
	text = cutShape.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(cutShape.FindStringSubmatch(s)[1])
		return signature[:n]
	})
	text = longShape.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(longShape.FindStringSubmatch(s)[1])
		return strings.Repeat("a", n)
	})
	return timeShape.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.ParseInt(timeShape.FindStringSubmatch(s)[1], 10, 64)
		return strconv.FormatInt(now+n, 10)
	})
}

// struck is the answer to an attack.
type struck struct {
	servertest.Answer
	headers []string // the lines of the head
}

// strike sends an attack, closes its side of the connection and reads the whole answer.
func strike(f *servertest.Fixture, a attack, sent string) *struck {
	f.T.Helper()
	logged := len(f.Log.String())
	connection, err := net.DialTimeout("tcp", f.Public, mostTime)
	if err != nil {
		f.T.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(mostTime))
	// The server may refuse the request before all of it is sent, and still answers.
	_, _ = io.WriteString(connection, sent)
	_ = connection.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(io.LimitReader(connection, mostAnswer+1))
	if err != nil || len(all) > mostAnswer {
		f.T.Errorf("%s: %d bytes and %v; want an answer of at most %d bytes in %v", a.where, len(all), err, mostAnswer, mostTime)
		return nil
	}
	reader := bufio.NewReader(bytes.NewReader(all))
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		f.T.Errorf("%s: answered with %.200q: %v", a.where, all, err)
		return nil
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.T.Errorf("%s: read the body: %v", a.where, err)
	}
	if rest, _ := io.ReadAll(reader); len(rest) > 0 {
		f.T.Errorf("%s: the answer is followed by %.200q; want one answer", a.where, rest)
	}
	head, _, _ := strings.Cut(string(all), "\r\n\r\n")
	got := &struck{Answer: servertest.Answer{Status: response.StatusCode, Location: response.Header.Get("Location"), Header: response.Header, Body: string(body)}}
	got.headers = strings.Split(head, "\r\n")[1:]
	for line := range strings.Lines(f.Log.String()[logged:]) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == "click" {
			got.Line = fields
		}
	}
	return got
}

// judge checks an answer against its expected outcome and the rules for all answers.
func judge(f *servertest.Fixture, a attack, sent string, got *struck) {
	f.T.Helper()
	ended := strconv.Itoa(got.Status)
	if outcome := got.Outcome(); outcome != "" {
		ended = outcome
	}
	if ended != a.outcome {
		f.T.Errorf("%s: %s %.80q ends in %s (%d); want %s", a.where, a.kind, a.input, ended, got.Status, a.outcome)
	}
	headersAreOurs(f, a, got)
	leadsNowhereElse(f, a, got)
	if url := strings.Contains(got.Body, `"url"`); url && (got.Outcome() != "redirected" || !strings.Contains(got.Body, "/1f2e3d4c5b6a7988/")) {
		f.T.Errorf("%s: %s %.80q gets %s; want Pat's link or none", a.where, a.kind, a.input, got.Body)
	}
	saysNothing(f, a, sent, got)
}

// headersAreOurs checks that an answer has only headers that this program sets.
func headersAreOurs(f *servertest.Fixture, a attack, got *struck) {
	ours := []string{
		"Allow", "Cache-Control", "Connection", "Content-Language", "Content-Length", "Content-Security-Policy", "Content-Type", "Cross-Origin-Opener-Policy", "Date",
		"Location", "Referrer-Policy", "Retry-After", "Set-Cookie", "Strict-Transport-Security", "Transfer-Encoding", "X-Content-Type-Options", "X-Shopify-Retry-Invalid-Session-Request",
	}
	seen := map[string]bool{}
	for _, line := range got.headers {
		name, value, _ := strings.Cut(line, ": ")
		if !slices.Contains(ours, name) || seen[name] {
			f.T.Errorf("%s: the answer has a header %q; want only our own headers, each once", a.where, line)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			f.T.Errorf("%s: the header %q has strange characters", a.where, line)
		}
		seen[name] = true
	}
	if seen["Set-Cookie"] && a.kind != "app" {
		f.T.Errorf("%s: the answer of a click sets a cookie", a.where)
	}
}

// leadsNowhereElse checks that a Location is the shopper's own portal, the store's sign-in, or a
// page of the app or of the store's admin.
func leadsNowhereElse(f *servertest.Fixture, a attack, got *struck) {
	f.T.Helper()
	outcome := got.Outcome()
	if got.Location == "" {
		if got.Status >= 300 && got.Status < 400 {
			f.T.Errorf("%s: %d without a Location", a.where, got.Status)
		}
		return
	}
	u, err := url.Parse(got.Location)
	if err != nil || strings.Contains(got.Location, `\`) {
		f.T.Errorf("%s: Location %q is no address", a.where, got.Location)
		return
	}
	good := false
	switch {
	case outcome == "redirected":
		good = isPortal(f, u) && slices.Contains(strings.Split(u.EscapedPath(), "/"), "1f2e3d4c5b6a7988") // Pat's
	case outcome == "sign_in":
		good = u.Scheme == "" && u.Host == "" && u.Path == "/customer_authentication/login" && backToUs(u.Query())
	case outcome == "" && a.kind != "app": // asked again, without the visitor's parameters
		good = got.Status == http.StatusFound && u.Scheme == "" && u.Host == "" && onlyOurs(u) &&
			slices.Contains([]string{"/apps/subscriptions", "/apps/subscriptions/status", "/a", "/apps/other"}, u.Path)
	case outcome == "":
		install := "https://admin.shopify.com/store/" + strings.TrimSuffix(servertest.Shop, ".myshopify.com") + "/oauth/install?client_id=" + servertest.ClientID
		good = got.Location == "/app/bounce?"+u.RawQuery || got.Location == install
		if reload := u.Query().Get("shopify-reload"); reload != "" && !strings.HasPrefix(reload, "https://app.example/?") {
			good = false
		}
	}
	if !good {
		f.T.Errorf("%s: %s %.80q: Location %q; want the shopper's own portal, the store's sign-in or our own page", a.where, a.kind, a.input, got.Location)
	}
}

// isPortal reports whether the guard allows the URL here: the configured portal's host on loopback,
// or a host that is always trusted, over https.
func isPortal(f *servertest.Fixture, u *url.URL) bool {
	configured, _ := url.Parse(f.Store.URL)
	if u.Scheme == configured.Scheme && u.Host == configured.Host {
		return true
	}
	return u.Scheme == "https" && (u.Host == servertest.Shop || strings.HasSuffix(u.Host, ".rechargeapps.com"))
}

// backToUs reports whether the sign-in returns to the app's own path, with only a language and a
// country from the visitor.
func backToUs(query url.Values) bool {
	back, err := url.Parse(query.Get("return_to"))
	if err != nil || len(query) != 1 || back.Scheme != "" || back.Host != "" {
		return false
	}
	if back.Path != "/apps/subscriptions" && !strings.HasPrefix(back.Path, "/apps/subscriptions/") {
		return false
	}
	return onlyOurs(back) && !strings.Contains(back.String(), "evil") && !strings.Contains(back.Path, "..")
}

func onlyOurs(u *url.URL) bool {
	for name := range u.Query() {
		if name != "ms_returned" && name != "ms_repeated" && name != "ms_ordered" && name != "ms_tried" && name != "locale" && name != "country" {
			return false
		}
	}
	return true
}

// refusals returns the whole body of a refusal for each channel. It never shows which check failed.
func refusals() map[any]*regexp.Regexp {
	page := func(wayOn string) *regexp.Regexp {
		return regexp.MustCompile(`^<!doctype html>\n<html lang="en" dir="ltr">\n<head>\n(?:[^/\n]*\n){5}<title>This link did not work</title>\n<style>[^<]*</style>\n</head>\n<body>\n` +
			`<main data-outcome="forbidden">\n<h1>This link did not work</h1>\n<p>This link is not valid, or has expired\.</p>\n` + wayOn +
			`\n<p><small>Reference for support: <bdi>[a-z2-7]{10}</bdi></small></p>\n</main>\n</body>\n</html>\n?$`)
	}
	return map[any]*regexp.Regexp{
		nil:   page(`<p><a class="button" href="\?">Open Manage Subscriptions again</a></p>\n<p><a href="/account">My account</a></p>\n<p><a href="/">Back to the store</a></p>`),
		"go":  page(`<p>Go back to the store, reload the page and click again\.</p>`),
		"api": regexp.MustCompile(`^{"type":"urn:manage-subscriptions:problem:forbidden","title":"Forbidden","status":403,"detail":"Send one of this store's API keys as a bearer token in the Authorization header\.","request_id":"[a-z2-7]{10}"}$`),
	}
}

// saysNothing checks that a body repeats nothing from the request, and that a refusal has exactly
// its fixed text.
func saysNothing(f *servertest.Fixture, a attack, sent string, got *struck) {
	f.T.Helper()
	if got.Outcome() == "forbidden" && (got.Status != http.StatusForbidden || !refusals()[got.Line["channel"]].MatchString(got.Body)) {
		f.T.Errorf("%s: refused with %d %q", a.where, got.Status, got.Body)
	}
	decoded, _ := url.QueryUnescape(a.input)
	for _, text := range []string{"evil", "alert(1)", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", servertest.Pat, servertest.Kim, a.input, decoded} {
		if len(text) > 3 && strings.Contains(got.Body, text) && (text != a.input && text != decoded || !plainWord.MatchString(text)) {
			f.T.Errorf("%s: %s %.80q: the body repeats %.40q: %.300s", a.where, a.kind, a.input, text, got.Body)
		}
	}
	if !strings.Contains(sent, "HTTP/1.") || got.Outcome() == "" {
		return
	}
	if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Referrer-Policy") != "no-referrer" {
		f.T.Errorf("%s: the answer has the headers %v; want no-store and no-referrer", a.where, got.Header)
	}
}

// plainWord matches inputs that may be on a page of ours anyway.
var plainWord = regexp.MustCompile(`^[a-z/-]{0,24}$`)
