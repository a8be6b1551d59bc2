// Package templates holds the pages that shoppers and merchants see: Liquid, which the
// store renders inside its theme and in its language; HTML pages of our own; and the
// app home.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"path"
	"strings"
)

//go:embed pages/*.liquid forward.html own.html
var files embed.FS

// Pages holds all templates for shoppers, parsed. It is safe for concurrent use.
type Pages struct {
	catalogues []catalogue
	byTag      map[string]catalogue
	liquid     map[string]*template.Template // by the page's name
	html       *template.Template            // own.html and forward.html
}

// Page is what this program knows and a page shows. The store's name, address, language
// and links come from Liquid.
type Page struct {
	RequestID string // a reference for support, which is in the log, too
	Path      string // this page on the storefront, without a locale's prefix, for "try again"
	SignIn    string // the store's sign-in, up to the value that says where to return to
	Return    string // that value, escaped for a query, without a locale's prefix
	ByEmail   string // where Recharge finds a shopper by e-mail, on the storefront; "" if it does not
}

// Load parses the templates.
func Load() (*Pages, error) {
	catalogues, byTag, err := loadCatalogues()
	if err != nil {
		return nil, fmt.Errorf("load catalogues: %w", err)
	}
	p := &Pages{catalogues: catalogues, byTag: byTag, liquid: map[string]*template.Template{}}
	for _, name := range names() {
		// Not Liquid's delimiters, so that both fit into one file.
		page := template.New(name+".liquid").Delims("[[", "]]")
		if _, err := page.New("choice").Parse(choice(catalogues, name)); err != nil {
			return nil, fmt.Errorf("parse the choice of a language: %w", err)
		}
		p.liquid[name], err = page.ParseFS(files, "pages/frame.liquid", path.Join("pages", name+".liquid"))
		if err != nil {
			return nil, fmt.Errorf("parse page: %w", err)
		}
	}
	if p.html, err = template.ParseFS(files, "*.html"); err != nil {
		return nil, fmt.Errorf("parse pages of our own: %w", err)
	}
	return p, nil
}

// names are the pages: one for each outcome that ends in one.
func names() []string {
	return []string{"sign_in_failed", "not_a_subscriber", "unavailable", "not_connected"}
}

// Languages are the codes of the pages' languages, as Shopify writes them.
func (p *Pages) Languages() []string {
	var codes []string
	for _, c := range p.catalogues {
		codes = append(codes, c.code)
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
		"SignIn":    onStore(inert(page.SignIn)),
		"Return":    inert(page.Return),
		"ByEmail":   onStore(inert(page.ByEmail)),
		"Outcome":   name,
	})
	return out.Bytes(), err
}

// inert removes braces, which would make Liquid read a value as code. html/template
// escapes for HTML only, and no value here needs braces.
func inert(s string) string {
	return strings.NewReplacer("{", "", "}", "").Replace(s)
}

// onStore returns a path that cannot lead off the store's host, or "". html/template
// does not check such a path, because Liquid stands in front of it.
func onStore(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.HasPrefix(path, `/\`) {
		return ""
	}
	return path
}
