package shopifytest

import (
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/osteele/liquid"
	"github.com/osteele/liquid/render"
)

const (
	// The path of the extension's assets. At Shopify they are on another host.
	assetPath = "/cdn/extensions/assets/"

	// Ends a snippet that draws itself, which would otherwise crash the program.
	snippetDepth = 20
)

var (
	// renderTag matches 'snippet' and what follows it; renderArgument the first of the arguments that follow.
	renderTag      = regexp.MustCompile(`(?s)^\s*(?:'([\w-]+)'|"([\w-]+)")\s*(?:,\s*(.*))?$`)
	renderArgument = regexp.MustCompile(`^\s*([\w-]+)\s*:\s*('[^']*'|"[^"]*"|[^,\s]+)\s*(?:,|$)`)
	placeholder    = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
)

// A drawing is one themed page being drawn. Drawing its blocks shows which extension assets it needs.
type drawing struct {
	server   *Server
	visit    visit
	pageType any // request.page_type
	engine   *liquid.Engine
	texts    locales
	depth    int      // of nested snippets
	assets   []string // names, in the order of their first use
}

func (s *Server) newDrawing(v visit, pageType any) *drawing {
	d := &drawing{server: s, visit: v, pageType: pageType}
	if s.opts.Extension == nil {
		return d
	}
	texts, err := readLocales(s.opts.Extension, v.locale)
	if err != nil {
		s.liquidError(err.Error())
	}
	d.texts = texts
	d.engine = d.newEngine()
	return d
}

func (d *drawing) newEngine() *liquid.Engine {
	engine := newEngine()
	engine.RegisterTag("render", d.render)
	engine.RegisterFilter("t", d.translate)
	engine.RegisterFilter("asset_url", d.assetURL)
	engine.RegisterFilter("stylesheet_tag", func(url string, _ ...any) string {
		return `<link href="` + html.EscapeString(url) + `" rel="stylesheet" type="text/css" media="all">`
	})
	engine.RegisterFilter("script_tag", func(url string, _ ...any) string {
		return `<script src="` + html.EscapeString(url) + `" type="text/javascript"></script>`
	})
	return engine
}

// placed returns the blocks to draw: all, unless apps are registered and none of them is installed.
func (s *Server) placed(blocks []Block) []Block {
	known := s.known()
	if len(known) > 0 && !slices.ContainsFunc(known, func(p partner) bool { return p.Installed }) {
		return nil
	}
	return blocks
}

// blocks draws the app blocks of a page of the modern theme.
func (d *drawing) blocks(page string) []template.HTML {
	var got []template.HTML
	for _, b := range d.server.placed(d.server.opts.Blocks) {
		if d.server.opts.Theme == themeModern && b.Page == page {
			content, _ := d.block(b)
			got = append(got, wrapped(b, content))
		}
	}
	return got
}

// embeds draws the app embeds for the page's head and for the end of its body.
func (d *drawing) embeds() (head, body template.HTML) {
	for _, b := range d.server.placed(d.server.opts.Embeds) {
		content, target := d.block(b)
		if target == "head" {
			head += content
			continue
		}
		body += wrapped(b, content) + "\n"
	}
	return head, body
}

// wrapped puts a block into the element that Shopify wraps it in.
func wrapped(b Block, content template.HTML) template.HTML {
	const element = `<div id="shopify-block-%s" class="shopify-block shopify-app-block" data-block-handle="%s">%s</div>`
	return template.HTML(fmt.Sprintf(element, html.EscapeString(b.ID), html.EscapeString(b.Name), content))
}

// block draws a block and returns its target. If that fails, content is the error's text.
func (d *drawing) block(b Block) (content template.HTML, target string) {
	source, about, err := readBlock(d.server.opts.Extension, b.Name)
	var drawn []byte
	if err == nil {
		drawn, err = d.tryBlock(b, source, about)
	}
	if err != nil {
		text := err.Error()
		if !strings.HasPrefix(text, "Liquid ") {
			text = "Liquid error: " + text
		}
		d.server.liquidError(text)
		return template.HTML(html.EscapeString(text)), about.Target
	}
	return template.HTML(drawn), about.Target // the extension's own HTML, inserted as at Shopify
}

func (d *drawing) tryBlock(b Block, source []byte, about schema) ([]byte, error) {
	for _, name := range []string{about.Stylesheet, about.Javascript} {
		if name == "" {
			continue
		}
		if _, err := d.assetURL(name); err != nil {
			return nil, err
		}
		if !slices.Contains(d.assets, name) {
			d.assets = append(d.assets, name)
		}
	}
	objects := d.server.objects(d.visit, d.pageType)
	objects["app"] = d.server.appObject()
	objects["block"] = map[string]any{
		"id":       b.ID,
		"type":     "shopify://apps/shopifytest/blocks/" + b.Name + "/" + b.ID,
		"settings": about.values(b.Settings),
		"shopify_attributes": fmt.Sprintf(`data-shopify-editor-block="{&quot;id&quot;:&quot;%s&quot;}"`,
			html.EscapeString(b.ID)),
	}
	return renderLiquid(d.engine, "blocks/"+b.Name+".liquid", source, objects)
}

// render implements {% render 'snippet', name: value %}. A snippet sees only its arguments and the store's objects.
func (d *drawing) render(c render.Context) (string, error) {
	m := renderTag.FindStringSubmatch(c.TagArgs())
	if m == nil {
		return "", fmt.Errorf("render: cannot read %q; want 'snippet', name: value", c.TagArgs())
	}
	objects := d.server.objects(d.visit, d.pageType)
	for rest := m[3]; strings.TrimSpace(rest) != ""; {
		arg := renderArgument.FindStringSubmatch(rest)
		if arg == nil {
			return "", fmt.Errorf("render: cannot read %q; want name: value", rest)
		}
		value, err := c.EvaluateString(arg[2])
		if err != nil {
			return "", err
		}
		objects[arg[1]] = value
		rest = rest[len(arg[0]):]
	}

	file := "snippets/" + m[1] + m[2] + ".liquid"
	source, err := fs.ReadFile(d.server.opts.Extension, file)
	if err != nil {
		return "", fmt.Errorf("render: %w", err)
	}
	if d.depth >= snippetDepth {
		return "", fmt.Errorf("render %s: nesting too deep", file)
	}
	d.depth++
	defer func() { d.depth-- }()
	content, err := renderLiquid(d.engine, file, source, objects)
	return string(content), err
}

// translate is the filter t. It escapes values put into a text unless the key says that the text is HTML.
func (d *drawing) translate(key string, arguments ...any) string {
	text, ok := d.texts.find(key)
	if !ok {
		missing := "Translation missing: " + d.visit.locale + "." + key
		d.server.liquidError(missing)
		return html.EscapeString(missing)
	}
	given := named(arguments)
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := placeholder.FindStringSubmatch(found)[1]
		value, ok := given[name]
		if !ok {
			d.server.liquidError("Translation " + key + " is not given its " + name)
			return found
		}
		if strings.HasSuffix(key, "_html") {
			return value
		}
		return html.EscapeString(value)
	})
}

func (d *drawing) assetURL(name string) (string, error) {
	if _, err := fs.Stat(d.server.opts.Extension, "assets/"+name); err != nil {
		return "", fmt.Errorf("asset: %w", err)
	}
	return assetPath + name, nil
}

// head returns one tag for each asset that the page's blocks name in their schemas.
func (d *drawing) head() template.HTML {
	var tags strings.Builder
	for _, name := range d.assets {
		url := html.EscapeString(assetPath + name)
		if path.Ext(name) == ".css" {
			fmt.Fprintf(&tags, "<link rel=\"stylesheet\" href=\"%s\" media=\"all\">\n", url)
			continue
		}
		fmt.Fprintf(&tags, "<script src=\"%s\" defer></script>\n", url)
	}
	return template.HTML(tags.String())
}

// asset serves a file of the extension.
func (s *Server) asset(w http.ResponseWriter, r *http.Request, v visit) {
	name := "assets/" + strings.TrimPrefix(v.path, assetPath)
	if s.opts.Extension == nil || !fs.ValidPath(name) {
		s.notFound(w, v)
		return
	}
	if info, err := fs.Stat(s.opts.Extension, name); err != nil || info.IsDir() {
		s.notFound(w, v)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeFileFS(w, r, s.opts.Extension, name)
}

func (s *Server) liquidError(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.liquidErrors) < historyLimit {
		s.liquidErrors = append(s.liquidErrors, text)
	}
}

// LiquidErrors returns the first 1000 errors in the extension's blocks, oldest first: those shown
// in place of a block, and translations that are missing or lack a value. An error in an app's own
// page is not listed, since it is that page's answer.
func (s *Server) LiquidErrors() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.liquidErrors)
}
