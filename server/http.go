package server

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/manage-subscriptions/manage-subscriptions/handlers"
)

// httpServer limits everything that a client could drag out. Echo redirects nothing, because a
// redirect to add a slash would expose Shopify's signature.
func (s *server) httpServer(routes func(*echo.Echo)) *http.Server {
	e := echo.New()
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			s.Log.Error("panic", "error", err, "stack", string(stack))
			return err
		},
	}))
	routes(e)
	e.HTTPErrorHandler = handlers.Errors(s.Log)
	return &http.Server{
		Handler:           closeChunked(e),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      s.cfg.ClickTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10, // as in Node, on which most Shopify apps run
		ConnState:         (&connections{log: s.Log, places: map[net.Conn]*list.Element{}}).changed,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

// connections limits how many connections are in each state: waiting for a first request (new), in a
// request or its body (active), or waiting for the next request (idle). Silent ones then leave a load
// balancer's idle connections and running clicks alone. Beyond a limit, the one that has been in its
// state for longest is closed, since an honest one soon moves on. Callers are not told apart by
// address, because all clicks come from Shopify's.
type connections struct {
	log *slog.Logger

	mu     sync.Mutex
	states [3]list.List // by http.ConnState, the oldest first
	places map[net.Conn]*list.Element
}

func (c *connections) changed(connection net.Conn, state http.ConnState) {
	limits := [...]int{http.StateNew: 512, http.StateActive: 2048, http.StateIdle: 1024}
	var oldest net.Conn
	c.mu.Lock()
	if place := c.places[connection]; place != nil {
		for i := range c.states {
			c.states[i].Remove(place) // does nothing if it is in another state
		}
		delete(c.places, connection)
	}
	if state <= http.StateIdle { // not closed
		same := &c.states[state]
		c.places[connection] = same.PushBack(connection)
		if same.Len() > limits[state] {
			oldest, _ = same.Remove(same.Front()).(net.Conn)
			delete(c.places, oldest)
		}
	}
	c.mu.Unlock()
	if oldest != nil {
		c.log.Warn("too many connections; the oldest is closed", "cause", state.String())
		_ = oldest.Close()
		runtime.Gosched() // before the next is accepted, those that have sent a request may move on
	}
}

// closeChunked closes the connection after a request that came in chunks. If such a request also has
// a length, net/http ignores the length, but a proxy in front may obey it. The rest would then be
// read as another visitor's request. RFC 9112, 6.1, requires that the connection be closed. No
// browser sends a click in chunks.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// opsServer answers on OPS_ADDR: probes, metrics and, on request, profiles.
func (s *server) opsServer() *http.Server {
	ops := s.httpServer(func(e *echo.Echo) {
		e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "alive\n") })
		e.GET("/readyz", func(c echo.Context) error {
			if !s.ready.Load() {
				return c.String(http.StatusServiceUnavailable, "not ready\n")
			}
			return c.String(http.StatusOK, "ready\n")
		})
		e.GET("/metrics", echo.WrapHandler(s.metrics.Handler(s.Log)))
		if s.cfg.PProf { // the routes that net/http/pprof has on the default mux
			e.GET("/debug/pprof/*", echo.WrapHandler(http.HandlerFunc(pprof.Index)))
			e.GET("/debug/pprof/profile", echo.WrapHandler(http.HandlerFunc(pprof.Profile)))
			e.GET("/debug/pprof/trace", echo.WrapHandler(http.HandlerFunc(pprof.Trace)))
		}
	})
	if s.cfg.PProf {
		ops.WriteTimeout = 2 * time.Minute // a profile takes as long as its request says
	}
	return ops
}
