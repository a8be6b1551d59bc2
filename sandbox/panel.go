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

// panel is drawn at the foot of the store's and the portal's pages. It switches faults and shows
// how the last click ended.
type panel struct {
	sandbox *Sandbox
	page    *template.Template

	mu    sync.Mutex
	last  map[string]string // the last click's line in the log
	other string            // the other store's address; "" if there is none
	said  string            // about the clock
}

func newPanel(s *Sandbox) *panel {
	return &panel{sandbox: s, page: template.Must(template.New("panel").Parse(panelHTML))}
}

func (p *panel) draw() template.HTML {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	broken, current := 0, p.sandbox.kind.accounts == "new"
	for _, toggle := range p.sandbox.switches {
		if toggle.Name == "accounts" && toggle.On() {
			current = !current
		}
		if toggle.On() && !toggle.Choice {
			broken++
		}
	}
	var out strings.Builder
	err := p.page.Execute(&out, map[string]any{
		"Store":    p.sandbox.Store,
		"Switches": p.sandbox.switches,
		"Broken":   broken,
		"Headless": p.sandbox.kind.headless,
		"Account":  current && !p.sandbox.kind.headless,
		"Last":     last,
		"Clock":    p.clockWords(),
		"Other":    p.elsewhere(),
	})
	if err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	return template.HTML(out.String()) // html/template has escaped it
}

// lead adds a link to another sandbox.
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

// turn handles the panel's buttons.
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

// whereFrom returns the storefront page whose button was pressed. Pages of the portal send no
// referrer.
func whereFrom(r *http.Request, path string) string {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host || !strings.HasPrefix(from.Path, "/") || strings.HasPrefix(from.Path, "//") ||
		strings.HasPrefix(from.Path, path) {
		return "/account" // not back to a click; only a real click should show a fault
	}
	return (&url.URL{Path: from.Path}).EscapedPath() + "#sandbox"
}

// watcher reads the server's log as it is written. Each click logs one line with the name of its
// store.
type watcher struct {
	slog.Handler
	environment *environment
}

func (w *watcher) Handle(ctx context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "REDIS_URL: ") {
		return nil // the sandbox's Redis is in memory on purpose
	}
	if record.Message == "click" {
		line := map[string]string{}
		record.Attrs(func(a slog.Attr) bool {
			line[a.Key] = a.Value.String()
			return true
		})
		for _, s := range w.environment.stores {
			// Every panel shows a rejected click, and one from another store, since it names none of these.
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
