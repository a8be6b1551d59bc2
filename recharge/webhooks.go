package recharge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// maxWebhookPages is how many pages of webhooks are read. A token has at most ten
// webhooks a topic.
const maxWebhookPages = 20

// Registered is a webhook that Recharge knows.
type Registered struct {
	ID      int64
	Address string
	Topic   Topic
}

// addresses returns the address of each topic, for a server at address.
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

// Webhooks returns all that were registered with the client's token. Its priority is
// Normal, as is that of the methods below.
func (c *Client) Webhooks(ctx context.Context, g *Grant) ([]Registered, error) {
	var all []Registered
	query := url.Values{"limit": {"250"}}
	for range maxWebhookPages {
		page, err := do[webhookPage](ctx, c, g, c.get(Normal, query, "webhooks"))
		if err == nil && page.Webhooks == nil {
			err = &Error{Endpoint: "webhooks", Reason: Malformed, Status: http.StatusOK}
		}
		if err != nil {
			return nil, err
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

// KeepWebhooks makes sure that each topic is registered for address once. It removes
// those of ours that are registered twice or for another address, and leaves all
// others. It costs one call if nothing is to be done. A topic that Recharge refuses
// does not stop the others.
func (c *Client) KeepWebhooks(ctx context.Context, g *Grant, address string, ours func(address string) bool) error {
	all, err := c.Webhooks(ctx, g)
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
			errs = append(errs, c.removeWebhook(ctx, g, w.ID))
		}
	}
	for topic, to := range missing {
		errs = append(errs, c.addWebhook(ctx, g, topic, to))
	}
	return errors.Join(errs...)
}

// RemoveWebhooks removes ours.
func (c *Client) RemoveWebhooks(ctx context.Context, g *Grant, ours func(address string) bool) error {
	all, err := c.Webhooks(ctx, g)
	errs := []error{err}
	for _, w := range all {
		if ours(w.Address) {
			errs = append(errs, c.removeWebhook(ctx, g, w.ID))
		}
	}
	return errors.Join(errs...)
}

func (c *Client) addWebhook(ctx context.Context, g *Grant, topic Topic, address string) error {
	body, err := json.Marshal(map[string]string{"topic": string(topic), "address": address})
	if err != nil {
		return err
	}
	add := c.get(Normal, nil, "webhooks")
	add.method, add.body = http.MethodPost, string(body)
	_, err = do[struct{}](ctx, c, g, add)
	return err
}

func (c *Client) removeWebhook(ctx context.Context, g *Grant, id int64) error {
	remove := c.get(Normal, nil, "webhooks", strconv.FormatInt(id, 10))
	remove.method = http.MethodDelete
	_, err := do[struct{}](ctx, c, g, remove)
	if Is(err, NotFound) {
		return nil // it is gone
	}
	return err
}
