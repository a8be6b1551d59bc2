package recharge

import (
	"errors"
	"strings"
	"testing"
)

// FuzzWebhookBody: for any signed body and topic, the values read have their shapes, and an error
// quotes nothing from the body.
func FuzzWebhookBody(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", "[]", bodyA, bodyB, `{"customer":null}`, `{"customer":{"id":1}}`, `{"customer":{"id":"1","hash":"a","external_customer_id":{"ecommerce":"2"}}}`,
		`{"customer":{"id":-1}}`, `{"customer":{"id":1e3}}`, `{"customer":{"id":1,"external_customer_id":{"ecommerce":"../x"}}}`, `{"customer":{"id":1,"ID":2}}`, `{"store":{}}`, `{"subscription":{}}`,
		`{"charge":{"customer":{"id":1,"external_customer_id":{"ecommerce":"2"}}}}`, `{"charge":{"customer":{"id":1}},"customer":{"id":2}}`, `{"charge":null}`,
	} {
		for _, topic := range []string{"", "customer/updated", string(TopicDeleted), string(TopicUninstalled), string(TopicUpcoming), "order/created"} {
			f.Add(topic, body)
		}
	}
	f.Fuzz(func(t *testing.T, topic, body string) {
		got, err := readWebhook(Topic(topic), []byte(body))
		if err != nil {
			if !errors.Is(err, ErrMalformedWebhook) || got.ID != 0 || len(body) > 40 && strings.Contains(err.Error(), body) {
				t.Errorf("readWebhook(%q, %q) = %+v, %v; want no customer and ErrMalformedWebhook", topic, body, got, err)
			}
			return
		}
		if got.ID < 0 || got.ID == 0 && got.Customer != "" || strings.Trim(got.Customer, "0123456789") != "" || len(got.Customer) > 20 {
			t.Errorf("readWebhook(%q, %q) = %+v; want a customer in its shapes", topic, body, got)
		}
		guessed := topic == "" && got.Topic == TopicUpcoming && got.ID != 0
		if got.Topic != Topic(topic) && !guessed || got.Topic == TopicUninstalled && got.ID != 0 {
			t.Errorf("readWebhook(%q, %q) = %+v; want its topic, and no customer with an uninstall", topic, body, got)
		}
	})
}
