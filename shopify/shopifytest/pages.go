package shopifytest

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
)

const (
	newLoginPath    = "/customer_authentication/login"
	legacyLoginPath = "/account/login"
)

// routes are the addresses that the theme links to, with the visit's locale prefix.
type routes struct {
	Root, Account, AccountLogin, Logout, StorefrontLogin, AllProducts string
}

func (s *Server) routes(v visit) routes {
	r := routes{
		Root:            v.root,
		Account:         v.root + "/account",
		AccountLogin:    v.root + legacyLoginPath,
		Logout:          v.root + "/account/logout",
		StorefrontLogin: newLoginPath + "?return_to=" + url.QueryEscape(v.full),
		AllProducts:     v.root + "/collections/all",
	}
	if v.root == "" {
		r.Root = "/"
	}
	if s.opts.Accounts == accountsLegacy {
		r.StorefrontLogin = r.AccountLogin + "?return_url=" + url.QueryEscape(v.full)
	}
	return r
}

// view is what every template of the theme is given.
type view struct {
	Shop     string // name shown
	Title    string
	Language string
	Shopper  *Shopper
	Routes   routes
	App      string // link to the first app, "" if there is none
	Content  template.HTML
	Footer   template.HTML
	Data     any // what one page needs for itself
}

func (s *Server) view(v visit, title string) view {
	got := view{Shop: s.opts.Name, Title: title, Language: v.locale, Shopper: v.shopper, Routes: s.routes(v)}
	if apps := s.installed(); len(apps) > 0 {
		got.App = v.root + apps[0].PathPrefix
	}
	return got
}

// page answers for the store's own pages.
func (s *Server) page(w http.ResponseWriter, r *http.Request, v visit) {
	switch v.path {
	case "/":
		s.themed(w, v, http.StatusOK, "home.html", s.opts.Name, nil)
	case "/collections/all":
		s.themed(w, v, http.StatusOK, "collection.html", "All coffee", nil)
	case "/account":
		s.account(w, v)
	case "/account/logout":
		s.signOut(w, r, v)
	case newLoginPath, legacyLoginPath:
		s.login(w, r, v)
	case "/assets/theme.css":
		s.stylesheet(w, r)
	default:
		s.notFound(w, v)
	}
}

func (s *Server) account(w http.ResponseWriter, v visit) {
	if v.shopper == nil {
		redirect(w, http.StatusFound, v.root+legacyLoginPath)
		return
	}
	s.themed(w, v, http.StatusOK, "account.html", "Account", nil)
}

func (s *Server) notFound(w http.ResponseWriter, v visit) {
	s.themed(w, v, http.StatusNotFound, "not-found.html", "Page not found", nil)
}

func (s *Server) stylesheet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, templates, "templates/theme.css")
}

// themed writes one of the theme's own pages.
func (s *Server) themed(w http.ResponseWriter, v visit, status int, name, title string, data any) {
	content := s.view(v, title)
	content.Data = data
	page, err := s.execute(name, content)
	if err == nil {
		page, err = s.layout(v, title, template.HTML(page)) // escaped by its own template
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // the pages show who is signed in
	w.WriteHeader(status)
	_, _ = w.Write(page) // a browser that has left misses nothing
}

// layout puts content into the theme's frame.
func (s *Server) layout(v visit, title string, content template.HTML) ([]byte, error) {
	frame := s.view(v, title)
	frame.Content = content
	frame.Footer = s.opts.Footer()
	return s.execute("layout.html", frame)
}

func (s *Server) execute(name string, data view) ([]byte, error) {
	var page bytes.Buffer
	if err := s.theme.ExecuteTemplate(&page, name, data); err != nil {
		return nil, fmt.Errorf("draw %s: %w", name, err)
	}
	return page.Bytes(), nil
}
