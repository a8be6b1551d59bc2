package servertest

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// Logs keeps every line of the log.
type Logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Lines returns the log lines with the given message.
func (l *Logs) Lines(message string) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// Last returns the newest line with the given message, or nil if there is none.
func (l *Logs) Last(message string) map[string]any {
	lines := l.Lines(message)
	if len(lines) == 0 {
		return nil
	}
	return slices.Clone(lines)[len(lines)-1]
}
