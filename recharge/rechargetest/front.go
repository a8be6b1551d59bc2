package rechargetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Front is one address for the API of several servers, as Recharge has one for all stores. The
// token decides which store a call is for. Webhooks, portals and histories stay with each server.
type Front struct {
	URL string // http://host:port, without a slash at the end

	servers []*Server
	http    *http.Server
	done    chan struct{}
}

// Together starts a front on a free loopback port. Closing it leaves the servers open.
func Together(servers ...*Server) *Front {
	if len(servers) == 0 {
		panic("rechargetest: Together needs a server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("rechargetest: listen on loopback: %v", err))
	}
	f := &Front{URL: "http://" + l.Addr().String(), servers: servers, done: make(chan struct{})}
	f.http = &http.Server{
		Handler:           f,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	go func() {
		defer close(f.done)
		_ = f.http.Serve(l) // always ErrServerClosed or a broken listener
	}()
	return f
}

// ServeHTTP passes a call to the server that knows its token. The first server refuses unknown tokens.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("X-Recharge-Access-Token")
	for _, s := range f.servers {
		if s.knows(token) {
			s.serve(w, r)
			return
		}
	}
	f.servers[0].serve(w, r)
}

// knows reports whether a token is one of this store's, or a session of one of its customers.
func (s *Server) knows(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[token] != nil {
		return true
	}
	session, ok := s.sessions.live(token, s.opts.Now())
	return ok && s.holds(session.by)
}

// Close stops listening, and gives answers under way one second to finish.
func (f *Front) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := f.http.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		_ = f.http.Close()
	}
	<-f.done
}
