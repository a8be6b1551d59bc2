package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a server of its own that ends when its standard input does, or with
// the context.
type process struct {
	command *exec.Cmd
	stdin   io.Closer
}

// start returns when the process has said a word, with what it said after it.
func start(ctx context.Context, word string, environment []string, name string, args ...string) (*process, []string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := command.Start(); err != nil {
		return nil, nil, err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, said, found := strings.Cut(lines.Text(), word); found {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return &process{command, stdin}, strings.Fields(said), nil
		}
	}
	return nil, nil, errors.Join(fmt.Errorf("%s has not said %q", name, word), command.Wait())
}

func startSaying(ctx context.Context, environment []string, command ...string) (*process, []string, error) {
	return start(ctx, "ready", environment, command[0], command[1:]...)
}

func (p *process) stop() {
	_ = p.stdin.Close() // ours end by themselves then
	ended := time.AfterFunc(10*time.Second, func() { _ = p.command.Process.Kill() })
	defer ended.Stop()
	_ = p.command.Wait()
}

// cpu is how much processor time the process has had.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	_, behind, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(behind)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident is how much memory the process holds, in KiB.
func (p *process) resident() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib
		}
	}
	return 0
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// startRedis starts a redis-server that keeps nothing, and returns its port.
func startRedis(ctx context.Context) (*process, string, error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	p, _, err := start(ctx, "Ready to accept connections", nil, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err == nil {
		p.stdin = killer{p}
	}
	return p, port, err
}

// killer ends a process that does not look at its standard input.
type killer struct{ *process }

func (k killer) Close() error { return k.command.Process.Kill() }
