package campaign

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// state is what the server says about a campaign.
type state struct {
	ID       string `json:"id"`
	Size     int    `json:"size"`
	Prepared int    `json:"prepared"`
	Forecast struct {
		Share float64 `json:"share"`
	} `json:"forecast"`
}

// plan plans a campaign as a mail tool does, and returns its id.
func (r *runner) plan(ctx context.Context, mail time.Time) (id string, err error) {
	const body = `{"name": "Spring", "starts_at": %q, "audience": "active"}`
	planned, err := r.ask(ctx, http.MethodPost, "/api/campaigns", fmt.Sprintf(body, mail.Format(time.RFC3339)))
	r.report.Forecast = planned.Forecast.Share
	return planned.ID, err
}

// look reads how many accesses are ready.
func (r *runner) look(ctx context.Context, id string) error {
	now, err := r.ask(ctx, http.MethodGet, "/api/campaigns/"+id, "")
	r.report.Ready = float64(now.Prepared) / float64(max(now.Size, 1))
	return err
}

func (r *runner) ask(ctx context.Context, method, path, body string) (state, error) {
	var now state
	answer, err := r.world.CallAPI(ctx, method, path, body)
	if err == nil && answer.Status >= http.StatusMultipleChoices {
		err = fmt.Errorf("campaign: %s %s: %d %s", method, path, answer.Status, answer.Body)
	}
	if err != nil {
		return now, err
	}
	return now, json.Unmarshal([]byte(answer.Body), &now)
}
