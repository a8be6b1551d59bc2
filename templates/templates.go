// Package templates holds what a shopper is shown: Liquid, which the store
// renders inside its theme and in its language, and the page that forwards where
// a 302 would not arrive.
package templates

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"path"
	"strings"
)

//go:embed pages/*.liquid forward.html forward.css forward.js own.html own.css
var files embed.FS

// Pages are all templates, parsed. They are safe for concurrent use.
type Pages struct {
	catalogues []catalogue
	codes      map[string]catalogue
	liquid     map[string]*template.Template // by the page's name
	choices    map[string]template.HTML      // of the language, by the page's name
	forward    *template.Template
	style      template.CSS
	script     template.JS
	own        *template.Template
	ownStyle   template.CSS
}

// Page is what this program knows and a page shows; the store's name, address,
// language and links come from Liquid.
type Page struct {
	RequestID string // for support: the log has it too
	Path      string // this page on the storefront, without a locale's prefix, for "try again"
	SignIn    string // the store's sign-in, up to the value that says where to return to
	Return    string // that value, escaped for a query, without a locale's prefix
	ByEmail   string // where Recharge finds a shopper by e-mail, on the storefront; "" if it does not
}

// Load parses the templates.
func Load() (*Pages, error) {
	catalogues, err := loadCatalogues()
	if err != nil {
		return nil, fmt.Errorf("load catalogues: %w", err)
	}
	p := &Pages{catalogues: catalogues, codes: byCode(catalogues), liquid: map[string]*template.Template{}, choices: map[string]template.HTML{}}
	for _, name := range names() {
		// Other delimiters than Liquid's, so that both fit into one file.
		page, err := template.New(name+".liquid").Delims("[[", "]]").ParseFS(files, "pages/frame.liquid", path.Join("pages", name+".liquid"))
		if err != nil {
			return nil, fmt.Errorf("parse page: %w", err)
		}
		p.liquid[name] = page
		p.choices[name] = template.HTML(choice(catalogues, name)) //nolint:gosec // the catalogues are ours, and escaped
	}
	if p.forward, err = template.ParseFS(files, "forward.html"); err != nil {
		return nil, fmt.Errorf("parse page that forwards: %w", err)
	}
	if p.own, err = template.ParseFS(files, "own.html"); err != nil {
		return nil, fmt.Errorf("parse page of our own: %w", err)
	}
	ownStyle, err := files.ReadFile("own.css")
	if err != nil {
		return nil, err
	}
	p.ownStyle = template.CSS(bytes.TrimSpace(ownStyle)) //nolint:gosec // ours
	style, err := files.ReadFile("forward.css")
	if err != nil {
		return nil, err
	}
	script, err := files.ReadFile("forward.js")
	if err != nil {
		return nil, err
	}
	p.style, p.script = template.CSS(bytes.TrimSpace(style)), template.JS(bytes.TrimSpace(script)) //nolint:gosec // ours
	return p, nil
}

// names are the pages: one for each outcome that ends in one.
func names() []string {
	return []string{"sign_in_failed", "not_a_subscriber", "unavailable", "not_connected"}
}

// Languages are the codes of those that the pages are written in, as Shopify
// writes them.
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
	err := parsed.Execute(&out, struct {
		Page
		Outcome string
		Choice  template.HTML
	}{
		Page{
			RequestID: inert(page.RequestID),
			Path:      onStore(inert(page.Path)),
			SignIn:    onStore(inert(page.SignIn)),
			Return:    inert(page.Return),
			ByEmail:   onStore(inert(page.ByEmail)),
		},
		name,
		p.choices[name],
	})
	return out.Bytes(), err
}

// inert takes from a text what would make Liquid read it. html/template knows
// HTML only, and no value here has a use for braces.
func inert(s string) string {
	return strings.NewReplacer("{", "", "}", "").Replace(s)
}

// onStore is a path that cannot lead off the store's host, else nothing:
// html/template does not look behind the Liquid that stands before it.
func onStore(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.HasPrefix(path, `/\`) {
		return ""
	}
	return path
}

// Forward returns an HTML page that sends the browser to target at once. What it
// says for a moment is in the language of locale, a tag such as "fr" or "pt-BR".
func (p *Pages) Forward(target, locale string) ([]byte, error) {
	words := choose(p.codes, locale)
	var out bytes.Buffer
	err := p.forward.Execute(&out, map[string]any{
		"Target":    target,
		"Style":     p.style,
		"Script":    p.script,
		"Language":  words.code,
		"Direction": words.direction(),
		"Texts":     words.texts,
	})
	return out.Bytes(), err
}

// ForwardPolicy is the Content-Security-Policy of that page: it does nothing but
// forward.
func (p *Pages) ForwardPolicy() string { return Policy(string(p.style), string(p.script)) }

// Policy is the Content-Security-Policy of a page of our own with one style and
// one script element, "" being none: nothing else is let in, and no frame shows it.
func Policy(style, script string) string {
	return "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(script) + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func hash(element string) string {
	if element == "" {
		return "'none'"
	}
	sum := sha256.Sum256([]byte(element))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
