package recharge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// maxWebhookPages bounds how many pages of webhooks are read: each token has ten a
// topic at most.
const maxWebhookPages = 20

// Registered is a webhook that Recharge knows.
type Registered struct {
	ID      int64
	Address string
	Topic   Topic
}

// addresses are where each topic goes, for a server at address.
func addresses(address string) map[Topic]string {
	to := map[Topic]string{TopicUninstalled: address + UninstalledPath}
	for _, topic := range []Topic{TopicCreated, TopicUpdated, TopicActivated, TopicDeactivated, TopicDeleted} {
		to[topic] = address
	}
	return to
}

type webhookPage struct {
	Webhooks *[]struct {
		ID      number `json:"id"`
		Address string `json:"address"`
		Topic   Topic  `json:"topic"`
	} `json:"webhooks"`
	Next string `json:"next_cursor"`
}

// Webhooks are all that were registered with the client's token.
func (c *Client) Webhooks(ctx context.Context) ([]Registered, error) {
	var all []Registered
	query := url.Values{"limit": {"250"}}
	for range maxWebhookPages {
		page, failed := do[webhookPage](ctx, c, call{
			endpoint: "webhooks", urgency: helpful, method: http.MethodGet, path: []string{"webhooks"}, query: query, header: c.adminHeader(),
		})
		if failed == nil && page.Webhooks == nil {
			failed = &Error{Endpoint: "webhooks", Reason: Malformed, Status: http.StatusOK}
		}
		if failed != nil {
			return nil, failed
		}
		for _, w := range *page.Webhooks {
			all = append(all, Registered{int64(w.ID), w.Address, w.Topic})
		}
		if page.Next == "" {
			break
		}
		query = url.Values{"cursor": {page.Next}, "limit": {"250"}}
	}
	return all, nil
}

// KeepWebhooks makes sure that each topic is registered for address once. Of ours,
// what is registered twice or for another address is removed; all others stay. It
// costs one call when all is well. A topic that Recharge refuses does not stop the
// others.
func (c *Client) KeepWebhooks(ctx context.Context, address string, ours func(address string) bool) error {
	all, err := c.Webhooks(ctx)
	if err != nil {
		return err
	}
	missing := addresses(address)
	var errs []error
	for _, w := range all {
		switch {
		case !ours(w.Address):
		case missing[w.Topic] == w.Address:
			delete(missing, w.Topic)
		default:
			errs = append(errs, c.removeWebhook(ctx, w.ID))
		}
	}
	for topic, to := range missing {
		errs = append(errs, c.addWebhook(ctx, topic, to))
	}
	return errors.Join(errs...)
}

// RemoveWebhooks removes ours.
func (c *Client) RemoveWebhooks(ctx context.Context, ours func(address string) bool) error {
	all, err := c.Webhooks(ctx)
	errs := []error{err}
	for _, w := range all {
		if ours(w.Address) {
			errs = append(errs, c.removeWebhook(ctx, w.ID))
		}
	}
	return errors.Join(errs...)
}

func (c *Client) addWebhook(ctx context.Context, topic Topic, address string) error {
	body, err := json.Marshal(map[string]string{"topic": string(topic), "address": address})
	if err != nil {
		return err
	}
	_, failed := do[struct{}](ctx, c, call{
		endpoint: "webhooks", urgency: helpful, method: http.MethodPost, path: []string{"webhooks"}, header: c.adminHeader(), body: string(body),
	})
	return orNil(failed)
}

func (c *Client) removeWebhook(ctx context.Context, id int64) error {
	_, failed := do[struct{}](ctx, c, call{
		endpoint: "webhooks", urgency: helpful, method: http.MethodDelete, path: []string{"webhooks", strconv.FormatInt(id, 10)}, header: c.adminHeader(),
	})
	if failed != nil && failed.Reason == NotFound {
		return nil // it is gone
	}
	return orNil(failed)
}

// orNil keeps a nil *Error from becoming an error that is not nil.
func orNil(failed *Error) error {
	if failed == nil {
		return nil
	}
	return failed
}
