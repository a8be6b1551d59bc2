package shopifytest

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

const (
	newLoginPath    = "/customer_authentication/login"
	legacyLoginPath = "/account/login"
)

// routes are the addresses that the theme links to, with the visit's locale prefix.
type routes struct {
	Root, Account, Addresses, AccountLogin, Logout, StorefrontLogin, AllProducts string
}

func (s *Server) routes(v visit) routes {
	r := routes{
		Root:            v.root,
		Account:         v.root + "/account",
		Addresses:       v.root + "/account/addresses",
		AccountLogin:    v.root + legacyLoginPath,
		Logout:          v.root + "/account/logout",
		StorefrontLogin: newLoginPath + "?return_to=" + url.QueryEscape(v.full),
		AllProducts:     v.root + "/collections/all",
	}
	if v.root == "" {
		r.Root = "/"
	}
	if s.accounts() == accountsLegacy {
		r.StorefrontLogin = r.AccountLogin + "?return_url=" + url.QueryEscape(v.full)
	}
	return r
}

// view is the data of every template of the theme.
type view struct {
	Shop      string // the name shown
	Title     string
	Language  string
	Direction string            // "rtl", or "" for left to right
	Scheme    string            // the forced colours, or ""
	InEnglish template.HTMLAttr // marks the theme's own words where the page is in another language
	Button    string            // the class of a button in this theme
	Shopper   *Shopper
	Routes    routes
	App       string // link to the first app, "" if there is none
	Blocks    []template.HTML
	Head      template.HTML // the extension's addition to the head
	Embeds    template.HTML // the extension's addition to the end of the body
	Content   template.HTML
	Data      any // what only this page needs
}

func (s *Server) view(v visit, title string) view {
	got := view{
		Shop: s.opts.Name, Title: title, Language: v.locale, Direction: direction(v.locale), Scheme: v.scheme,
		Button: "button", Shopper: v.shopper, Routes: s.routes(v),
	}
	if s.opts.Theme == themeClassic {
		got.Button = "btn"
	}
	if v.locale != english {
		got.InEnglish = ` lang="en"`
	}
	for _, app := range s.installed() {
		if !app.NoLink {
			got.App = v.root + app.PathPrefix
			break
		}
	}
	return got
}

// direction returns "rtl" for languages that are written from right to left.
func direction(locale string) string {
	switch language, _, _ := strings.Cut(locale, "-"); language {
	case "ar", "fa", "he", "ur":
		return "rtl"
	}
	return ""
}

// page serves the store's own pages.
func (s *Server) page(w http.ResponseWriter, r *http.Request, v visit) {
	if s.refuseBot(w, r) {
		return
	}
	switch v.path {
	case "/":
		s.themed(w, v, http.StatusOK, "home.html", s.opts.Name, nil)
	case "/collections/all":
		s.themed(w, v, http.StatusOK, "collection.html", "All coffee", nil)
	case "/account":
		s.account(w, v, s.accountTemplate(), "Account")
	case "/account/addresses":
		s.account(w, v, "addresses.html", "Addresses")
	case "/account/logout":
		s.signOut(w, r, v)
	case newLoginPath, legacyLoginPath:
		s.login(w, r, v)
	case callbackPath:
		s.callback(w, r, v)
	case "/assets/theme.css":
		s.stylesheet(w, r)
	default:
		if strings.HasPrefix(v.path, assetPath) {
			s.asset(w, r, v)
			return
		}
		s.notFound(w, v)
	}
}

// accountTemplate returns the classic theme's own template, which Shopify only uses with legacy
// accounts. Otherwise the page stands in for Shopify's account pages.
func (s *Server) accountTemplate() string {
	if s.opts.Theme == themeClassic && s.accounts() == accountsLegacy {
		return "customers-account.html"
	}
	return "account.html"
}

func (s *Server) account(w http.ResponseWriter, v visit, name, title string) {
	if v.shopper == nil {
		redirect(w, http.StatusFound, v.root+legacyLoginPath)
		return
	}
	s.themed(w, v, http.StatusOK, name, title, nil)
}

func (s *Server) notFound(w http.ResponseWriter, v visit) {
	s.themed(w, v, http.StatusNotFound, "not-found.html", "Page not found", nil)
}

func (s *Server) stylesheet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, templates, "templates/"+s.opts.Theme+"/theme.css")
}

// pageType returns request.page_type of one of the theme's own pages, or nil where Shopify
// documents none.
func pageType(name string) any {
	switch name {
	case "home.html":
		return "index"
	case "collection.html":
		return "collection"
	case "account.html", "customers-account.html":
		return "customers/account"
	case "addresses.html":
		return "customers/addresses"
	case "sign-in.html":
		return "customers/login"
	case "not-found.html":
		return "404"
	}
	return nil
}

// themed writes one of the theme's own pages.
func (s *Server) themed(w http.ResponseWriter, v visit, status int, name, title string, data any) {
	d := s.newDrawing(v, pageType(name))
	content := s.view(v, title)
	content.Blocks = d.blocks(v.path)
	content.Data = data
	page, err := s.execute(name, content)
	if err == nil {
		page, err = s.layout(d, title, template.HTML(page)) // escaped by its own template
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // the pages show who is signed in
	w.WriteHeader(status)
	_, _ = w.Write(page) // a browser that has gone away needs no answer
}

// layout puts content into the theme's frame.
func (s *Server) layout(d *drawing, title string, content template.HTML) ([]byte, error) {
	frame := s.view(d.visit, title)
	frame.Content = content
	frame.Head, frame.Embeds = d.embeds()
	frame.Head = d.head() + frame.Head // after all blocks are drawn, so that their assets are known
	return s.execute("layout.html", frame)
}

func (s *Server) execute(name string, data view) ([]byte, error) {
	var page bytes.Buffer
	if err := s.theme.ExecuteTemplate(&page, name, data); err != nil {
		return nil, fmt.Errorf("draw %s: %w", name, err)
	}
	return page.Bytes(), nil
}
