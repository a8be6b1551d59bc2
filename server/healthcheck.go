package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Healthcheck asks /readyz of a server on this machine, whose OPS_ADDR is opsAddr.
// It returns nil if the server is ready. An image has neither shell nor curl to ask
// with.
func Healthcheck(ctx context.Context, opsAddr string) error {
	address, err := probeAddress(opsAddr)
	if err == nil {
		err = probe(ctx, "http://"+address+"/readyz")
	}
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	return nil
}

// probeAddress returns where to dial a server that listens on opsAddr. One that
// listens on all addresses is reached on loopback.
func probeAddress(opsAddr string) (string, error) {
	host, port, err := net.SplitHostPort(opsAddr)
	if err != nil || port == "" || port == "0" {
		return "", errors.New("OPS_ADDR is not host:port or :port, such as 127.0.0.1:9090")
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// probe asks once, without a proxy and without following redirects, because only
// the server's own answer counts.
func probe(ctx context.Context, url string) error {
	// Docker ends the command after 3 s without saying why.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
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
