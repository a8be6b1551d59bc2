package shopifytest

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// signIn is the data of the sign-in page.
type signIn struct {
	Action   string // where the form goes
	ReturnTo string
	Shoppers []Shopper
}

// cookieName includes the port, since browsers share cookies between ports and a test may run two stores.
func cookieName(host string, addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return host + "_session"
	}
	return host + "_session_" + port
}

// login serves both sign-in addresses. With current accounts, the form is on the account host.
func (s *Server) login(w http.ResponseWriter, r *http.Request, v visit) {
	account := v.root + "/account"
	legacy := s.accounts() == accountsLegacy
	switch {
	case v.path == newLoginPath && (legacy || v.root != ""):
		// Stores with legacy accounts have no such page, and it reportedly does not exist under a locale prefix.
		s.notFound(w, v)
	case v.path == newLoginPath && v.shopper == nil && r.Method != http.MethodPost:
		redirect(w, http.StatusFound, s.authorizeURL(returnPath(r.URL.Query().Get("return_to"), account)))
	case v.path == newLoginPath:
		s.signInForm(w, r, v, returnPath(r.URL.Query().Get("return_to"), account))
	case legacy:
		s.signInForm(w, r, v, returnPath(r.URL.Query().Get("return_url"), account))
	default:
		redirect(w, http.StatusFound, newLoginPath+"?return_to="+url.QueryEscape(account))
	}
}

func (s *Server) signInForm(w http.ResponseWriter, r *http.Request, v visit, returnTo string) {
	if r.Method == http.MethodPost {
		s.signIn(w, r, v)
		return
	}
	if v.shopper != nil {
		redirect(w, http.StatusFound, returnTo)
		return
	}
	s.themed(w, v, http.StatusOK, "sign-in.html", "Sign in", signIn{
		Action:   v.full,
		ReturnTo: returnTo,
		Shoppers: s.opts.Shoppers,
	})
}

// signIn starts a session for the shopper named in the form, also on the account host if there is one.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, v visit) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	shopper, ok := s.findShopper(r.PostFormValue("customer"))
	if !ok {
		s.themed(w, v, http.StatusUnprocessableEntity, "not-found.html", "No such shopper", nil)
		return
	}
	s.begin(w, r, s.cookie, shopper)
	if s.accounts() != accountsLegacy {
		s.begin(w, r, s.accountCookie, shopper)
	}
	redirect(w, http.StatusSeeOther, returnPath(r.PostFormValue("return_to"), v.root+"/account"))
}

// begin starts a session, with a new ID, in place of the request's.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, cookie string, shopper Shopper) {
	s.forget(r, cookie)
	id := rand.Text()
	s.mu.Lock()
	s.sessions[id] = shopper
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request, v visit) {
	s.endSessions(w, r)
	to := s.routes(v).Root
	if s.opts.Accounts == accountsLegacy {
		to = returnPath(r.URL.Query().Get("return_url"), to)
	}
	redirect(w, http.StatusFound, to)
}

// endSessions signs a shopper out of the storefront and of the account.
func (s *Server) endSessions(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{s.cookie, s.accountCookie} {
		s.forget(r, name)
		http.SetCookie(w, &http.Cookie{Name: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
	}
}

func (s *Server) findShopper(id string) (Shopper, bool) {
	for _, shopper := range s.opts.Shoppers {
		if shopper.ID == id {
			return shopper, true
		}
	}
	return Shopper{}, false
}

// signedIn returns the shopper of the request's session, or nil.
func (s *Server) signedIn(r *http.Request, name string) *Shopper {
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	shopper, ok := s.sessions[cookie.Value]
	if !ok {
		return nil
	}
	return &shopper
}

// forget ends the request's session, if it has one.
func (s *Server) forget(r *http.Request, name string) {
	cookie, err := r.Cookie(name)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, cookie.Value)
}

// returnPath returns asked if it stays on this store, otherwise fallback.
func returnPath(asked, fallback string) string {
	// Browsers read "//host" and "/\host" as another host, and drop tabs and line breaks first.
	relative := strings.HasPrefix(asked, "/") && !strings.HasPrefix(asked, "//") && !strings.ContainsFunc(asked, notInPath)
	if !relative {
		return fallback
	}
	return asked
}

func notInPath(c rune) bool {
	return c == '\\' || c < ' ' || c == 0x7f
}

// redirect sets Location by hand, because http.Redirect would clean the path and lose a shopper's "//".
func redirect(w http.ResponseWriter, status int, location string) {
	w.Header().Set("Location", asciiOnly(location))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
}

// asciiOnly percent-encodes bytes that a header may not contain.
func asciiOnly(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		if b > ' ' && b < 0x7f {
			out.WriteByte(b)
			continue
		}
		fmt.Fprintf(&out, "%%%02X", b)
	}
	return out.String()
}
