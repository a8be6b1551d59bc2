package sandbox

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed panel.html
var panelHTML string

// panel is at the top of each page of a store, its portal and its admin. It switches faults and shows how
// the last click in this store ended.
type panel struct {
	sandbox *Sandbox
	page    *template.Template
	routes  *http.ServeMux
	clicks  atomic.Int64 // through this store, under way

	mu   sync.Mutex
	last map[string]string // the last click's line in the log
	said string            // about the clock
}

func newPanel(s *Sandbox, gallery *gallery) *panel {
	p := &panel{sandbox: s, page: template.Must(template.New("panel").Parse(panelHTML)), routes: http.NewServeMux()}
	p.routes.HandleFunc("POST /sandbox/clock", p.runClock)
	p.routes.HandleFunc("POST /sandbox/switch", p.turn)
	p.routes.HandleFunc("GET /sandbox/gallery", gallery.index)
	p.routes.HandleFunc("GET /sandbox/page", gallery.show)
	return p
}

// around adds the panel to the pages of a host, and the routes of its buttons. Pages in a frame have no panel.
func (p *panel) around(host http.Handler) http.Handler {
	routes := http.NewCrossOriginProtection().Handler(p.routes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sandbox/") {
			routes.ServeHTTP(w, r)
			return
		}
		if strings.Contains(r.URL.Path, p.sandbox.path) {
			p.clicks.Add(1)
			defer p.clicks.Add(-1)
		}
		if r.Header.Get("Sec-Fetch-Dest") == "iframe" {
			host.ServeHTTP(w, r)
			return
		}
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		host.ServeHTTP(answer, r)
		answer.send(p, r.URL.Path)
	})
}

// answer keeps an answer until it is complete.
type answer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *answer) WriteHeader(status int)            { a.status = status }
func (a *answer) Write(part []byte) (int, error)    { return a.body.Write(part) }
func (a *answer) WriteString(s string) (int, error) { return a.body.WriteString(s) }

var bodyTag = regexp.MustCompile(`<body[^>]*>\n?`)

// send sends the answer, with the panel if it is a page that stays.
func (a *answer) send(p *panel, path string) {
	body, head := a.body.Bytes(), a.Header()
	leads := bytes.Contains(body, []byte(`http-equiv="refresh"`))
	tag := bodyTag.FindIndex(body)
	if tag != nil && !leads && strings.HasPrefix(head.Get("Content-Type"), "text/html") {
		body = slices.Concat(body[:tag[1]], p.draw(path), body[tag[1]:])
		head.Del("Content-Length")
		head.Del("Content-Security-Policy") // it would forbid the panel's style and buttons
	}
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(body) // a browser that has gone away needs no answer
}

func (p *panel) draw(path string) []byte {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	on, current := 0, p.sandbox.kind.accounts == "new"
	for _, toggle := range p.sandbox.switches {
		if toggle.On() {
			on++
		}
		if toggle.Name == "accounts" && toggle.On() {
			current = !current
		}
	}
	var out bytes.Buffer
	err := p.page.Execute(&out, map[string]any{
		"Store":    p.sandbox.Store,
		"Name":     p.sandbox.kind.name,
		"Home":     p.sandbox.home(),
		"From":     path,
		"Switches": p.sandbox.switches,
		"On":       on,
		"Headless": p.sandbox.kind.headless,
		"Account":  current && !p.sandbox.kind.headless,
		"Last":     last,
		"Clock":    p.clockWords(),
		"Others":   p.sandbox.others(),
		"Lines":    p.sandbox.lines(),
		"Ahead":    p.sandbox.environment.ahead.Load() > int64(time.Minute),
	})
	if err != nil {
		return []byte(template.HTMLEscapeString(err.Error()))
	}
	return out.Bytes()
}

// place is another store of the sandbox.
type place struct{ Name, Home, Gallery string }

// home returns the address of the store's home page.
func (s *Sandbox) home() string {
	if f := s.headless.Load(); f != nil {
		return f.url + "/"
	}
	return s.Store.URL + "/"
}

func (s *Sandbox) others() (all []place) {
	for _, other := range s.environment.stores {
		if other != s {
			all = append(all, place{other.kind.name, other.home(), other.Store.URL + "/sandbox/gallery"})
		}
	}
	return all
}

// turn handles the panel's buttons.
func (p *panel) turn(w http.ResponseWriter, r *http.Request) {
	var err error
	switch name := r.PostFormValue("name"); name {
	case "forget":
		p.sandbox.Forget()
	case "off":
		err = p.sandbox.AllOff()
	default:
		err = p.sandbox.Switch(name, r.PostFormValue("on") == "true")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.back(w, r)
}

// back returns to the page whose button was pressed, with the panel open. It does not return to a click, since
// only a real click should show a fault.
func (p *panel) back(w http.ResponseWriter, r *http.Request) {
	from := r.PostFormValue("from")
	click := strings.Contains(from, p.sandbox.path) || strings.HasPrefix(from, portalPath)
	if click || !strings.HasPrefix(from, "/") || strings.HasPrefix(from, "//") {
		from = "/account"
	}
	w.Header().Set("Location", (&url.URL{Path: from}).EscapedPath()+"#sandbox-switches")
	w.WriteHeader(http.StatusSeeOther)
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
		if s := w.environment.storeOf(line); s != nil {
			s.panel.mu.Lock()
			s.panel.last = line
			s.panel.mu.Unlock()
		}
	}
	return w.Handler.Handle(ctx, record)
}

// storeOf returns the store that a click was made in, or nil. The line of a refused click names no store, but the store
// still waits for the answer. A headless storefront's shoppers come to the server without a store.
func (e *environment) storeOf(line map[string]string) *Sandbox {
	is := func(matches func(*Sandbox) bool) *Sandbox {
		if i := slices.IndexFunc(e.stores, matches); i >= 0 {
			return e.stores[i]
		}
		return nil
	}
	return cmp.Or(
		is(func(s *Sandbox) bool { return string(s.kind.shop) == line["shop"] }),
		is(func(s *Sandbox) bool { return line["channel"] == "" && s.panel.clicks.Load() > 0 }),
		is(func(s *Sandbox) bool { return line["channel"] != "" && s.kind.headless }),
	)
}
