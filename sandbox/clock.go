package sandbox

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/recharge"
)

// This file lets the clock of all parts jump to a campaign, so that a person sees within a minute what takes a night.

const (
	// clockTick is how often Redis follows the clock, and the app home is read.
	clockTick = 200 * time.Millisecond
	// clockJump is how long before a campaign its links are due, and passEvery how often those that are missing are
	// tried again.
	clockJump, passEvery = 15 * time.Minute, 6 * time.Minute
	// linksTime is how long the clock waits for all links, and passTime for those that are missing.
	linksTime, passTime = time.Minute, 10 * time.Second
)

// clockNow is the time of all parts.
func (e *environment) clockNow() time.Time {
	now := e.base().Add(time.Duration(e.ahead.Load()))
	if stands := time.Unix(0, e.notBefore.Load()); stands.After(now) {
		return stands
	}
	return now
}

// ahead is in the app home, for each campaign that has not begun: its state, its start, and the share of its links
// that are made.
var ahead = regexp.MustCompile(
	`data-progress="(waiting|planned|preparing|ready)" data-starts="([^"]+)"(?s:.*?)<progress max="100" value="(\d+)"`)

var errNoCampaign = errors.New("there is no campaign ahead: plan one in the app home")

type nextCampaign struct {
	starts      time.Time
	state, made string
}

// nextCampaign reads the app home.
func (s *Sandbox) nextCampaign(ctx context.Context) (next nextCampaign, err error) {
	page, err := s.inAppHome(ctx, "/app/campaigns", nil)
	if err != nil {
		return next, err
	}
	for _, found := range ahead.FindAllStringSubmatch(page, -1) {
		at, err := time.Parse(time.RFC3339, found[2])
		if err == nil && (next.starts.IsZero() || at.Before(next.starts)) {
			next = nextCampaign{at, found[1], found[3]}
		}
	}
	if next.starts.IsZero() {
		return next, errNoCampaign
	}
	return next, nil
}

// RunClock lets the clock run until the next campaign has begun.
func (s *Sandbox) RunClock(ctx context.Context) error {
	next, err := s.nextCampaign(ctx)
	if err != nil {
		return err
	}
	e := s.environment
	last := e.target.Load()
	if last < e.clockNow().UnixNano() && e.target.CompareAndSwap(last, next.starts.UnixNano()) { // it is not running
		e.background.Go(func() { s.keepClock(next.starts) })
	}
	return nil
}

// keepClock moves the clock to the start of a campaign. It does not move while links are made, since that work takes
// real time: its locks and leases would end too early, and links would be lost.
func (s *Sandbox) keepClock(starts time.Time) {
	e := s.environment
	for before := clockJump; before > 0; before -= passEvery {
		e.moveTo(starts.Add(-before))
		if !s.awaitLinks() {
			break
		}
	}
	e.moveTo(starts)
}

// awaitLinks waits for the links of the next campaign. It reports whether some are missing that are tried again later.
func (s *Sandbox) awaitLinks() (missing bool) {
	for waited := time.Duration(0); waited < linksTime; waited += clockTick {
		next, err := s.nextCampaign(s.environment.ctx)
		if next.made == "100" || errors.Is(err, errNoCampaign) || !recharge.Wait(s.environment.ctx, clockTick) {
			return false
		}
		if next.state == "ready" && waited > passTime {
			return true
		}
	}
	return false
}

func (e *environment) moveTo(at time.Time) {
	e.ahead.Store(max(e.ahead.Load(), int64(at.Sub(e.base()))))
	e.setRedis()
}

// skip moves the clock ahead, and lets it stand until it is right again, so that commands outside of the sandbox, which
// have another clock, work.
func (e *environment) skip(d time.Duration) {
	e.notBefore.Store(e.clockNow().Add(d).UnixNano())
	e.setRedis()
}

// setRedis has Redis follow the clock from now on.
func (e *environment) setRedis() {
	e.redis.SetTime(e.clockNow())
	e.follow.Do(func() { e.background.Go(e.keepRedis) })
}

func (e *environment) keepRedis() {
	for recharge.Wait(e.ctx, clockTick) {
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
	p.back(w, r)
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
