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

// registered is a webhook that Recharge knows.
type registered struct {
	ID      number `json:"id"`
	Address string `json:"address"`
	Topic   Topic  `json:"topic"`
}

type webhookPage struct {
	Webhooks *[]registered `json:"webhooks"`
	Next     string        `json:"next_cursor"`
}

// webhooks returns all that were registered with the client's token.
func (c *Client) webhooks(ctx context.Context, g *Grant) ([]registered, error) {
	var all []registered
	query := url.Values{"limit": {"250"}}
	for range maxWebhookPages {
		page, err := do[webhookPage](ctx, c, g, c.get(Normal, query, "webhooks"))
		if err == nil && page.Webhooks == nil {
			err = malformed("webhooks")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *page.Webhooks...)
		if page.Next == "" {
			break
		}
		query.Set("cursor", page.Next)
	}
	return all, nil
}

// KeepWebhooks makes sure that each topic is registered for address once. It removes
// those of ours that are registered twice or for another address, and leaves all
// others. It costs one call if nothing is to be done. A topic that Recharge refuses
// does not stop the others. Its priority is Normal.
func (c *Client) KeepWebhooks(ctx context.Context, g *Grant, address string, ours func(address string) bool) error {
	missing := map[Topic]string{TopicUninstalled: address + UninstalledPath}
	for _, topic := range []Topic{TopicCreated, TopicUpdated, TopicActivated, TopicDeactivated, TopicDeleted} {
		missing[topic] = address
	}
	return c.keepWebhooks(ctx, g, missing, ours)
}

// RemoveWebhooks removes ours. Its priority is Normal.
func (c *Client) RemoveWebhooks(ctx context.Context, g *Grant, ours func(address string) bool) error {
	return c.keepWebhooks(ctx, g, nil, ours)
}

// keepWebhooks makes ours what is missing, an address for each topic.
func (c *Client) keepWebhooks(
	ctx context.Context, g *Grant, missing map[Topic]string, ours func(address string) bool,
) error {
	all, err := c.webhooks(ctx, g)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range all {
		switch {
		case !ours(w.Address):
		case missing[w.Topic] == w.Address:
			delete(missing, w.Topic)
		default:
			errs = append(errs, c.removeWebhook(ctx, g, int64(w.ID)))
		}
	}
	for topic, to := range missing {
		errs = append(errs, c.addWebhook(ctx, g, topic, to))
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
