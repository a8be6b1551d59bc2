package shopifytest

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const sessionTokenLife = time.Minute

// A PartnerApp is an app as its developer configured it, in the Dev Dashboard or in
// shopify.app.toml. The admin knows it, and the merchant may install it.
type PartnerApp struct {
	ClientID, Secret string
	OldSecret        string // the one before rotation, still accepted
	Name             string
	AppURL           string // application_url, the app home
	Scopes           string // "write_app_proxy"
	Embedded         bool   // opens in the admin's frame with a session token
	PathPrefix       string // of the app proxy, see App.PathPrefix
	ProxyURL         string // of the app proxy, see App.ProxyURL
	Webhooks         string // address for app/uninstalled and the compliance topics; "" for none
}

// partner is an app that the admin knows.
type partner struct {
	PartnerApp
	Installed bool
}

// Register makes an app known to the store without installing it. It panics if Shopify would reject
// PathPrefix.
func (s *Server) Register(app PartnerApp) {
	if !validPathPrefix(app.PathPrefix) {
		panic(fmt.Sprintf("shopifytest: PartnerApp.PathPrefix is %q, not one that Shopify would take", app.PathPrefix))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partners = append(s.partners, &partner{PartnerApp: app})
}

// partner finds a known app.
func (s *Server) partner(clientID string) *partner {
	for _, p := range s.partners {
		if p.ClientID == clientID {
			return p
		}
	}
	return nil
}

// Install installs an app like the button, so its proxy path becomes live. It panics if the app is not known.
func (s *Server) Install(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partner(clientID)
	if p == nil {
		panic("shopifytest: no such app: " + clientID)
	}
	if p.Installed {
		return
	}
	p.Installed = true
	// Put it before apps added by AddApp, because menus link to the first app.
	app := App{PathPrefix: p.PathPrefix, ProxyURL: p.ProxyURL, Secret: p.Secret, OldSecret: p.OldSecret}
	s.apps = append([]App{app}, s.apps...)
}

// Uninstall removes an app like the button, and sends it app/uninstalled. RedactShop sends the
// webhook that follows two days later.
func (s *Server) Uninstall(clientID string) {
	s.mu.Lock()
	p := s.partner(clientID)
	if p == nil || !p.Installed {
		s.mu.Unlock()
		return
	}
	p.Installed = false
	s.metafields = nil
	s.apps = slices.DeleteFunc(slices.Clone(s.apps), func(a App) bool {
		return a.PathPrefix == p.PathPrefix && a.ProxyURL == p.ProxyURL
	})
	app := p.PartnerApp
	s.mu.Unlock()
	s.sendWebhook(app, "app/uninstalled", map[string]any{
		"id": shopID, "name": s.opts.Name, "email": s.opts.Email, "domain": strings.TrimPrefix(s.URL, "http://"),
		"myshopify_domain": s.opts.Shop,
	})
}

// Installed reports whether an app is installed.
func (s *Server) Installed(clientID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partner(clientID)
	return p != nil && p.Installed
}

// SessionToken returns the token that App Bridge would get for an app, installed or not. change may edit its claims.
func (s *Server) SessionToken(clientID string, change ...func(jwt.MapClaims)) string {
	s.mu.Lock()
	p := s.partner(clientID)
	s.mu.Unlock()
	if p == nil {
		panic("shopifytest: no such app: " + clientID)
	}
	now := s.opts.Now().Unix()
	claims := jwt.MapClaims{
		"iss": "https://" + s.opts.Shop + "/admin", "dest": "https://" + s.opts.Shop, "aud": clientID, "sub": staffID,
		"iat": now, "nbf": now, "exp": now + int64(sessionTokenLife/time.Second), "jti": randomID(), "sid": randomID(),
	}
	for _, edit := range change {
		edit(claims)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(p.Secret))
	if err != nil {
		panic("shopifytest: sign session token: " + err.Error())
	}
	return token
}

// The same in every store, since no app reads them.
const (
	shopID  = 954889
	staffID = "42"
)

// adminView is the data of every page of the admin.
type adminView struct {
	Shop, Handle, Name string
	Title, Here        string
	Content            template.HTML
	Data               any
}

// admin serves the routes below /admin.
func (s *Server) admin(w http.ResponseWriter, r *http.Request) {
	if err := s.sameOrigin.Check(r); err != nil {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	s.adminRoutes.ServeHTTP(w, r)
}

func (s *Server) routesOfAdmin() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /admin", s.adminHome)
	m.HandleFunc("GET /admin/apps/{id}", s.adminApp)
	m.HandleFunc("GET /admin/apps/{id}/{page...}", s.adminApp)
	m.HandleFunc("POST /admin/apps/{id}/session-token", s.adminToken)
	m.HandleFunc("POST /admin/apps/{id}/graphql", s.adminAPI)
	m.HandleFunc("POST /admin/apps/{id}/uninstall", s.adminUninstall)
	m.HandleFunc("GET /admin/customers", s.adminCustomers)
	m.HandleFunc("POST /admin/customers/{customer}/{what}", s.adminPrivacy)
	m.HandleFunc("POST /admin/redact", s.adminPrivacy)
	m.HandleFunc("GET /admin/webhooks", s.adminWebhooks)
	m.HandleFunc("GET /admin/themes/current/editor", s.adminEditor)
	m.HandleFunc("GET /admin/oauth/install", s.adminConsent)
	m.HandleFunc("POST /admin/oauth/install", s.adminInstall)
	m.HandleFunc("GET /store/{handle}/oauth/install", s.installLink)
	m.HandleFunc("POST /store/{handle}/oauth/install", s.adminInstall)
	m.HandleFunc("GET /admin/", func(w http.ResponseWriter, _ *http.Request) {
		s.adminPage(w, http.StatusNotFound, "nothing.html", "There is nothing here", "", nil)
	})
	return m
}

func (s *Server) adminPage(w http.ResponseWriter, status int, name, title, here string, data any) {
	view := adminView{
		Shop: s.opts.Shop, Handle: strings.TrimSuffix(s.opts.Shop, ".myshopify.com"), Name: s.opts.Name,
		Title: title, Here: here, Data: data,
	}
	var content, page bytes.Buffer
	err := s.adminPages.ExecuteTemplate(&content, name, view)
	if err == nil {
		view.Content = template.HTML(content.String()) // escaped by its own template
		err = s.adminPages.ExecuteTemplate(&page, "layout.html", view)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // a browser that has gone away needs no answer
}

func (s *Server) known() []partner {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []partner
	for _, p := range s.partners {
		all = append(all, partner{PartnerApp: p.PartnerApp, Installed: p.Installed})
	}
	return all
}

func (s *Server) adminHome(w http.ResponseWriter, _ *http.Request) {
	s.adminPage(w, http.StatusOK, "apps.html", "Apps", "apps", s.known())
}

// find returns a known app. If the app is not known, it answers with a 404 page and returns false.
func (s *Server) find(w http.ResponseWriter, id string) (partner, bool) {
	for _, p := range s.known() {
		if p.ClientID == id {
			return p, true
		}
	}
	s.adminPage(w, http.StatusNotFound, "nothing.html", "No such app", "", nil)
	return partner{}, false
}

// adminApp serves the page with the app's frame, which loads the app's home or another page of it.
func (s *Server) adminApp(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r.PathValue("id"))
	switch {
	case !ok:
		return
	case !p.Installed:
		redirect(w, http.StatusSeeOther, "/admin/oauth/install?client_id="+url.QueryEscape(p.ClientID))
		return
	case !p.Embedded:
		redirect(w, http.StatusSeeOther, strings.TrimSuffix(p.AppURL, "/")+"/?"+s.signedLoad(p.PartnerApp, nil))
		return
	}
	query := url.Values{"embedded": {"1"}, "session": {randomID()}, "locale": {cmp.Or(r.URL.Query().Get("locale"), "en")}}
	if r.URL.Query().Get("first") != "bare" && !s.Faults().NoIDToken {
		query.Set("id_token", s.SessionToken(p.ClientID))
	}
	app, err := url.Parse(p.AppURL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	page := strings.TrimSuffix(p.AppURL, "/") + "/" + r.PathValue("page")
	s.adminPage(w, http.StatusOK, "app.html", p.Name, "apps", map[string]any{
		"App": p, "Source": page + "?" + s.signedLoad(p.PartnerApp, query),
		"Origin": app.Scheme + "://" + app.Host, "Root": strings.TrimSuffix(app.Path, "/"),
		"DirectAPI": !s.Faults().NoDirectAPI,
	})
}

// host returns the parameter that App Bridge finds the admin by: its address without the scheme, in base64.
func (s *Server) host() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.TrimPrefix(s.URL, "http://") + "/admin"))
}

// signedLoad returns the query that loads the app's own address: more, and the parameters that Shopify adds.
func (s *Server) signedLoad(app PartnerApp, more url.Values) string {
	query := url.Values{"shop": {s.opts.Shop}, "host": {s.host()}, "timestamp": {fmt.Sprint(s.opts.Now().Unix())}}
	for name, values := range more {
		query[name] = values
	}
	query.Set("hmac", loadHMAC(app.Secret, query))
	return query.Encode()
}

// loadHMAC signs the query of the app's own addresses as Shopify does: all parameters, sorted and joined unescaped.
func loadHMAC(secret string, query url.Values) string {
	var pairs []string
	for name, values := range query {
		pairs = append(pairs, name+"="+strings.Join(values, ","))
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.Join(pairs, "&")))
	return hex.EncodeToString(mac.Sum(nil))
}

func randomID() string { return strings.ToLower(rand.Text()) }

// adminToken gives a session token to the page around the frame, which passes it on to App Bridge.
func (s *Server) adminToken(w http.ResponseWriter, r *http.Request) {
	if !s.Installed(r.PathValue("id")) {
		http.Error(w, "not installed", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": s.SessionToken(r.PathValue("id"))})
}

func (s *Server) adminConsent(w http.ResponseWriter, r *http.Request) {
	if p, ok := s.find(w, r.URL.Query().Get("client_id")); ok {
		data := map[string]any{"App": p, "Action": r.URL.RequestURI()}
		s.adminPage(w, http.StatusOK, "consent.html", "Install "+p.Name, "apps", data)
	}
}

// installLink serves the address that the app's own site links to. It opens the app if it is installed.
func (s *Server) installLink(w http.ResponseWriter, r *http.Request) {
	if id := r.URL.Query().Get("client_id"); s.Installed(id) {
		redirect(w, http.StatusSeeOther, "/admin/apps/"+id)
		return
	}
	s.adminConsent(w, r)
}

func (s *Server) adminInstall(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r.URL.Query().Get("client_id"))
	if !ok {
		return
	}
	s.Install(p.ClientID)
	redirect(w, http.StatusSeeOther, "/admin/apps/"+p.ClientID)
}

func (s *Server) adminUninstall(w http.ResponseWriter, r *http.Request) {
	s.Uninstall(r.PathValue("id"))
	redirect(w, http.StatusSeeOther, "/admin")
}

func (s *Server) adminCustomers(w http.ResponseWriter, _ *http.Request) {
	s.adminPage(w, http.StatusOK, "customers.html", "Customers", "customers", s.opts.Shoppers)
}

// adminPrivacy sends the webhook for a customer's privacy request, or the one due two days after the uninstall.
func (s *Server) adminPrivacy(w http.ResponseWriter, r *http.Request) {
	switch r.PathValue("what") {
	case "redact":
		s.Redact(r.PathValue("customer"))
	case "data_request":
		s.RequestData(r.PathValue("customer"))
	case "":
		s.RedactShop()
	default:
		http.NotFound(w, r)
		return
	}
	redirect(w, http.StatusSeeOther, "/admin/webhooks")
}

func (s *Server) adminWebhooks(w http.ResponseWriter, _ *http.Request) {
	deliveries := s.WebhookDeliveries()
	slices.Reverse(deliveries)
	s.adminPage(w, http.StatusOK, "webhooks.html", "Webhooks", "webhooks", deliveries)
}

// adminEditor stands in for the theme editor. It shows what a deep link asked for.
func (s *Server) adminEditor(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	app, block, _ := strings.Cut(query.Get("addAppBlockId")+query.Get("activateAppId"), "/")
	name := ""
	for _, p := range s.known() {
		if p.ClientID == app {
			name = p.Name
		}
	}
	s.adminPage(w, http.StatusOK, "editor.html", "Theme editor", "theme", map[string]any{
		"App": name, "Block": block, "Template": query.Get("template"), "Embed": query.Has("activateAppId"),
	})
}

// shopifyScript serves what Shopify's CDN has for pages in the admin. Both versions of Polaris are the same.
func shopifyScript(w http.ResponseWriter, r *http.Request) {
	file := path.Base(r.URL.Path)
	switch file {
	case "app-bridge.js":
	case "polaris-1.js", "polaris-2.js":
		file = "polaris.js"
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, templates, "templates/admin/"+file)
}
