package memnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/internal/memnet"
)

// TestHTTP serves over the network in virtual time, and counts open connections.
func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		l, err := network.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			_, _ = io.WriteString(w, r.RemoteAddr)
		})}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		transport := &http.Transport{DialContext: network.Dial}
		start := time.Now()
		response, err := (&http.Client{Transport: transport}).Get("http://" + at)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if took := time.Since(start); err != nil || string(body) != "dialler" || took != time.Hour {
			t.Errorf("answer = %q, %v after %s; want the dialler's address after an hour", body, err, took)
		}
		if got := network.Open(at); got != 1 {
			t.Errorf("Open = %d; want the one that the client keeps open", got)
		}
		transport.CloseIdleConnections()
		synctest.Wait()
		if got := network.Open(at); got != 0 {
			t.Errorf("Open = %d after the client has closed; want 0", got)
		}
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
		if _, err := network.Dial(t.Context(), "tcp", at); err == nil {
			t.Error("a closed listener is still dialled")
		}
	})
}

func TestAddresses(t *testing.T) {
	var network memnet.Network
	listen := func(address string) net.Listener {
		t.Helper()
		l, err := network.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	one, two := listen("a:0"), listen("a:0")
	if one.Addr().String() == two.Addr().String() {
		t.Errorf("both listen at %s", one.Addr())
	}
	if _, err := network.Listen(t.Context(), "tcp", one.Addr().String()); err == nil {
		t.Error("Listen succeeded at an address in use")
	}
	if _, err := network.Listen(t.Context(), "tcp", "no port"); err == nil {
		t.Error("Listen succeeded at an address without a port")
	}
	if err := errors.Join(one.Close(), one.Close()); err != nil {
		t.Error(err)
	}
	listen(one.Addr().String())
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	if _, err := two.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v after Close; want net.ErrClosed", err)
	}
}

// TestDialWaits checks that Dial waits for a listener that does not accept.
func TestDialWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network memnet.Network
		l, err := network.Listen(t.Context(), "tcp", "slow:1")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err = network.Dial(ctx, "tcp", "slow:1")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("Dial = %v after %s; want the context's end after a minute", err, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { _ = l.Close() })
		start = time.Now()
		if _, err = network.Dial(t.Context(), "tcp", "slow:1"); err == nil || time.Since(start) != time.Second {
			t.Errorf("Dial = %v after %s; want a refusal when the listener closes", err, time.Since(start))
		}
		if got := network.Open("slow:1"); got != 0 {
			t.Errorf("Open = %d; want 0, since no connection was made", got)
		}
	})
}
