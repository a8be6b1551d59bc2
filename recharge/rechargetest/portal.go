package rechargetest

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed templates/*.html
var templateFiles embed.FS

func parsePages() *template.Template {
	return template.Must(template.ParseFS(templateFiles, "templates/*.html"))
}

// portalPage is one of the portal's pages.
type portalPage struct{ path, title, about string }

// portalPages are the pages of the portal; the first menuPages of them are in its menu. A page about one subscription
// is "subscriptions/<id>" or "subscriptions/<id>/cancel".
var portalPages = []portalPage{
	{"overview", "Overview", "What you are subscribed to, at a glance."},
	{"subscriptions", "Subscriptions", "Everything that comes to you regularly."},
	{"schedule", "Delivery schedule", "What comes next, in the order in which it comes."},
	{"orders", "Orders", "Past orders would be listed here. This emulator keeps none."},
	{"addresses", "Addresses", "Delivery addresses would be listed here. This emulator keeps none."},
	{"payment_methods", "Payment methods", "Cards would be listed here. This emulator keeps none."},
	{"delivery_schedule", "Delivery schedule", "The older address of the delivery schedule."},
	{"payment_source", "Payment source", "The older address of the payment methods."},
	{"customer", "Account details", "Name and e-mail address, as Recharge has them."},
	{"products", "Products", "What else could be subscribed to. This emulator sells nothing."},
	{"memberships", "Memberships", "Memberships would be listed here. This emulator keeps none."},
}

const menuPages = 6

// visit is a request for a portal page, in either portal.
type visit struct {
	prefix string // of all links in the portal: "/portal/" here, "<path_prefix>/portal/" on a storefront
	hash   string
	page   string // the path after the hash
	query  url.Values
	task   bool   // a page for a task, beside the portal
	back   string // where that leads back to; "" nowhere
}

// link returns the address of another page of the same portal. It keeps the token, as Recharge's themes do.
func (v visit) link(page string) string {
	address := v.prefix + url.PathEscape(v.hash) + "/" + page
	if q := linkQuery(v.query.Get("token"), v.query.Get("locale")); q != "" {
		address += "?" + q
	}
	return address
}

// view is the template's data.
type view struct {
	State         string // open, closed, none (no subscriptions), account (it is Unity's) or missing (no such page)
	Lang, Locale  string
	Title, About  string
	Name, Email   string
	Page, How     string
	Menu          []menuLink
	Lists         bool               // the page lists subscriptions
	Subscriptions []subscriptionView // those it lists
	Chosen        *subscriptionView  // the subscription that the page is about
	Cancel        bool               // the page is about cancelling it
	Lost          bool               // the page is about a subscription that the customer does not have
	AllURL        string
	BackURL       string // where a page for a task leads back to
}

type menuLink struct {
	Title, URL string
	Current    bool
}

type subscriptionView struct {
	ID                      int64
	Product, URL, CancelURL string
}

// serveHosted answers for the portal that Recharge hosts itself.
func (s *Server) serveHosted(w http.ResponseWriter, r *http.Request, path []string) {
	pageHeaders(w)
	if !readOnly(w, r) {
		return
	}
	if shown, status, ok := s.moved("http://" + r.Host + "/portal/"); ok {
		s.render(w, status, shown)
		return
	}
	path = trimSlash(path)
	if len(path) == 0 {
		s.render(w, http.StatusNotFound, missingView())
		return
	}
	v := visit{prefix: "/portal/", hash: path[0], page: pagePath(path[1:]), query: r.URL.Query()}
	if !s.openByToken(w, r, v) {
		s.renderClosed(w, v)
	}
}

// openByToken opens the page if the visit has a live token of the customer whose hash it names.
func (s *Server) openByToken(w http.ResponseWriter, r *http.Request, v visit) bool {
	now := s.opts.Now()
	s.mu.Lock()
	id, live := s.links.live(v.query.Get("token"), now)
	s.mu.Unlock()
	if !live {
		return false
	}
	customer, ok := s.customerByID(id)
	if !ok || customer.Hash != v.hash {
		return false
	}
	if _, ok := openView(v, customer); ok && !s.beginVisit(w, r, v.query.Get("token")) {
		return false
	}
	s.open(w, r, v, customer, HowToken)
	return true
}

// open shows the page to the customer and records it as opened.
func (s *Server) open(w http.ResponseWriter, r *http.Request, v visit, customer Customer, how string) {
	shown, ok := openView(v, customer)
	if !ok {
		s.render(w, http.StatusNotFound, missingView())
		return
	}
	shown.How = how
	if r.Method == http.MethodGet {
		s.mu.Lock()
		s.openings.add(Opening{Customer: customer, Page: v.page, How: how, Locale: v.query.Get("locale"), At: s.opts.Now()})
		s.mu.Unlock()
	}
	s.render(w, http.StatusOK, shown)
}

// renderClosed shows the page that Recharge shows to unknown visitors: 200, and a form.
func (s *Server) renderClosed(w http.ResponseWriter, v visit) {
	if _, ok := openView(v, Customer{}); !ok {
		s.render(w, http.StatusNotFound, missingView())
		return
	}
	s.render(w, http.StatusOK, closedView(v.query))
}

func closedView(query url.Values) view {
	return view{State: "closed", Title: "Enter your e-mail to get a link", Locale: query.Get("locale")}
}

func missingView() view { return view{State: "missing", Title: "No such page"} }

func nobodyView() view { return view{State: "none", Title: "You have no subscriptions"} }

// openView returns the view of the page for the customer, and whether there is such a page.
func openView(v visit, c Customer) (view, bool) {
	shown := view{
		State: "open", Locale: v.query.Get("locale"), Name: c.Name(), Email: c.Email,
		Page: v.page, AllURL: v.link("subscriptions"),
	}
	head, rest, deeper := strings.Cut(v.page, "/")
	for _, p := range portalPages[:menuPages] {
		shown.Menu = append(shown.Menu, menuLink{p.title, v.link(p.path), p.path == head})
	}
	if v.task {
		return shown, shown.openTask(v, c)
	}
	if deeper {
		id, ok := subscriptionID(head, rest)
		if !ok {
			return view{}, false
		}
		shown.choose(v, c, id, strings.HasSuffix(rest, "/cancel"))
		return shown, true
	}
	i := slices.IndexFunc(portalPages, func(p portalPage) bool { return p.path == v.page })
	if i < 0 {
		return view{}, false
	}
	shown.Title, shown.About = portalPages[i].title, portalPages[i].about
	lists := []string{"overview", "subscriptions", "schedule", "delivery_schedule"}
	if shown.Lists = slices.Contains(lists, v.page); shown.Lists {
		for _, sub := range c.Subscriptions {
			shown.Subscriptions = append(shown.Subscriptions, v.subscription(sub))
		}
	}
	return shown, true
}

// subscriptionID reads the number from "subscriptions/<id>" or "subscriptions/<id>/cancel", cut at its first slash.
func subscriptionID(head, rest string) (int64, bool) {
	id, err := strconv.ParseUint(strings.TrimSuffix(rest, "/cancel"), 10, 63)
	return int64(id), head == "subscriptions" && err == nil
}

// choose turns the view into one about a single subscription.
func (shown *view) choose(v visit, c Customer, id int64, cancel bool) {
	shown.Title, shown.Cancel = "Subscription", cancel
	if cancel {
		shown.Title = "Cancel a subscription"
	}
	i := slices.IndexFunc(c.Subscriptions, func(sub Subscription) bool { return sub.ID == id })
	if shown.Lost = i < 0; !shown.Lost {
		chosen := v.subscription(c.Subscriptions[i])
		shown.Chosen = &chosen
	}
}

func (v visit) subscription(sub Subscription) subscriptionView {
	page := "subscriptions/" + strconv.FormatInt(sub.ID, 10)
	return subscriptionView{sub.ID, sub.Product, v.link(page), v.link(page + "/cancel")}
}

var languageTag = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)

func (s *Server) render(w http.ResponseWriter, status int, shown view) {
	shown.Lang = "en" // the pages are in English for every locale
	if !languageTag.MatchString(shown.Locale) {
		shown.Locale = ""
	}
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, "portal.html", shown); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the browser may have gone away
}

// pageHeaders keeps a page's address, which holds a token, out of caches, Referer headers and search engines.
func pageHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("X-Content-Type-Options", "nosniff")
}

func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

func trimSlash(path []string) []string {
	if n := len(path); n > 0 && path[n-1] == "" {
		return path[:n-1]
	}
	return path
}

// pagePath returns the part of a portal's path after the hash, or the default page if there is none.
func pagePath(path []string) string {
	if len(path) == 0 {
		return DefaultPage
	}
	return strings.Join(path, "/")
}
