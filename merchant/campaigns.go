package merchant

// This file describes campaigns. The app home, the API and the command use the same sentences.

import (
	"errors"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/store"
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
	Progress Text   // how far it is or, once it has begun, the result
	Forecast Text   // what is possible; none once the campaign is running and all are prepared
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
	w.Progress = sentence(key,
		"percent", w.Percent, "done", done, "size", c.Size,
		"made", Plural(c.Made, "link"), "starts", c.StartsAt, "clicks", Plural(int(clicks), "click"),
		"signed in", w.Clicks.SignedIn, "share", signedIn, "hash", w.Clicks.ByHash)
	if problem := c.Problem; problem != "" && w.State != CampaignEnded && w.State != CampaignWaiting {
		w.Progress = follow(w.Progress, either(sentence("campaign waits "+problem), Words(problem)))
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
func forecastWords(c importer.Campaign, now time.Time) Text {
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
	all := follow(sentence(key,
		"links need", sentence("campaign links need", c.Size), "need", roughly(c.Need), "left", roughly(left),
		"by", c.StartBy.Truncate(precision), "starts", c.StartsAt, "share", int(100*c.Share())))
	if c.Unknown > 0 && c.Counted {
		all.Values = append(all.Values, sentence("campaign unknown", c.Unknown))
	}
	missing, _ := PlanWords(c.Missing)
	switch {
	case missing.Key != "":
		return missing
	case !c.Proven:
		all.Values = append(all.Values, sentence("campaign not proven"))
	}
	return all
}

// PlanWords says what to do about a plan that is refused. ok is false for any other error.
func PlanWords(err error) (text Text, ok bool) {
	refused, ok := errors.AsType[importer.PlanError](err)
	if !ok {
		return Text{}, false
	}
	text = sentence("no campaign " + string(refused))
	if detail, found := errors.AsType[importer.PlanDetail](err); found {
		text = follow(text, sentence("no campaign at "+detail.Name, detail.Value))
	}
	return text, true
}

// CampaignCancelled is what merchants read once a campaign is cancelled.
func CampaignCancelled() Said { return Said{Text: sentence("campaign cancelled")} }

// precision is that of durations, since none of them is certain.
const precision = 10 * time.Minute

// roughly formats a duration, rounded up.
func roughly(d time.Duration) Text {
	d = (max(d, 0) + precision - 1).Truncate(precision)
	hours, minutes := int(d.Hours()), int(d.Minutes())%60
	switch {
	case hours == 0:
		return sentence("time min", minutes)
	case minutes == 0:
		return sentence("time h", hours)
	}
	return sentence("time h min", "hours", hours, "minutes", minutes)
}
