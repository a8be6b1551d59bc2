package sandbox

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"manage-subscriptions/shopify/shopifytest"
	"manage-subscriptions/templates"
)

//go:embed gallery.html account_page.html
var galleryHTML embed.FS

// state is a page that a click can end on, or one that shows an extension.
type state struct {
	Name    string // in addresses
	Label   string
	When    string
	outcome string // "" for another kind of page
	byEmail bool   // the portal is on the store's own host
	first   string // the way on that is a button; "" is to try again
	shopper string // ID of the signed-in shopper; "" for nobody
	path    string // of the store's own page
	own     *templates.OwnPage
	account *accountPage
}

func states() []state {
	return slices.Concat(storefrontStates(), linkStates(), otherStates(), accountStates())
}

// storefrontStates are the pages that a click in a store can end on.
func storefrontStates() []state {
	const pat, robin = "6100200300400", "6100200300500"
	return []state{
		{
			Name: "sign-in-failed", Label: "Sign-in failed", outcome: "sign_in_failed", byEmail: true,
			When: "The shopper comes back from the sign-in, and Shopify still does not say who it is.",
		}, {
			Name: "sign-in-failed-hosted", Label: "Sign-in failed, portal at Recharge", outcome: "sign_in_failed",
			When: "The same if Recharge hosts the portal: there is no way in by e-mail on the store.",
		}, {
			Name: "not-a-subscriber", Label: "Not a subscriber", outcome: "not_a_subscriber", shopper: robin, byEmail: true,
			When: "Recharge has no customer with this id. The shopper was signed in, or has just ordered.",
		}, {
			Name: "not-a-subscriber-signed-in", Label: "Not a subscriber, just signed in", outcome: "not_a_subscriber",
			When: "The same after the sign-in. It may have been the wrong account.", shopper: robin, byEmail: true,
			first: templates.WayOtherAccount,
		}, {
			Name: "not-a-subscriber-again", Label: "Not a subscriber, checked again", outcome: "not_a_subscriber",
			When: "The same after a click on “Check again”.", shopper: robin, byEmail: true, first: templates.WayByEmail,
		}, {
			Name: "not-a-subscriber-hosted", Label: "Not a subscriber, portal at Recharge", outcome: "not_a_subscriber",
			When: "The same if Recharge hosts the portal.", shopper: robin,
		}, {
			Name: "unavailable", Label: "Unavailable", outcome: "unavailable", shopper: pat, byEmail: true,
			When: "Recharge is down, and the shopper is not cached.",
		}, {
			Name: "unavailable-again", Label: "Unavailable, tried again", outcome: "unavailable", shopper: pat, byEmail: true,
			When:  "The same after a click on “Try again”, or if Recharge does not accept the store’s token.",
			first: templates.WayByEmail,
		}, {
			Name: "unavailable-hosted", Label: "Unavailable, portal at Recharge", outcome: "unavailable", shopper: pat,
			When: "The same if Recharge hosts the portal: there is no way in by e-mail on the store.",
		}, {
			Name: "not-connected", Label: "Not connected", outcome: "not_connected", shopper: pat,
			When: "The store has no Recharge credentials yet.",
		}, {
			Name: "forbidden", Label: "Forbidden", outcome: "forbidden", own: &templates.OwnPage{Storefront: true},
			When: "Shopify’s signature is missing, wrong or too old. This page is not in the theme.",
		},
	}
}

// linkStates are the pages behind the links of a headless storefront.
func linkStates() []state {
	return []state{
		{
			Name: "link-forbidden", Label: "Signed link, forbidden", outcome: "forbidden", own: &templates.OwnPage{},
			When: "A headless storefront’s link has no right signature, so the page cannot name the store.",
		}, {
			Name: "link-used", Label: "Signed link, used", outcome: "forbidden",
			When: "A headless storefront’s link was used before.", own: &templates.OwnPage{Reason: "used", Home: "/"},
		}, {
			Name: "link-expired", Label: "Signed link, expired", outcome: "forbidden",
			When: "A headless storefront’s link is too old.", own: &templates.OwnPage{Reason: "expired", Home: "/"},
		}, {
			Name: "link-not-a-subscriber", Label: "Signed link, not a subscriber", outcome: "not_a_subscriber",
			When: "A headless storefront’s customer has no subscription.", own: &templates.OwnPage{Home: "/"},
		}, {
			Name: "link-unavailable", Label: "Signed link, unavailable", outcome: "unavailable",
			When: "A headless storefront’s link cannot open: Recharge or Redis is down.", own: &templates.OwnPage{Home: "/"},
		}, {
			Name: "link-not-connected", Label: "Signed link, not connected", outcome: "not_connected",
			When: "A headless storefront has no Recharge credentials yet.", own: &templates.OwnPage{Home: "/"},
		},
	}
}

func otherStates() []state {
	return []state{
		{
			Name: "forward", Label: "Forwarding",
			When: "REDIRECT=page: seen for a moment, on the way to the portal. Here it stays.",
		}, {
			Name: "home", Label: "Home page", path: "/",
			When: "With the app block, if the theme has room for it, as you are signed in now.",
		}, {
			Name: "account", Label: "Account page", path: "/account",
			When: "With the link to the portal, as you are signed in now.",
		},
	}
}

// gallery shows every state in every language, width and colour scheme.
type gallery struct {
	sandbox *Sandbox
	pages   *templates.Pages
	page    *template.Template
}

func newGallery(s *Sandbox) (*gallery, error) {
	page, err := template.ParseFS(galleryHTML, "*.html")
	if err != nil {
		return nil, err
	}
	return &gallery{s, templates.Load(), page}, nil
}

type row struct {
	State state
	Views []view
}

type view struct{ Width, Title, Caption, URL string }

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

func (g *gallery) views(state state, language string) []view {
	var views []view
	if language == "all" {
		for _, code := range g.pages.Languages() {
			views = append(views, newView(state, code, "narrow", "light"))
		}
		return views
	}
	for _, width := range []string{"narrow", "wide"} {
		for _, scheme := range []string{"light", "dark"} {
			views = append(views, newView(state, language, width, scheme))
		}
	}
	return views
}

func newView(state state, language, width, scheme string) view {
	caption := fmt.Sprintf("%s, %s, %s", language, width, scheme)
	query := url.Values{"state": {state.Name}, "language": {language}, "scheme": {scheme}}
	return view{width, state.Label + ", " + caption, caption, "/sandbox/page?" + query.Encode()}
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
	if all[i].path != "" {
		scheme := "?preview_scheme=" + url.QueryEscape(query.Get("scheme"))
		w.Header().Set("Location", localePath(query.Get("language"))+all[i].path+scheme)
		w.WriteHeader(http.StatusFound)
		return
	}
	body, err := g.draw(all[i], query.Get("language"), query.Get("scheme"))
	g.write(w, body, err)
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
