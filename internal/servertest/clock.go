package servertest

import (
	"sync"
	"time"
)

// Clock shows the real time plus the duration that a test has added.
type Clock struct {
	mu    sync.Mutex
	added time.Duration
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.added)
}

// Add moves the clock forward.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

// Set puts the clock ahead of the real time by the given duration.
func (c *Clock) Set(added time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added = added
}
