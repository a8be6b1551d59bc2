// Package templates holds what a shopper is shown: Liquid, which the store
// renders inside its theme, and the page that forwards where a 302 would not
// arrive.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"strings"
)

//go:embed pages/*.liquid forward.html
var files embed.FS

// Pages are all templates, parsed.
type Pages struct {
	liquid  *template.Template
	forward *template.Template
}

// Page is what this program knows and a page shows; the store's name, address
// and links come from Liquid.
type Page struct {
	RequestID string // for support: the log has it too
	Path      string // this page on the storefront, for "try again"
	SignIn    string // the store's sign-in, returning here
}

// Load parses the templates.
func Load() (*Pages, error) {
	pages, err := fs.Sub(files, "pages")
	if err != nil {
		return nil, err
	}
	// Other delimiters than Liquid's, so that both fit into one file.
	liquid, err := template.New("").Delims("[[", "]]").ParseFS(pages, "*.liquid")
	if err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	forward, err := template.ParseFS(files, "forward.html")
	if err != nil {
		return nil, fmt.Errorf("parse page that forwards: %w", err)
	}
	return &Pages{liquid, forward}, nil
}

// Liquid returns the page called name, for the store to render.
func (p *Pages) Liquid(name string, page Page) ([]byte, error) {
	var out bytes.Buffer
	err := p.liquid.ExecuteTemplate(&out, name+".liquid", Page{
		RequestID: inert(page.RequestID),
		Path:      inert(page.Path),
		SignIn:    inert(page.SignIn),
	})
	return out.Bytes(), err
}

// inert takes from a text what would make Liquid read it. html/template knows
// HTML only, and no value here has a use for braces.
func inert(s string) string {
	return strings.NewReplacer("{", "", "}", "").Replace(s)
}

// Forward returns an HTML page that sends the browser to target at once.
func (p *Pages) Forward(target string) ([]byte, error) {
	var out bytes.Buffer
	err := p.forward.Execute(&out, target)
	return out.Bytes(), err
}
