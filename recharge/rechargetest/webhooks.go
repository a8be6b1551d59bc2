package rechargetest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	webhookTimeout = 5 * time.Second // for the answer to a delivery
	webhookTries   = 20              // after which the webhook is deleted
	webhookSpan    = 48 * time.Hour  // for all tries
	webhooksATopic = 10              // per token
)

// Delivery is one try to deliver a webhook.
type Delivery struct {
	Topic, Address string
	Try            int // from 1
	Status         int // of the answer; 0 if there was none
	At             time.Time
}

// hook is a registered webhook.
type hook struct {
	ID       int64    `json:"id"`
	Address  string   `json:"address"`
	Topic    string   `json:"topic"`
	Included []string `json:"included_objects"`
	by       *adminToken
}

const topicUpcoming = "charge/upcoming"

// topics returns the topics that can be registered here.
func topics() []string {
	return []string{
		"customer/created", "customer/updated", "customer/activated", "customer/deactivated", "customer/deleted",
		"subscription/created", "subscription/activated", "subscription/cancelled",
		"subscription/deleted", "subscription/updated",
		topicUpcoming, "store/updated", "recharge/uninstalled", "app/uninstalled",
	}
}

func (s *Server) listWebhooks(c call) answer {
	w, wrong := c.window()
	if wrong != "" {
		return invalid(wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := slices.DeleteFunc(slices.Clone(s.hooks), func(h hook) bool { return h.by != c.token })
	page, next, previous := cut(w, mine)
	return jsonAnswer(http.StatusOK, map[string]any{
		"webhooks": append([]hook{}, page...), "next_cursor": next, "previous_cursor": previous,
	})
}

func (s *Server) addWebhook(c call) answer {
	var asked hook
	if json.Unmarshal(c.body, &asked) != nil {
		return refusal(http.StatusBadRequest)
	}
	if !slices.Contains(topics(), asked.Topic) {
		return invalid("topic")
	}
	if asked.Topic == topicUpcoming && !c.token.hasAny(chargeScopes()) {
		return refusal(http.StatusForbidden)
	}
	if !goodAddress(asked.Address) {
		return invalid("address")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have := 0
	for _, h := range s.hooks {
		if h.by == c.token && h.Topic == asked.Topic {
			have++
		}
	}
	if have >= webhooksATopic {
		return invalid("topic")
	}
	s.lastHook++
	asked.ID, asked.by = 900100+s.lastHook, c.token
	s.hooks = append(s.hooks, asked)
	return jsonAnswer(http.StatusCreated, map[string]hook{"webhook": asked})
}

// goodAddress reports whether an address is absolute and either https or, for tests, on loopback.
func goodAddress(address string) bool {
	u, err := url.Parse(address)
	local := err == nil && u.Scheme == "http" && strings.HasPrefix(u.Host, "127.0.0.1:")
	return local || err == nil && u.Scheme == "https" && u.Host != ""
}

// oneWebhook reads, changes, deletes or tests the webhook that the path names.
func (s *Server) oneWebhook(c call) answer {
	id, err := strconv.ParseInt(c.id, 10, 64)
	s.mu.Lock()
	i := slices.IndexFunc(s.hooks, func(h hook) bool { return h.ID == id && h.by == c.token })
	if err != nil || i < 0 {
		s.mu.Unlock()
		return refusal(http.StatusNotFound)
	}
	defer s.mu.Unlock()
	switch c.requestMethod {
	case http.MethodDelete:
		s.hooks = slices.Delete(slices.Clone(s.hooks), i, i+1)
		return jsonAnswer(http.StatusOK, map[string]any{})
	case http.MethodPut:
		next := s.hooks[i]
		next.Included = slices.Clone(next.Included) // encoding/json writes into the existing slice
		if json.Unmarshal(c.body, &next) != nil || !goodAddress(next.Address) || !slices.Contains(topics(), next.Topic) {
			return invalid("address")
		}
		next.ID, next.by = s.hooks[i].ID, c.token
		s.hooks = slices.Clone(s.hooks)
		s.hooks[i] = next
	case http.MethodPost:
		if c.faults.NoTests {
			return refusal(http.StatusNotFound)
		}
		if h := s.hooks[i]; !s.closed {
			s.delivering.Go(func() { s.deliver(h, s.sample(h.Topic)) })
		}
		return jsonAnswer(http.StatusOK, map[string]any{})
	}
	return jsonAnswer(http.StatusOK, map[string]hook{"webhook": s.hooks[i]})
}

// sample returns the body of a test delivery. Its customer does not exist.
func (s *Server) sample(topic string) []byte {
	nobody := Customer{ID: 1, Hash: "0000000000000000"}
	about := map[string]any{}
	switch {
	case strings.HasPrefix(topic, "customer/"):
		about["customer"] = toJSON(nobody)
	case topic == topicUpcoming:
		about["charge"] = chargeOf(nobody)
	}
	body, _ := json.Marshal(about)
	return body
}

// ChangeCustomer adds a customer, or replaces the one with that ID, and sends Recharge's webhooks
// for that: customer/created or customer/updated, and customer/activated or customer/deactivated if
// the customer got a first active subscription or lost the last.
func (s *Server) ChangeCustomer(c Customer) {
	list := slices.Clone(s.customerList())
	send := []string{"customer/updated"}
	i := slices.IndexFunc(list, func(other Customer) bool { return other.ID == c.ID })
	before := 0
	if i < 0 {
		send = []string{"customer/created"}
		list = append(list, c)
	} else {
		before = len(list[i].Subscriptions)
		list[i] = c
	}
	switch now := len(c.Subscriptions); {
	case before == 0 && now > 0:
		send = append(send, "customer/activated")
	case before > 0 && now == 0:
		send = append(send, "customer/deactivated")
	}
	s.SetCustomers(list)
	body, _ := json.Marshal(map[string]customerJSON{"customer": toJSON(c)})
	for _, topic := range send {
		s.Send(topic, body)
	}
}

// DeleteCustomer removes a customer and sends customer/deleted, which holds only the id.
func (s *Server) DeleteCustomer(id int64) {
	s.SetCustomers(slices.DeleteFunc(slices.Clone(s.customerList()), func(c Customer) bool { return c.ID == id }))
	var told any = id
	if s.Faults().StringID {
		told = strconv.FormatInt(id, 10)
	}
	body, _ := json.Marshal(map[string]any{"customer": map[string]any{"id": told}})
	s.Send("customer/deleted", body)
}

// UninstallApp forgets all tokens, and sends recharge/uninstalled.
func (s *Server) UninstallApp() {
	s.mu.Lock()
	s.tokens = map[string]*adminToken{}
	s.mu.Unlock()
	s.Send("recharge/uninstalled", []byte(`{"shop":{"identifier":`+strconv.Quote(s.opts.Shop)+`}}`))
}

// AddToken adds an Admin API token.
func (s *Server) AddToken(token Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := maps.Clone(s.tokens)
	maps.Copy(known, adminTokens([]Token{token}))
	s.tokens = known
}

// RevokeToken removes an Admin API token. Its webhooks stay until their deliveries fail, as they do at Recharge.
func (s *Server) RevokeToken(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, value)
}

// holds reports whether a token is still known. The caller holds the server's mutex.
func (s *Server) holds(token *adminToken) bool {
	for _, known := range s.tokens {
		if known == token {
			return true
		}
	}
	return false
}

// Send delivers body to every webhook of the topic, each with its own signature, and returns at once. A delivery that
// fails is tried again; see Options.RetryAfter.
func (s *Server) Send(topic string, body []byte) {
	s.mu.Lock()
	hooks := slices.DeleteFunc(slices.Clone(s.hooks), func(h hook) bool { return h.Topic != topic })
	twice := s.faults.DeliverTwice
	s.mu.Unlock()
	s.deliverAll(hooks, body)
	if twice {
		s.deliverAll(hooks, body)
	}
}

func (s *Server) deliverAll(hooks []hook, body []byte) {
	for _, h := range hooks {
		s.mu.Lock()
		if !s.closed {
			s.delivering.Go(func() { s.deliver(h, body) })
		}
		s.mu.Unlock()
	}
}

// AddWebhook registers a webhook for a token, without the API's checks.
func (s *Server) AddWebhook(token, topic, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[token] == nil {
		panic("rechargetest: no such token")
	}
	s.lastHook++
	added := hook{ID: 900100 + s.lastHook, Address: address, Topic: topic, by: s.tokens[token]}
	s.hooks = append(slices.Clone(s.hooks), added)
}

// DeleteWebhooks deletes all webhooks, as Recharge does with those that fail for two days.
func (s *Server) DeleteWebhooks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = nil
}

// Webhooks returns the registered addresses by topic.
func (s *Server) Webhooks() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]string{}
	for _, h := range s.hooks {
		all[h.Topic] = append(all[h.Topic], h.Address)
	}
	return all
}

// Deliveries returns the newest 10000 tries to deliver a webhook, oldest first.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deliveries.items)
}

// deliver tries until the answer is good, and deletes the webhook if none was.
func (s *Server) deliver(h hook, body []byte) {
	for try := 1; try <= webhookTries; try++ {
		if !s.registered(h.ID) || s.try(h, body, try) {
			return
		}
		if try == webhookTries {
			break
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(s.opts.RetryAfter(try)):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks = slices.DeleteFunc(slices.Clone(s.hooks), func(other hook) bool { return other.ID == h.ID })
}

// registered reports whether a webhook has not been deleted since.
func (s *Server) registered(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.hooks, func(h hook) bool { return h.ID == id })
}

// spread makes the tries less and less frequent, and the last one after two days.
func spread(try int) time.Duration {
	const between = webhookTries - 1
	return webhookSpan * time.Duration(2*try-1) / (between * between)
}

func (s *Server) try(h hook, body []byte, try int) (delivered bool) {
	ctx, cancel := context.WithTimeout(s.ctx, webhookTimeout)
	defer cancel()
	now := s.opts.Now()
	status := 0
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.Address, bytes.NewReader(body))
	if err == nil {
		s.sign(request.Header, h, body, now)
		status = s.post(request)
	}
	if ctx.Err() != nil && s.ctx.Err() != nil {
		return true // the server is closing, so nobody looks at the history
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries.add(Delivery{Topic: h.Topic, Address: h.Address, Try: try, Status: status, At: now})
	return status != 0 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests && status < 500
}

func (s *Server) post(request *http.Request) (status int) {
	response, err := s.deliverer.Do(request)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
	return response.StatusCode
}

// sign adds Recharge's headers: the older digest, which is no HMAC, and the newer signature over time and body.
func (s *Server) sign(header http.Header, h hook, body []byte, now time.Time) {
	faults := s.Faults()
	secret := h.by.clientSecret
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "rechargetest")
	if !faults.NoTopicHeader {
		header.Set("X-Recharge-Topic", h.Topic)
	}
	older, newer := secret, secret
	if faults.WrongLegacySignature {
		older = "not the " + secret
	}
	if faults.WrongNewSignature {
		newer = "not the " + secret
	}
	sum := sha256.Sum256(append([]byte(older), body...))
	header.Set("X-Recharge-Hmac-Sha256", hex.EncodeToString(sum[:]))
	if faults.LegacyOnly {
		return
	}
	seconds := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(newer))
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	header.Set("X-Recharge-Webhook-Timestamp", seconds)
	header.Set("X-Recharge-Webhook-Signature", "t="+seconds+",v1="+hex.EncodeToString(mac.Sum(nil)))
}
