package sandbox

import (
	"bytes"
	"cmp"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

//go:embed gallery.html account_page.html
var galleryHTML embed.FS

// gallery shows every state in every language, width and colour scheme.
type gallery struct {
	sandbox *Sandbox
	pages   *templates.Pages
	admin   *templates.Admin
	page    *template.Template
}

func newGallery(s *Sandbox) (*gallery, error) {
	page, err := template.ParseFS(galleryHTML, "*.html")
	if err != nil {
		return nil, err
	}
	return &gallery{s, templates.Load(), templates.LoadAdmin(), page}, nil
}

type row struct {
	State state
	Views []view
}

type view struct{ Language, Width, Title, Caption, URL string }

// index serves the gallery itself. ?language= is a code or "all", ?state= selects one state.
func (g *gallery) index(w http.ResponseWriter, r *http.Request) {
	language := r.URL.Query().Get("language")
	if language == "" {
		language = "en"
	}
	var rows []row
	for _, state := range states() {
		if asked := r.URL.Query().Get("state"); asked == "" || asked == state.Name {
			rows = append(rows, row{state, g.views(state, language)})
		}
	}
	var out bytes.Buffer
	err := g.page.ExecuteTemplate(&out, "gallery.html", map[string]any{
		"Store":     g.sandbox.kind.name,
		"Theme":     g.sandbox.kind.theme,
		"Others":    g.sandbox.others(),
		"Languages": g.pages.Languages(),
		"Language":  language,
		"States":    states(),
		"State":     r.URL.Query().Get("state"),
		"Rows":      rows,
	})
	g.write(w, out.Bytes(), err)
}

func (g *gallery) views(state state, language string) (views []view) {
	schemes := []string{"light", "dark"}
	if state.isAdmin() { // which looks as the browser's own preference, and has fewer languages
		schemes = []string{""}
	}
	if language == "all" {
		for _, code := range g.pages.Languages() {
			if !state.isAdmin() || g.inAdmin(code) {
				views = append(views, newView(state, code, "narrow", schemes[0]))
			}
		}
		return views
	}
	for _, width := range []string{"narrow", "wide"} {
		for _, scheme := range schemes {
			views = append(views, newView(state, language, width, scheme))
		}
	}
	return views
}

// inAdmin reports whether the app home has a language.
func (g *gallery) inAdmin(language string) bool {
	_, err := fs.Stat(g.admin.Files, "admin/locales/"+language+".json")
	return err == nil
}

func newView(state state, language, width, scheme string) view {
	caption := strings.TrimSuffix(width+", "+scheme, ", ")
	query := url.Values{"state": {state.Name}, "language": {language}, "scheme": {scheme}}
	title := state.Label + ", " + language + ", " + caption
	return view{language, width, title, caption, "/sandbox/page?" + query.Encode()}
}

// show draws one state: ?state=, ?language= and ?scheme=light or dark.
func (g *gallery) show(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	all := states()
	i := slices.IndexFunc(all, func(s state) bool { return s.Name == query.Get("state") })
	if i < 0 || !slices.Contains(g.pages.Languages(), query.Get("language")) {
		http.NotFound(w, r)
		return
	}
	if to := g.elsewhere(all[i], query, r.Header.Get("Sec-Fetch-Dest") == "iframe"); to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		return
	}
	body, err := g.draw(all[i], query.Get("language"), query.Get("scheme"))
	g.write(w, body, err)
}

// elsewhere returns the address of a page that the store or the server draws itself, or "". Nothing may frame the
// admin, so a frame shows the app home alone.
func (g *gallery) elsewhere(state state, query url.Values, framed bool) string {
	language := query.Get("language")
	switch {
	case state.path != "":
		return localePath(language) + state.path + "?preview_scheme=" + url.QueryEscape(query.Get("scheme"))
	case state.appHome == "":
		return ""
	case !framed:
		return "/admin/apps/" + ClientID + state.appHome + "?" + url.Values{"locale": {language}}.Encode()
	}
	load := url.Values{
		"embedded": {"1"}, "shop": {g.sandbox.Shop()}, "locale": {language},
		"id_token": {g.sandbox.Store.SessionToken(ClientID)},
	}
	return g.sandbox.AppURL() + state.appHome + "?" + load.Encode()
}

// localePath returns the path prefix of the store's pages in a language. English has none.
func localePath(language string) string {
	if language == "en" {
		return ""
	}
	return "/" + strings.ToLower(language)
}

func (g *gallery) draw(state state, language, scheme string) ([]byte, error) {
	switch {
	case state.admin != "":
		return g.drawAdmin(state.admin, language)
	case state.account != nil:
		return g.drawAccount(*state.account, language, scheme)
	case state.outcome == "":
		return g.forward(language, scheme)
	case state.own != nil:
		page := *state.own
		page.RequestID, page.Languages = "k3vq7m2xwa", language
		if page.Home != "" {
			page.Home, page.Store, page.Email = g.sandbox.Store.URL+"/", g.sandbox.kind.name, g.sandbox.kind.email
		}
		body, err := g.pages.Own(state.outcome, page)
		return recolour(body, scheme, `href="?"`, `href="`+g.sandbox.path+`"`), err
	}
	page := templates.Page{
		RequestID: "k3vq7m2xwa", Path: g.sandbox.path, Again: g.sandbox.path + "?ms_tried=1",
		First:  cmp.Or(state.first, templates.WayAgain),
		SignIn: "/customer_authentication/login?return_to=", Return: url.QueryEscape(g.sandbox.path + "?ms_returned=1"),
	}
	if g.sandbox.kind.accounts == "legacy" {
		page.SignIn = "/account/login?return_url="
	}
	if state.byEmail {
		page.ByEmail = portalPath + "/get-subscription-access"
	}
	source, err := g.pages.Liquid(state.outcome, page)
	if err != nil {
		return nil, err
	}
	look := shopifytest.Look{Locale: language, Scheme: scheme, Path: g.sandbox.path}
	for _, shopper := range shoppers() {
		if shopper.ID == state.shopper {
			look.Shopper = &shopper
		}
	}
	return g.sandbox.Store.Draw(look, source)
}

// drawAdmin returns a page that merchants see instead of the app home, without its scripts.
func (g *gallery) drawAdmin(name, language string) ([]byte, error) {
	var out bytes.Buffer
	err := g.admin.Draw(&out, language, name, map[string]any{
		"Base": g.sandbox.AppURL(), "ClientID": ClientID, "AppBridge": "", "Home": "", "Problem": "",
		"Unread": false, "Connected": true, "Contact": (*url.URL)(nil),
	})
	return recolour(out.Bytes(), "", "<script", "<template", "</script>", "</template>"), err
}

// forward returns the forwarding page without its script and its refresh, because a frame's sandbox
// attribute would not stop them.
func (g *gallery) forward(language, scheme string) ([]byte, error) {
	body, err := g.pages.Forward("/account", language)
	return recolour(body, scheme,
		`http-equiv="refresh"`, `name="held"`, "<script>", "<template>", "</script>", "</template>"), err
}

// recolour draws one of our own pages in a colour scheme, and makes other replacements.
func recolour(body []byte, scheme string, replace ...string) []byte {
	if scheme != "" {
		replace = append(replace, `content="light dark"`, `content="`+template.HTMLEscapeString(scheme)+`"`)
	}
	return []byte(strings.NewReplacer(replace...).Replace(string(body)))
}

func (g *gallery) write(w http.ResponseWriter, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // a browser that has gone away needs no answer
}
