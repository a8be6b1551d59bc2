package server_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// pipe is the file that a log is written to. It can be blocked, like a disk with a full queue.
type pipe struct {
	mu      sync.Mutex
	written bytes.Buffer
	writes  int
	held    chan struct{} // nil: not blocked
}

func (p *pipe) Write(lines []byte) (int, error) {
	if p.held != nil {
		<-p.held
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	return p.written.Write(lines)
}

func (p *pipe) lines() (lines []string, writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(strings.TrimSuffix(p.written.String(), "\n"), "\n"), p.writes
}

// TestLogIsBuffered: lines are written 100 ms later, together and in order.
func TestLogIsBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &pipe{}
		log, flush := server.NewLog(out, config.Config{LogText: true})
		for round := range 3 {
			for i := range 100 {
				log.Info("click", "n", round*100+i)
			}
			if _, writes := out.lines(); writes != round {
				t.Fatalf("%d writes before 100 ms have passed; want %d", writes, round)
			}
			time.Sleep(101 * time.Millisecond)
		}
		log.Info("click", "n", 300)
		flush() // at the end
		lines, writes := out.lines()
		if len(lines) != 301 || writes != 4 {
			t.Fatalf("%d lines in %d writes; want 301 in 4", len(lines), writes)
		}
		for i, line := range lines {
			if !strings.HasSuffix(line, fmt.Sprintf(" n=%d", i)) {
				t.Fatalf("line %d = %q; want them in order", i, line)
			}
		}
		time.Sleep(time.Second) // the last timer
	})
}

// TestErrorsAreWrittenAtOnce, together with earlier lines.
func TestErrorsAreWrittenAtOnce(t *testing.T) {
	out := &pipe{}
	log, _ := server.NewLog(out, config.Config{})
	log.Info("before")
	log.Error("it is on fire")
	if lines, _ := out.lines(); len(lines) != 2 || !strings.Contains(lines[1], "on fire") {
		t.Errorf("written: %q; want both lines", lines)
	}
}

// TestNobodyWaitsForTheFile: logging does not block while the file does.
func TestNobodyWaitsForTheFile(t *testing.T) {
	out := &pipe{held: make(chan struct{})}
	log, flush := server.NewLog(out, config.Config{})
	log.Info("click")
	go flush()
	time.Sleep(10 * time.Millisecond)
	logged := make(chan struct{})
	go func() {
		for range 1000 {
			log.Info("click")
		}
		close(logged)
	}()
	select {
	case <-logged:
	case <-time.After(10 * time.Second):
		t.Error("logging waits for the file")
	}
	close(out.held)
	flush()
	if lines, _ := out.lines(); len(lines) != 1001 {
		t.Errorf("%d lines; want 1001", len(lines))
	}
}
