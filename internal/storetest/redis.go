// Package storetest starts a real Redis for tests. The embedded one does not show how a
// connection fails, how much memory is used, and what a dump contains.
package storetest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a redis-server process on a loopback port. It keeps nothing on disk, so it is
// empty after a restart, unless its arguments say otherwise, such as "--appendonly", "yes".
type Server struct {
	Addr string // host:port, the same after Start

	t      testing.TB
	binary string
	dir    string
	args   []string
	// These differ between kinds of servers:
	tls      *tls.Config // for clients; nil without TLS
	sentinel bool
	// These are set while it runs:
	end    func() error  // kills it
	exited chan struct{} // closed when it has ended
}

// Redis starts a server that ends with the test. args are further arguments,
// such as "--maxmemory", "1mb".
//
// Without redis-server on the PATH, the test is skipped, or fails with CI=true, since a
// test that is skipped there would run nowhere.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	return launch(t, &Server{args: args})
}

// launch starts a server of any kind on a free port.
func launch(t testing.TB, s *Server) *Server {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no redis-server on the PATH, and with CI=true nothing is skipped")
		}
		t.Skip("no redis-server on the PATH")
	}
	s.t, s.binary, s.dir = t, binary, t.TempDir()
	t.Cleanup(s.Stop)
	// Another process may take the port before the server does, and a cluster's node also
	// needs the port 10000 above it.
	for range 10 {
		s.Addr = freeAddr(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatalf("start redis-server: %v", err)
	return nil
}

func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Start starts a stopped server on the same port. If the server runs, it does nothing.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start redis-server again: %v", err)
	}
}

// Stop kills the server, as a crash would, and waits until it has ended. If the server is
// stopped, it does nothing.
func (s *Server) Stop() {
	if s.end == nil {
		return
	}
	_ = s.end() // fails only if it has ended already
	<-s.exited
	s.end = nil
}

// Running reports whether the server is started.
func (s *Server) Running() bool { return s.end != nil }

// guarded runs a command while its own standard input is open. That is closed even when
// the test's process is killed or panics, in which case no Cleanup runs. So no process is
// left behind.
const guarded = `"$0" "$@" & exec >/dev/null; read -r _; kill -9 $!`

// arguments returns the arguments of the shell that runs the server.
func (s *Server) arguments() ([]string, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	args := []string{"-c", guarded, s.binary}
	switch {
	case s.sentinel:
		return append(args, s.sentinelConf(), "--sentinel", "--port", port, "--bind", host, "--dir", s.dir), nil
	case s.tls != nil:
		args = append(args, "--port", "0", "--tls-port", port)
	default:
		args = append(args, "--port", port)
	}
	args = append(args, "--bind", host, "--dir", s.dir, "--save", "", "--appendonly", "no", "--loglevel", "notice")
	return append(args, s.args...), nil
}

func (s *Server) start() error {
	if s.end != nil {
		return nil
	}
	args, err := s.arguments()
	if err != nil {
		return err
	}
	// The test's context ends before Cleanup, which may still need a dump.
	command := exec.Command("sh", args...)
	open, err := command.StdinPipe()
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	ready := make(chan struct{})
	exited := make(chan struct{})
	var last string // its last line of output; read only after exited is closed
	go func() {
		defer close(exited)
		said := bufio.NewScanner(output)
		for said.Scan() {
			last = said.Text()
			if strings.Contains(last, "Ready to accept connections") || strings.Contains(last, "Sentinel ID is") {
				close(ready)
				break
			}
		}
		for said.Scan() { // otherwise the pipe fills up and the server blocks
			last = said.Text()
		}
		_ = open.Close()
		_ = command.Wait() // fails because the server was killed
	}()
	select {
	case <-ready:
		s.end, s.exited = open.Close, exited
		return nil
	case <-exited:
		return fmt.Errorf("redis-server ended: %s", last)
	case <-time.After(10 * time.Second):
		_ = open.Close()
		<-exited
		return fmt.Errorf("redis-server is not ready after 10 s: %s", last)
	}
}

// Dump returns all keys with their values. A value that is not a string is given as its
// members, one per line. In a hash or a sorted set, each member is followed by its value or
// score. Two dumps of the same values are equal.
func (s *Server) Dump() map[string]string {
	s.t.Helper()
	// It has its own context, since a test's Cleanup may call it. Each key of a large import is a call of its own.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := s.client()
	defer client.Close()
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil {
		s.t.Fatalf("dump Redis: %v", err)
	}
	dump := make(map[string]string, len(keys))
	for _, key := range keys {
		value, err := value(ctx, client, key)
		if errors.Is(err, redis.Nil) { // deleted after Keys
			continue
		}
		if err != nil {
			s.t.Fatalf("dump Redis: %q: %v", key, err)
		}
		dump[key] = value
	}
	return dump
}

// client returns a client of this server only. The caller must close it.
func (s *Server) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     s.Addr,
		TLSConfig:                s.tls,
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func value(ctx context.Context, client *redis.Client, key string) (string, error) {
	kind, err := client.Type(ctx, key).Result()
	if err != nil {
		return "", err
	}
	var members []string
	switch kind {
	case "string":
		return client.Get(ctx, key).Result()
	case "list":
		members, err = client.LRange(ctx, key, 0, -1).Result()
	case "set":
		members, err = client.SMembers(ctx, key).Result()
		slices.Sort(members) // it has no order
	case "hash":
		var fields map[string]string
		fields, err = client.HGetAll(ctx, key).Result()
		for field, value := range fields {
			members = append(members, field+"\n"+value)
		}
		slices.Sort(members)
	case "zset":
		var scored []redis.Z
		scored, err = client.ZRangeWithScores(ctx, key, 0, -1).Result()
		for _, z := range scored {
			members = append(members, fmt.Sprintf("%v\n%v", z.Member, z.Score))
		}
	case "stream":
		var messages []redis.XMessage
		messages, err = client.XRange(ctx, key, "-", "+").Result()
		for _, message := range messages {
			members = append(members, fmt.Sprintf("%s\n%v", message.ID, message.Values))
		}
	case "none": // it has expired
	default:
		err = fmt.Errorf("a type that Dump does not know: %s", kind)
	}
	return strings.Join(members, "\n"), err
}
