// The probe of an image that has no shell and no curl: the binary asks the server
// that runs beside it.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthcheckCommand takes one setting of serve's and none of its secrets.
type healthcheckCommand struct {
	OpsAddr string `name:"ops-addr" group:"Server" default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Where serve answers /readyz."`
}

// healthcheckTimeout is shorter than the 3 s after which Docker would end the
// command without a word about why.
const healthcheckTimeout = 2 * time.Second

func (h *healthcheckCommand) Run(ctx context.Context, std streams) error {
	address, err := probeAddress(h.OpsAddr)
	if err != nil {
		return err
	}
	if err := probe(ctx, "http://"+address+"/readyz"); err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	fmt.Fprintln(std.out, "ready")
	return nil
}

// probeAddress is where to dial what listens on opsAddr: who listens on all
// addresses is reached by loopback.
func probeAddress(opsAddr string) (string, error) {
	host, port, err := net.SplitHostPort(opsAddr)
	if err != nil || port == "" || port == "0" {
		return "", errors.New("healthcheck: OPS_ADDR is not an address to ask: host:port or :port, such as 127.0.0.1:9090")
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// probe asks once. No proxy of the environment is between, and no redirect is
// followed: only the server's own answer counts.
func probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<10))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", response.StatusCode)
	}
	return nil
}
