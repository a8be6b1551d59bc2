package shopifytest

import (
	"bytes"
	"crypto/rand"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	authorizePath = "/authentication/oauth/authorize"
	callbackPath  = "/customer_authentication/callback"
	// The address of the full-page extension. Shopify chooses a UUID for each.
	extensionPath = "/pages/0199a3f0-5b7c-7d20-9c55-3e1f0a6b8d42"
)

// An AccountOpening is a request of a signed-in shopper for a page of the account with something of another app on it.
type AccountOpening struct {
	Shopper Shopper
	Page    string     // "" for the app's full-page extension; "/orders" or "/profile" for its block on Shopify's own page
	Path    string     // what follows the full page's address, "" or "/…"
	Query   url.Values // locale, region_country, …; not to be modified
	At      time.Time  // by Options.Now
}

// accountView is the data of a page on the account host.
type accountView struct {
	Shop, Store, App, Title string
	Button                  string
	Shopper                 *Shopper
	Extension               string // the address of the full-page extension, "" if there is none
	Locale, Country         string // the query's locale and region_country
	Sign                    *signIn
	Content                 template.HTML
}

// AccountPage returns the address of the full-page extension in the account, as the merchant copies it
// from the editor.
func (s *Server) AccountPage() string { return s.AccountURL + extensionPath }

// AccountOpenings returns the requests whose page showed something of another app, oldest first. It keeps
// the newest 1000.
func (s *Server) AccountOpenings() []AccountOpening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.openings)
}

// SetAccounts changes the kind of customer accounts, as when Shopify upgrades a store and when a merchant takes
// that back. Shoppers stay signed in.
func (s *Server) SetAccounts(kind string) {
	checkAccounts(kind)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kind = kind
}

func (s *Server) accounts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kind
}

// handleAccount serves the account host. A store with legacy accounts has none.
func (s *Server) handleAccount(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.running.Done()

	w.Header().Set("Server", "shopifytest")
	path := r.URL.EscapedPath()
	_, inExtension := cutExtension(path)
	shopper := s.signedIn(r, s.accountCookie)
	switch {
	case s.refuseBot(w, r):
	case s.accounts() == accountsLegacy:
		http.NotFound(w, r)
	case path == "/assets/account.css":
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, templates, "templates/modern/theme.css")
	case path == authorizePath:
		s.authorize(w, r, shopper)
	case path == "/logout":
		s.endSessions(w, r)
		redirect(w, http.StatusFound, s.URL+"/")
	case path != "/" && path != "/orders" && path != "/profile" && !inExtension:
		s.accountPage(w, r, http.StatusNotFound, accountView{Title: "Page not found", Shopper: shopper})
	case shopper == nil:
		redirect(w, http.StatusFound, authorizePath+"?"+url.Values{"return_to": {r.URL.RequestURI()}}.Encode())
	case path == "/":
		s.accountPage(w, r, http.StatusOK, accountView{Title: "Your account", Shopper: shopper})
	default:
		s.extended(w, r, *shopper)
	}
}

func cutExtension(path string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, extensionPath)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// extended shows a page with what another app adds to it. Its full page is only there if it adds something.
func (s *Server) extended(w http.ResponseWriter, r *http.Request, shopper Shopper) {
	opening := AccountOpening{Shopper: shopper, Query: r.URL.Query(), At: s.opts.Now()}
	v := accountView{Title: "Subscriptions", Shopper: &shopper}
	switch path := r.URL.EscapedPath(); path {
	case "/orders", "/profile":
		opening.Page, v.Title = path, map[string]string{"/orders": "Orders", "/profile": "Profile"}[path]
	default:
		opening.Path, _ = cutExtension(path)
	}
	if s.opts.AccountPage != nil {
		v.Content = s.opts.AccountPage(opening)
	}
	if v.Content == "" && opening.Page == "" {
		s.accountPage(w, r, http.StatusNotFound, accountView{Title: "Page not found", Shopper: &shopper})
		return
	}
	if v.Content != "" {
		s.mu.Lock()
		s.openings = append(s.openings, opening)
		s.openings = s.openings[max(0, len(s.openings)-historyLimit):]
		s.mu.Unlock()
	}
	s.accountPage(w, r, http.StatusOK, v)
}

// authorize is the sign-in of current accounts. A shopper who came from the storefront goes back there with
// a code; one who came from a page of the account goes back to it.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, shopper *Shopper) {
	query := r.URL.Query()
	back := query.Get("redirect_uri")
	if back != "" && back != s.URL+callbackPath {
		s.accountPage(w, r, http.StatusBadRequest, accountView{Title: "Not an address of this store"})
		return
	}
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		chosen, ok := s.findShopper(r.PostFormValue("customer"))
		if !ok {
			s.accountPage(w, r, http.StatusUnprocessableEntity, accountView{Title: "No such shopper"})
			return
		}
		s.begin(w, r, s.accountCookie, chosen)
		shopper = &chosen
	}
	returnTo := returnPath(query.Get("return_to"), "/")
	switch {
	case shopper == nil:
		shown := returnTo
		if back != "" {
			shown = query.Get("state")
		}
		s.accountPage(w, r, http.StatusOK, accountView{
			Title: "Sign in", Sign: &signIn{Action: r.URL.RequestURI(), ReturnTo: shown, Shoppers: s.opts.Shoppers},
		})
	case back == "":
		redirect(w, http.StatusSeeOther, returnTo)
	default:
		code := rand.Text()
		s.mu.Lock()
		s.codes[code] = *shopper
		s.mu.Unlock()
		redirect(w, http.StatusSeeOther, back+"?"+url.Values{"code": {code}, "state": {query.Get("state")}}.Encode())
	}
}

// authorizeURL is where the storefront sends a shopper to sign in and come back to returnTo.
func (s *Server) authorizeURL(returnTo string) string {
	return s.AccountURL + authorizePath + "?" + url.Values{
		"client_id": {"storefront"}, "response_type": {"code"}, "scope": {"openid email customer-account-api:full"},
		"redirect_uri": {s.URL + callbackPath}, "state": {returnTo},
	}.Encode()
}

// callback signs a shopper in to the storefront by the code from the account host, which works once.
func (s *Server) callback(w http.ResponseWriter, r *http.Request, v visit) {
	code := r.URL.Query().Get("code")
	s.mu.Lock()
	shopper, ok := s.codes[code]
	delete(s.codes, code)
	s.mu.Unlock()
	if !ok || s.accounts() == accountsLegacy {
		s.notFound(w, v)
		return
	}
	s.begin(w, r, s.cookie, shopper)
	redirect(w, http.StatusFound, returnPath(r.URL.Query().Get("state"), "/account"))
}

// accountPage draws a page of the account host.
func (s *Server) accountPage(w http.ResponseWriter, r *http.Request, status int, v accountView) {
	v.Shop, v.Store, v.Button = s.opts.Name, s.URL, "button"
	v.Locale, v.Country = r.URL.Query().Get("locale"), r.URL.Query().Get("region_country")
	v.App = s.view(visit{}, "").App
	if s.opts.AccountPage != nil {
		v.Extension = s.AccountPage()
	}
	var page bytes.Buffer
	if err := s.accountPages.ExecuteTemplate(&page, "account.html", v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // a browser that has gone away needs no answer
}

// refuseBot applies Faults.Bots. It reports whether it has answered.
func (s *Server) refuseBot(w http.ResponseWriter, r *http.Request) bool {
	status := s.Faults().Bots
	if status == 0 || r.Header.Get("Sec-Fetch-Mode") != "" {
		return false
	}
	for _, name := range []string{"Signature", "Signature-Input", "Signature-Agent"} {
		if r.Header.Get(name) == "" {
			http.Error(w, "This store does not serve bots without a signature.", status)
			return true
		}
	}
	return false
}
