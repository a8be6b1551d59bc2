package sandbox

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"
)

// This file lets the clock of all parts run ahead to a campaign, so that a person sees within half a minute
// what takes a night.

const (
	// runEvery and runBy make the clock run fifty times as fast as usual, slowly enough to watch.
	runEvery, runBy = 100 * time.Millisecond, 5 * time.Second
	// runFor is how long before the campaign the clock runs. Until then, it jumps.
	runFor = 20 * time.Minute
)

// clockNow is the time of all parts.
func (e *environment) clockNow() time.Time { return e.base().Add(time.Duration(e.ahead.Load())) }

// startsAt is in the app home, for each campaign that has not begun.
var startsAt = regexp.MustCompile(`data-progress="(?:waiting|planned|preparing|ready)" data-starts="([^"]+)"`)

var errNoCampaign = errors.New("there is no campaign ahead: plan one in the app home")

// RunClock lets the clock run until the next campaign has begun.
func (s *Sandbox) RunClock(ctx context.Context) error {
	page, err := s.inAppHome(ctx, "/app/campaigns", nil)
	if err != nil {
		return err
	}
	var next time.Time
	for _, found := range startsAt.FindAllStringSubmatch(page, -1) {
		if at, err := time.Parse(time.RFC3339, found[1]); err == nil && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		return errNoCampaign
	}
	e := s.environment
	e.target.Store(next.Add(time.Second).UnixNano())
	e.running.Do(func() { e.background.Go(e.keepClock) })
	return nil
}

// keepClock moves the clock to its target, and has Redis follow it.
func (e *environment) keepClock() {
	tick := time.NewTicker(runEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		left := time.Unix(0, e.target.Load()).Sub(e.clockNow())
		switch {
		case left > runFor:
			e.ahead.Add(int64(left - runFor))
		case left > 0:
			e.ahead.Add(int64(min(left, runBy)))
		}
		e.redis.SetTime(e.clockNow())
	}
}

// runClock handles the panel's button.
func (p *panel) runClock(w http.ResponseWriter, r *http.Request) {
	said := ""
	if err := p.sandbox.RunClock(r.Context()); err != nil {
		said = "The clock does not run: " + err.Error() + "."
	}
	p.mu.Lock()
	p.said = said
	p.mu.Unlock()
	w.Header().Set("Location", whereFrom(r, p.sandbox.path))
	w.WriteHeader(http.StatusSeeOther)
}

// clockWords is what the panel shows of the clock; "" if nobody has let it run.
func (p *panel) clockWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	target := p.sandbox.environment.target.Load()
	if p.said != "" || target == 0 {
		return p.said
	}
	now := p.sandbox.environment.clockNow()
	if now.UnixNano() < target {
		return "The clock runs. Watch the campaign in the app home."
	}
	return "The campaign has begun. Click Subscriptions. Here it is " + now.UTC().Format("15:04 UTC on 2 January") + "."
}
