package recharge

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The vectors of https://docs.getrecharge.com/docs/webhooks-overview, recomputed with another
// implementation, because none signed by Recharge itself is public.
const (
	vectorSecret = "fixture-client-secret"
	vectorTime   = 1735689600
	bodyA        = `{"customer":{"id":70100200,"email":"pat@example.test","external_customer_id":{"ecommerce":"6100200300400"},"first_name":"Pat","hash":"1f2e3d4c5b6a7988","last_name":"Doe","subscriptions_active_count":1,"updated_at":"2025-04-02T10:11:12"}}`
	olderA       = "ff11a45e881d9d2a7c4b8a6272b9aaac0685b17bda55e3be9f413c5d7966dddf"
	hmacA        = "0307d299f6da98a2ae1754828e3e09ccdbdbf4b0e6c94b04aeed246826678b78"
	newerA       = "t=1735689600,v1=5f609f4717fab69a9415dd02d094859ca3202ae362962b6d627763a1eb25ace7"
	bodyB        = `{"customer":{"id":70100200}}`
	olderB       = "c9c876ba76374b0a5b13ad9dbea937e7d8b4a5e014d2377f2c827cb06e2657e4"
	hmacB        = "acf152398d22127b5fcf75a4aaf624beacf696c216897315e883a3eba0b7170c"
	newerB       = "t=1735689600,v1=8163bb8409ad8fb2df31436413cc23714b293a77ad25ec47882bbe5900b9974a"
)

// headers makes headers from pairs of a short name and a value.
func headers(pairs ...string) http.Header {
	header := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		name := map[string]string{
			"older": "X-Recharge-Hmac-Sha256", "newer": "X-Recharge-Webhook-Signature", "time": "X-Recharge-Webhook-Timestamp", "topic": "X-Recharge-Topic",
		}[pairs[i]]
		header.Add(name, pairs[i+1])
	}
	return header
}

func older(body string) string {
	sum := sha256.Sum256([]byte(vectorSecret + body))
	return hex.EncodeToString(sum[:])
}

func newer(body string, at int64) string {
	mac := hmac.New(sha256.New, []byte(vectorSecret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	return fmt.Sprintf("t=%d,v1=%x", at, mac.Sum(nil))
}

func TestVerifyWebhook(t *testing.T) {
	pat := Webhook{ID: 70100200, Customer: "6100200300400"}
	gone := Webhook{ID: 70100200}
	with := func(w Webhook, topic Topic) Webhook { w.Topic = topic; return w }
	const pats = `{"id":70100200,"external_customer_id":{"ecommerce":"6100200300400"}}`
	charge := func(customer string) string {
		return `{"charge":{"id":1,"customer":` + customer + `,"status":"queued"}}`
	}
	now := time.Unix(vectorTime, 0)
	for name, test := range map[string]struct {
		body   string
		header http.Header
		topic  Topic
		secret string // "": the vectors'
		at     time.Duration
		want   Webhook
		err    error
	}{
		"both signatures":               {body: bodyA, header: headers("older", olderA, "newer", newerA, "time", "1735689600"), want: pat},
		"the older alone":               {body: bodyA, header: headers("older", olderA), want: pat},
		"the newer alone":               {body: bodyA, header: headers("newer", newerA), want: pat},
		"B, both":                       {body: bodyB, header: headers("older", olderB, "newer", newerB), want: gone},
		"B, the older alone":            {body: bodyB, header: headers("older", olderB), want: gone},
		"an HMAC as the older":          {body: bodyA, header: headers("older", hmacA), err: ErrForgedWebhook},
		"B, an HMAC as the older":       {body: bodyB, header: headers("older", hmacB), err: ErrForgedWebhook},
		"no signature":                  {body: bodyA, header: headers(), err: ErrForgedWebhook},
		"another's body":                {body: bodyA, header: headers("older", olderB), err: ErrForgedWebhook},
		"another's body, newer":         {body: bodyA, header: headers("newer", newerB), err: ErrForgedWebhook},
		"in capitals":                   {body: bodyA, header: headers("older", strings.ToUpper(olderA)), err: ErrForgedWebhook},
		"wrong newer, right older":      {body: bodyA, header: headers("older", olderA, "newer", newerB), err: ErrForgedWebhook},
		"empty newer, right older":      {body: bodyA, header: headers("older", olderA, "newer", ""), err: ErrForgedWebhook},
		"misshapen newer, right older":  {body: bodyA, header: headers("older", olderA, "newer", "v1="+newerA[16:]), err: ErrForgedWebhook},
		"newer twice, right older":      {body: bodyA, header: headers("older", olderA, "newer", newerA, "newer", newerB), err: ErrForgedWebhook},
		"older twice":                   {body: bodyA, header: headers("older", olderA, "older", olderB), err: ErrForgedWebhook},
		"two v1":                        {body: bodyA, header: headers("newer", newerA+",v1="+strings.Repeat("0", 64)), err: ErrForgedWebhook},
		"another time beside":           {body: bodyA, header: headers("newer", newerA, "time", "1735689601"), err: ErrForgedWebhook},
		"48 hours old":                  {body: bodyA, header: headers("newer", newerA), at: 48 * time.Hour, want: pat},
		"older than 48 hours":           {body: bodyA, header: headers("newer", newerA), at: 48*time.Hour + time.Second, err: ErrForgedWebhook},
		"48 hours ahead":                {body: bodyA, header: headers("newer", newerA), at: -48 * time.Hour, want: pat},
		"wrong older, right newer":      {body: bodyA, header: headers("older", olderB, "newer", newerA), want: pat},
		"another body, both signatures": {body: bodyA + " ", header: headers("older", olderA, "newer", newerA), err: ErrForgedWebhook},
		"id is none":                    {body: `{"customer":{"id":"x"}}`, header: headers("older", older(`{"customer":{"id":"x"}}`)), err: ErrMalformedWebhook},
		"id below zero":                 {body: `{"customer":{"id":-1}}`, header: headers("older", older(`{"customer":{"id":-1}}`)), err: ErrMalformedWebhook},
		"id too long":                   {body: `{"customer":{"id":99999999999999999999}}`, header: headers("older", older(`{"customer":{"id":99999999999999999999}}`)), err: ErrMalformedWebhook},
		"id with a fraction":            {body: `{"customer":{"id":1.5}}`, header: headers("older", older(`{"customer":{"id":1.5}}`)), err: ErrMalformedWebhook},
		"from the future":               {body: bodyA, header: headers("newer", newerA), at: -48*time.Hour - time.Second, err: ErrForgedWebhook},
		"another secret":                {body: bodyA, header: headers("older", olderA), secret: "another", err: ErrForgedWebhook},
		"older, two texts":              {body: bodyB + bodyB, header: headers("older", older(bodyB+bodyB)), err: ErrMalformedWebhook},
		"no JSON":                       {body: `customer=1`, header: headers("older", older(`customer=1`)), err: ErrMalformedWebhook},
		"a list":                        {body: `[]`, header: headers("older", older(`[]`)), err: ErrMalformedWebhook},
		"id as text":                    {body: `{"customer":{"id":"70100200"}}`, header: headers("older", older(`{"customer":{"id":"70100200"}}`)), want: gone},
		"no id":                         {body: `{"customer":{}}`, header: headers("older", older(`{"customer":{}}`)), err: ErrMalformedWebhook},
		"Shopify's id is none":          {body: `{"customer":{"id":1,"external_customer_id":{"ecommerce":"x"}}}`, header: headers("older", older(`{"customer":{"id":1,"external_customer_id":{"ecommerce":"x"}}}`)), err: ErrMalformedWebhook},
		"of nobody at Shopify":          {body: `{"customer":{"id":1,"hash":"h","external_customer_id":{"ecommerce":null}}}`, header: headers("older", older(`{"customer":{"id":1,"hash":"h","external_customer_id":{"ecommerce":null}}}`)), want: Webhook{ID: 1}},
		"topic deleted, whole customer": {body: bodyA, header: headers("newer", newerA, "topic", "customer/deleted"), want: with(gone, TopicDeleted)},
		"topic of another thing":        {body: bodyA, header: headers("newer", newerA, "topic", "subscription/created"), want: Webhook{Topic: "subscription/created"}},
		"topic misshapen: by the body":  {body: bodyB, header: headers("newer", newerB, "topic", "<b>"), want: gone},
		"a subscription, no topic":      {body: `{"subscription":{"id":1}}`, header: headers("older", older(`{"subscription":{"id":1}}`)), want: Webhook{}},
		"uninstalled, by its address":   {body: `{}`, header: headers("older", older(`{}`), "topic", "customer/deleted"), topic: TopicUninstalled, want: Webhook{Topic: TopicUninstalled}},
		"uninstalled, without a body":   {body: ``, header: headers("newer", newer("", vectorTime)), topic: TopicUninstalled, want: Webhook{Topic: TopicUninstalled}},
		"uninstalled, by its topic":     {body: `{}`, header: headers("newer", newer(`{}`, vectorTime), "topic", "recharge/uninstalled"), want: Webhook{Topic: TopicUninstalled}},
		"a customer, called a farewell": {body: bodyA, header: headers("older", olderA, "topic", "recharge/uninstalled"), err: ErrMalformedWebhook},
		"the same, by its address":      {body: bodyB, header: headers("older", olderB), topic: TopicUninstalled, err: ErrMalformedWebhook},
		"upcoming":                      {body: charge(pats), header: headers("newer", newer(charge(pats), vectorTime), "topic", "charge/upcoming"), want: with(pat, TopicUpcoming)},
		"upcoming, without topic":       {body: charge(pats), header: headers("older", older(charge(pats))), want: with(pat, TopicUpcoming)},
		"upcoming, without an account":  {body: charge(`{"id":70100200}`), header: headers("older", older(charge(`{"id":70100200}`))), want: with(gone, TopicUpcoming)},
		"upcoming, of nobody":           {body: `{"charge":{}}`, header: headers("older", older(`{"charge":{}}`)), err: ErrMalformedWebhook},
		"upcoming, not a charge":        {body: `{"charge":[]}`, header: headers("older", older(`{"charge":[]}`)), err: ErrMalformedWebhook},
		"upcoming, about a customer":    {body: bodyA, header: headers("older", olderA, "topic", "charge/upcoming"), err: ErrMalformedWebhook},
		"a charge called a change":      {body: charge(pats), header: headers("older", older(charge(pats)), "topic", "customer/updated"), err: ErrMalformedWebhook},
		"another topic of charges":      {body: charge(pats), header: headers("older", older(charge(pats)), "topic", "charge/paid"), want: Webhook{Topic: "charge/paid"}},
		"uninstalled, forged":           {body: `{}`, header: headers("older", olderA), topic: TopicUninstalled, err: ErrForgedWebhook},
		"customer topic without a body": {body: ``, header: headers("newer", newer("", vectorTime), "topic", "customer/updated"), err: ErrMalformedWebhook},
	} {
		secret := vectorSecret
		if test.secret != "" {
			secret = test.secret
		}
		got, err := VerifyWebhook(secret, test.header, []byte(test.body), test.topic, now.Add(test.at))
		if test.err != nil {
			if !errors.Is(err, test.err) || strings.Contains(err.Error(), "70100200") {
				t.Errorf("%s: %v; want %v", name, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := VerifyWebhook(vectorSecret, http.Header{"X-Recharge-Webhook-Signature": nil, "X-Recharge-Hmac-Sha256": {olderA}}, []byte(bodyA), "", now); !errors.Is(err, ErrForgedWebhook) {
		t.Errorf("with a header that has no value: %v; want it refused", err)
	}
	// A forger without the secret may sign with an empty one.
	sum := sha256.Sum256([]byte(bodyB))
	if _, err := VerifyWebhook("", headers("older", hex.EncodeToString(sum[:])), []byte(bodyB), "", now); !errors.Is(err, ErrForgedWebhook) {
		t.Errorf("with no secret: %v; want it refused", err)
	}
}

// TestLengthExtension extends an intercepted webhook, which SHA-256 allows to anybody who knows the
// length of the secret.
func TestLengthExtension(t *testing.T) {
	const forged = `{"customer":{"id":70999001}}`
	said := len(vectorSecret) + len(bodyB)
	padding := []byte{0x80}
	for (said+len(padding))%64 != 56 {
		padding = append(padding, 0)
	}
	padding = binary.BigEndian.AppendUint64(padding, uint64(said)*8)
	// The digest is SHA-256's state after reading all of that.
	state, err := hex.DecodeString(olderB)
	if err != nil {
		t.Fatal(err)
	}
	going := append([]byte("sha\x03"), state...)
	going = append(going, make([]byte, 64)...)
	going = binary.BigEndian.AppendUint64(going, uint64(said+len(padding)))
	h := sha256.New()
	if err := h.(interface{ UnmarshalBinary([]byte) error }).UnmarshalBinary(going); err != nil {
		t.Fatal(err)
	}
	extended, digest := bodyB+string(padding)+forged, sumOf(h, forged)
	if digest != older(extended) {
		t.Fatal("the forged body has another digest, so this test shows nothing")
	}
	for _, topic := range []Topic{"", TopicUninstalled, TopicDeleted} {
		if _, err := VerifyWebhook(vectorSecret, headers("older", digest), []byte(extended), topic, time.Unix(vectorTime, 0)); !errors.Is(err, ErrMalformedWebhook) {
			t.Errorf("an extended body, topic %q: %v; want it refused", topic, err)
		}
	}
}

func sumOf(h hash.Hash, more string) string {
	h.Write([]byte(more))
	return hex.EncodeToString(h.Sum(nil))
}

// FuzzVerifyWebhook: no input makes it panic, and it accepts only signed webhooks.
func FuzzVerifyWebhook(f *testing.F) {
	f.Add(bodyA, olderA, newerA, true, "customer/updated")
	f.Add(bodyB, olderB, "", false, "")
	f.Add("", "", "t=,v1=", true, "recharge/uninstalled")
	f.Add(`{"customer":null}`, older(`{"customer":null}`), "", false, "customer/deleted")
	f.Fuzz(func(t *testing.T, body, digest, signature string, hasNewer bool, topic string) {
		header := headers("older", digest, "topic", topic)
		if hasNewer {
			header = headers("older", digest, "newer", signature, "topic", topic)
		}
		_, err := VerifyWebhook(vectorSecret, header, []byte(body), "", time.Unix(vectorTime, 0))
		signed := digest == older(body)
		if hasNewer {
			signed = signature == newer(body, vectorTime) || strings.HasPrefix(signature, "t=") && !errors.Is(err, ErrForgedWebhook) && signature == newer(body, timeOf(signature))
		}
		if !errors.Is(err, ErrForgedWebhook) && !signed {
			t.Errorf("VerifyWebhook(%q, %v) = %v; want it refused", body, header, err)
		}
	})
}

func timeOf(signature string) (at int64) {
	_, _ = fmt.Sscanf(signature, "t=%d,", &at)
	return at
}
