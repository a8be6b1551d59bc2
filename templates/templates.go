// Package templates holds the pages that shoppers and merchants see. Shopify renders the Liquid
// pages in the store's theme and language. We render our own HTML pages and the app home.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed pages/*.liquid choice.liquid forward.html own.html
var files embed.FS

// Pages holds all templates for shoppers, parsed. It is safe for concurrent use.
type Pages struct {
	catalogues []catalogue
	byTag      map[string]catalogue
	liquid     map[string]*template.Template // by the page's name
	html       *template.Template            // own.html and forward.html
}

// Page holds what this program knows about a page. Liquid adds the store's name, address, language
// and links.
type Page struct {
	RequestID string // a reference for support, also in the log
	Path      string // this page's path, without a locale prefix
	Again     string // the same for "try again" and "check again", marked as another try
	SignIn    string // the sign-in page, up to the value of its return parameter
	Return    string // that value, query-escaped, without a locale prefix
	ByEmail   string // the page where Recharge finds shoppers by e-mail; "" if there is none
	First     string // the way on that is a button, on pages with several: one of the Ways
}

// Ways on from a page, as Page.First names them.
const (
	WayAgain        = "again"
	WayOtherAccount = "other"
	WayByEmail      = "by_email"
)

// Load parses the templates. It cannot fail, since they are part of the binary and tested.
func Load() *Pages {
	p := &Pages{liquid: map[string]*template.Template{}, html: template.Must(template.ParseFS(files, "*.html"))}
	p.catalogues, p.byTag = loadCatalogues(locales, "locales")
	for _, name := range names() {
		// These delimiters differ from Liquid's, so that one file can use both.
		page := template.New(name+".liquid").Delims("[[", "]]")
		template.Must(page.New("choice").Parse(choice(p.catalogues, name)))
		p.liquid[name] = template.Must(page.ParseFS(files, "pages/frame.liquid", "pages/"+name+".liquid"))
	}
	return p
}

// names returns the pages, one for each outcome that shows one.
func names() []string {
	return []string{"sign_in_failed", "not_a_subscriber", "unavailable", "not_connected"}
}

// Languages returns the codes of the pages' languages, as Shopify writes them.
func (p *Pages) Languages() []string {
	var codes []string
	for _, c := range p.catalogues {
		codes = append(codes, c.Code)
	}
	return codes
}

// Liquid returns the page called name, for the store to render.
func (p *Pages) Liquid(name string, page Page) ([]byte, error) {
	parsed, ok := p.liquid[name]
	if !ok {
		return nil, fmt.Errorf("no page is called %q", name)
	}
	var out bytes.Buffer
	err := parsed.Execute(&out, map[string]any{
		"RequestID": inert(page.RequestID),
		"Path":      onStore(inert(page.Path)),
		"Again":     onStore(inert(page.Again)),
		"SignIn":    onStore(inert(page.SignIn)),
		"Return":    inert(page.Return),
		"ByEmail":   onStore(inert(page.ByEmail)),
		"First":     page.First,
		"Outcome":   name,
	})
	return out.Bytes(), err
}

// inert removes braces, so that Liquid cannot read a value as code. html/template escapes only for
// HTML, and no value here needs braces.
func inert(s string) string {
	return strings.NewReplacer("{", "", "}", "").Replace(s)
}

// onStore returns the path if it cannot leave the store's host, or else "". html/template does not
// check it, because Liquid precedes it in the attribute.
func onStore(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.HasPrefix(path, `/\`) {
		return ""
	}
	return path
}
