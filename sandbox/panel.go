package sandbox

import (
	"context"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

//go:embed panel.html
var panelHTML string

// panel is drawn at the foot of the store's and the portal's pages: it switches
// faults and shows how the last click ended.
type panel struct {
	sandbox *Sandbox
	page    *template.Template

	mu    sync.Mutex
	last  map[string]string // the last click's line in the log
	other string            // the other store's address; "" if there is none
}

func newPanel(s *Sandbox) *panel {
	return &panel{sandbox: s, page: template.Must(template.New("panel").Parse(panelHTML))}
}

func (p *panel) draw() template.HTML {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	broken := 0
	for _, toggle := range p.sandbox.switches {
		if toggle.On() {
			broken++
		}
	}
	var out strings.Builder
	err := p.page.Execute(&out, map[string]any{
		"Store":    p.sandbox.Store.URL,
		"Switches": p.sandbox.switches,
		"Broken":   broken,
		"Last":     last,
		"Other":    p.elsewhere(),
	})
	if err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return template.HTML(out.String()) // html/template has escaped it
}

// lead makes the panel lead to another sandbox, too.
func (p *panel) lead(other *Sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.other = other.Store.URL
}

func (p *panel) elsewhere() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.other
}

// turn is what the panel's buttons do.
func (p *panel) turn(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("forget") != "" {
		p.sandbox.Forget()
	} else if err := p.sandbox.Switch(r.PostFormValue("name"), r.PostFormValue("on") == "true"); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Location", whereFrom(r, p.sandbox.path))
	w.WriteHeader(http.StatusSeeOther)
}

// whereFrom is the storefront's page whose button was pressed. Pages of the
// portal send no referrer.
func whereFrom(r *http.Request, path string) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host || !strings.HasPrefix(from.Path, "/") || strings.HasPrefix(from.Path, "//") ||
		strings.HasPrefix(from.Path, path) {
		return "/account" // not back into a click: a fault is to be seen by clicking
	}
	return (&url.URL{Path: from.Path}).EscapedPath() + "#sandbox"
}

// watcher reads the server's log on its way: each click writes one line, with the
// name of the store.
type watcher struct {
	slog.Handler
	environment *environment
}

func (w *watcher) Handle(ctx context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "REDIS_URL: ") {
		return nil // the sandbox's is in memory, on purpose
	}
	if record.Message == "click" {
		line := map[string]string{}
		record.Attrs(func(a slog.Attr) bool {
			line[a.Key] = a.Value.String()
			return true
		})
		for _, s := range w.environment.stores {
			// A click that was refused, or is another store's, names none of them.
			if string(s.kind.shop) == line["shop"] || !w.environment.has(line["shop"]) {
				s.panel.saw(line)
			}
		}
	}
	return w.Handler.Handle(ctx, record)
}

func (e *environment) has(shop string) bool {
	return slices.ContainsFunc(e.stores, func(s *Sandbox) bool { return string(s.kind.shop) == shop })
}

func (p *panel) saw(line map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = line
}
