package merchant

// This file describes campaigns. The app home, the API and the command use the same sentences.

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"manage-subscriptions/importer"
	"manage-subscriptions/portal"
	"manage-subscriptions/store"
)

// The states of a campaign.
const (
	CampaignWaiting   = "waiting"   // for the import
	CampaignPlanned   = "planned"   // the work begins later
	CampaignPreparing = "preparing" // before its start
	CampaignReady     = "ready"     // before its start, and everyone has been gone through
	CampaignRunning   = "running"
	CampaignEnded     = "ended"
)

// CampaignWords is what people read about a campaign.
type CampaignWords struct {
	State    string // one of the above
	Percent  int    // of the audience that is prepared
	Progress string // how far it is or, once it has begun, the result
	Forecast string // what is possible; "" once the campaign is running and all are prepared
	Clicks   CampaignClicks
}

// CampaignClicks is a campaign's result. All lacks those who were sent to sign in, since they come back.
type CampaignClicks struct {
	All      int64 `json:"all"`
	SignedIn int64 `json:"signed_in"`
	ByHash   int64 `json:"by_hash"`
	Prepared int64 `json:"prepared"`
}

// CampaignWords describes a campaign.
func (s *Service) CampaignWords(c importer.Campaign) CampaignWords {
	now, done := s.Now(), c.Prepared()
	w := CampaignWords{State: campaignState(c, now), Clicks: clicksOf(c.Clicks)}
	w.Percent = 100 * done / max(c.Size, 1)
	clicks, signedIn := w.Clicks.All, 100*w.Clicks.SignedIn/max(w.Clicks.All, 1)
	key := "campaign " + w.State
	if w.State == CampaignRunning && c.Audience == store.Renewals { // it has no size
		key = "campaign always"
	}
	w.Progress = fill(key, map[string]string{
		"percent": strconv.Itoa(w.Percent), "done": thousands(done), "size": thousands(c.Size),
		"made": Plural(c.Made, "link"), "starts": moment(c.StartsAt), "clicks": Plural(int(clicks), "click"),
		"signed in": thousands(w.Clicks.SignedIn), "share": strconv.FormatInt(signedIn, 10),
		"hash": thousands(w.Clicks.ByHash),
	})
	if problem := c.Problem; problem != "" && w.State != CampaignEnded && w.State != CampaignWaiting {
		w.Progress += " " + cmp.Or(sentence("campaign waits "+problem), Words(problem))
	}
	if complete := c.Size > 0 && c.Pass > 0; w.State != CampaignEnded && (w.State != CampaignRunning || !complete) {
		w.Forecast = forecastWords(c, now)
	}
	return w
}

func campaignState(c importer.Campaign, now time.Time) string {
	switch {
	case c.Over(now):
		return CampaignEnded
	case !now.Before(c.StartsAt):
		return CampaignRunning
	case !c.Counted:
		return CampaignWaiting
	case c.Size > 0 && c.Pass > 0:
		return CampaignReady
	case c.Planned:
		return CampaignPreparing
	}
	return CampaignPlanned
}

func clicksOf(counts map[string]int64) CampaignClicks {
	clicks := CampaignClicks{
		SignedIn: counts[string(portal.Redirected)], ByHash: counts[string(portal.RedirectedByHash)],
		Prepared: counts[portal.ByPrepared],
	}
	for _, outcome := range []portal.Outcome{
		portal.Redirected, portal.RedirectedByHash, portal.SignInFailed, portal.NotASubscriber, portal.Unavailable,
	} {
		clicks.All += counts[string(outcome)]
	}
	return clicks
}

// forecastWords says what is possible. Durations are rounded up, so the time to start by is rounded down.
func forecastWords(c importer.Campaign, now time.Time) string {
	key := "campaign all ready"
	left := min(c.StartsAt.Sub(now), time.Duration(c.Ready-c.Prepared())*c.Each)
	switch {
	case c.Audience == store.Renewals:
		key = "campaign renewals"
	case !c.Counted:
		key = "campaign not counted"
	case c.Size == 0:
		key = "campaign nobody"
	case !now.Before(c.StartsAt):
		key = "campaign begun"
	case c.Ready < c.Size:
		key = "campaign too late"
	case c.Prepared() == 0 && now.Before(c.StartBy):
		key = "campaign in time"
	}
	need := Plural(c.Size, "link") + " need"
	if c.Size == 1 {
		need += "s"
	}
	all := []string{fill(key, map[string]string{
		"links need": need, "need": roughly(c.Need), "left": roughly(left),
		"by": moment(c.StartBy.Truncate(precision)), "starts": moment(c.StartsAt),
		"share": strconv.Itoa(int(100 * c.Share())),
	})}
	if c.Unknown > 0 && c.Counted {
		all = append(all, sentence("campaign unknown", Plural(c.Unknown, "listed customer")))
	}
	if !c.Proven {
		all = append(all, sentence("campaign not proven"))
	}
	return strings.Join(all, " ")
}

// PlanWords says what to do about a plan that is refused. ok is false for any other error.
func PlanWords(err error) (text string, ok bool) {
	refused, ok := errors.AsType[importer.PlanError](err)
	if !ok {
		return "", false
	}
	text = sentence("no campaign " + string(refused))
	if _, where, found := strings.Cut(err.Error(), refused.Error()+": "); found {
		text += " (" + where + ")"
	}
	return text, true
}

// CampaignCancelled is what merchants read once a campaign is cancelled.
func CampaignCancelled() Said { return Said{Text: sentence("campaign cancelled")} }

// fill returns the sentence at a key, with each value in the place of its {name}.
func fill(key string, values map[string]string) string {
	text := sentence(key)
	for name, value := range values {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

func moment(at time.Time) string { return at.UTC().Format("15:04 UTC on 2 January") }

// precision is that of durations, since none of them is certain.
const precision = 10 * time.Minute

// roughly formats a duration, rounded up.
func roughly(d time.Duration) string {
	d = (max(d, 0) + precision - 1).Truncate(precision)
	hours, minutes := int(d.Hours()), int(d.Minutes())%60
	switch {
	case hours == 0:
		return fmt.Sprintf("%d min", minutes)
	case minutes == 0:
		return thousands(hours) + " h"
	}
	return fmt.Sprintf("%s h %d min", thousands(hours), minutes)
}

// thousands formats a count with a comma before every third digit.
func thousands[N int | int64](n N) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
