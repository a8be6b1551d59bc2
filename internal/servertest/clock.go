package servertest

import (
	"sync"
	"time"
)

// Clock is the real time, moved by what a test adds.
type Clock struct {
	mu    sync.Mutex
	added time.Duration
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

// Add moves the clock on.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

// Set moves it to that long after the real time.
func (c *Clock) Set(added time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added = added
}
