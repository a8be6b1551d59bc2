package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "embed"

	"github.com/manage-subscriptions/manage-subscriptions/portallink"
)

//go:embed headless.html
var headlessHTML string

// visitors returns the accounts of the headless storefront. It has the Shopify IDs of some and the
// Recharge ID of one.
func visitors() []visitor {
	return []visitor{
		{"pat", "Pat Doe", "6100200300400", "known by Shopify’s id"},
		{"robin", "Robin Roe", "6100200300500", "known by Shopify’s id; never subscribed"},
		{"kim", "Kim Lee", "recharge:70100500", "came from another shop system: known by Recharge’s id"},
	}
}

type visitor struct{ Name, Full, Customer, Note string }

// storefront is a custom storefront without a Shopify theme. It has its own sessions, and its
// server has an API key that a merchant created in the app home.
type storefront struct {
	sandbox *Sandbox
	key     string
	signer  *portallink.Signer
	page    *template.Template
	server  *http.Server
	client  *http.Client
	url     string

	mu       sync.Mutex
	sessions map[string]visitor
}

// openStorefront creates a key like a merchant, and opens the storefront.
func (s *Sandbox) openStorefront(ctx context.Context, o Options) error {
	key, err := s.makeKey(ctx)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 15 * time.Second}
	f := &storefront{sandbox: s, key: key, sessions: map[string]visitor{}, client: client}
	if f.signer, err = portallink.NewSigner(s.AppURL(), key); err != nil {
		return err
	}
	if f.page, err = template.New("headless").Parse(headlessHTML); err != nil {
		return err
	}
	listener, err := o.listen(o.StorefrontPort, s.kind.name)
	if err != nil {
		return err
	}
	f.serve(listener)
	s.headless.Store(f)
	return nil
}

func (f *storefront) serve(listener net.Listener) {
	f.url = "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.account)
	mux.HandleFunc("POST /login", f.login)
	mux.HandleFunc("POST /logout", f.logout)
	mux.HandleFunc("POST /manage-subscriptions", f.ask)
	mux.HandleFunc("GET /.well-known/customer-account-api", customerAccountAPI)
	mux.HandleFunc("POST "+customerAPIPath, customerOfToken)
	own := http.NewCrossOriginProtection().Handler(mux)
	f.server = &http.Server{Handler: f.sandbox.panel.around(own), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = f.server.Serve(listener) }()
}

const customerAPIPath = "/account/customer/api/2026-10/graphql"

// customerAccountAPI emulates the discovery of Shopify's Customer Account API, which a mobile app's server asks.
func customerAccountAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"graphql_api": "http://" + r.Host + customerAPIPath})
}

// customerOfToken emulates one query of that API, for the customer of the access token "token-of-" and a name.
func customerOfToken(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Query string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Query != "{ customer { id } }" {
		http.Error(w, "this emulator answers only { customer { id } }", http.StatusBadRequest)
		return
	}
	for _, v := range visitors() {
		if r.Header.Get("Authorization") == "token-of-"+v.Name && !strings.HasPrefix(v.Customer, "recharge:") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"data":{"customer":{"id":"gid://shopify/Customer/%s"}}}`, v.Customer)
			return
		}
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (f *storefront) close() {
	_ = f.server.Close()
	f.client.CloseIdleConnections()
}

const sessionCookie = "headless_session"

// visitor returns the visitor who is signed in to the storefront.
func (f *storefront) visitor(r *http.Request) (visitor, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return visitor{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.sessions[cookie.Value]
	return v, ok
}

func (f *storefront) login(w http.ResponseWriter, r *http.Request) {
	for _, v := range visitors() {
		if v.Name == r.PostFormValue("visitor") {
			session := rand.Text()
			f.mu.Lock()
			f.sessions[session] = v
			f.mu.Unlock()
			http.SetCookie(w, &http.Cookie{
				Name: sessionCookie, Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
			})
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (f *storefront) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// account serves the account page. Its link is signed while the page is rendered.
func (f *storefront) account(w http.ResponseWriter, r *http.Request) {
	data := map[string]any{}
	if v, ok := f.visitor(r); ok {
		link, err := f.signer.Sign(portallink.Link{Shop: f.sandbox.Shop(), Customer: v.Customer})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		data["Visitor"], data["Link"] = v, link
	}
	f.draw(w, data)
}

func (f *storefront) draw(w http.ResponseWriter, data map[string]any) {
	data["Visitors"], data["Store"] = visitors(), f.sandbox.kind.name
	var page bytes.Buffer
	if err := f.page.Execute(&page, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = page.WriteTo(w)
}

// ask requests the link when the shopper clicks.
func (f *storefront) ask(w http.ResponseWriter, r *http.Request) {
	v, ok := f.visitor(r)
	if !ok {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	link, problem, err := f.portalLink(r.Context(), v.Customer)
	if err != nil || link == "" {
		if err != nil {
			problem = err.Error()
		}
		f.draw(w, map[string]any{"Visitor": v, "Problem": problem})
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, link, http.StatusSeeOther)
}

// portalLink is the storefront server's API call.
func (f *storefront) portalLink(ctx context.Context, customer string) (link, problem string, err error) {
	body := map[string]any{"shopify_customer_id": customer}
	if id, ok := strings.CutPrefix(customer, "recharge:"); ok {
		number, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return "", "", err
		}
		body = map[string]any{"recharge_customer_id": number}
	}
	sent, err := json.Marshal(body)
	if err != nil {
		return "", "", err
	}
	url := f.sandbox.AppURL() + "/api/portal-links"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(sent))
	if err != nil {
		return "", "", err
	}
	request.Header.Set("Authorization", "Bearer "+f.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ URL, Title, Detail string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", "", err
	}
	return answer.URL, answer.Title + ". " + answer.Detail, nil
}

var newKey = regexp.MustCompile(`id="new-key">([^<]+)<`)

// makeKey creates a key as a merchant does in the app home.
func (s *Sandbox) makeKey(ctx context.Context) (string, error) {
	body, err := s.inAppHome(ctx, "/app/keys", url.Values{"name": {"Headless storefront"}})
	if err != nil {
		return "", err
	}
	key := newKey.FindStringSubmatch(body)
	if key == nil {
		return "", fmt.Errorf("make a key for %s: %s", s.kind.shop, body)
	}
	return html.UnescapeString(key[1]), nil
}

// inAppHome posts a form of the app home as its merchant, or reads a part of it if there is no form.
func (s *Sandbox) inAppHome(ctx context.Context, path string, form url.Values) (string, error) {
	method := http.MethodPost
	if form == nil {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, s.AppURL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+s.Store.SessionToken(ClientID))
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), err
}
