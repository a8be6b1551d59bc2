package server_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// TestHealthcheckAddresses: a server that listens on all addresses is reached on this machine.
func TestHealthcheckAddresses(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost", "", "0.0.0.0", "[::]", "[::1]"} {
		listener, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		ops := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_ = ops.Listener.Close()
		ops.Listener = listener
		ops.Start()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		if err := server.Healthcheck(t.Context(), host+":"+port); err != nil {
			t.Errorf("Healthcheck(%q) = %v", host+":"+port, err)
		}
		ops.Close()
	}
	for _, opsAddr := range []string{"9090", "127.0.0.1:", "127.0.0.1:0"} {
		if err := server.Healthcheck(t.Context(), opsAddr); err == nil {
			t.Errorf("Healthcheck(%q) = nil; want an error", opsAddr)
		}
	}
}
