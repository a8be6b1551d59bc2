package shopify

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// probeLife is how long a probe is good for: one request takes seconds.
	probeLife = time.Minute
	// probeSkew is how far the clock of who made it may be from ours.
	probeSkew = time.Minute
)

// Probes are what the operator's own program asks the server with, through
// Shopify: only who has the app's secret can make one, and only a server that has
// it can answer. Their keys are derived, so that neither a probe nor its answer is
// ever taken for a signature of Shopify's.
type Probes struct {
	asking, answering [][]byte // a key for each secret
	now               func() time.Time
}

// NewProbes makes probes with the first of secrets and takes those of all.
func NewProbes(secrets []string, now func() time.Time) (*Probes, error) {
	p := &Probes{now: now}
	for _, secret := range secrets {
		asking, err := hkdf.Key(sha256.New, []byte(secret), nil, "manage-subscriptions probe", 32)
		if err != nil {
			return nil, err
		}
		answering, err := hkdf.Key(sha256.New, []byte(secret), nil, "manage-subscriptions answer to a probe", 32)
		if err != nil {
			return nil, err
		}
		p.asking, p.answering = append(p.asking, asking), append(p.answering, answering)
	}
	return p, nil
}

// New is a probe for one request.
func (p *Probes) New() string {
	text := strconv.FormatInt(p.now().Add(probeLife).Unix(), 10) + "." + rand.Text()
	return text + "." + mac(p.asking[0], text)
}

// Answer is what a server says to a probe; false if it is none, or over.
func (p *Probes) Answer(probe string, shop Shop, prefix string) (string, bool) {
	end := strings.LastIndexByte(probe, '.')
	if end < 0 || len(probe) > 200 {
		return "", false
	}
	text, given := probe[:end], probe[end+1:]
	expires, _, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return "", false
	}
	left := time.Unix(seconds, 0).Sub(p.now())
	if left < -probeSkew || left > probeLife+probeSkew {
		return "", false
	}
	answer, found := "", false
	for i, key := range p.asking { // all of them, so that the time tells nothing
		if hmac.Equal([]byte(mac(key, text)), []byte(given)) {
			answer, found = p.proof(i, probe, shop, prefix), true
		}
	}
	return answer, found
}

// Answered tells whether an answer to a probe was made by a server that has one of
// the secrets, about that shop and prefix.
func (p *Probes) Answered(probe, answer string, shop Shop, prefix string) bool {
	for i := range p.answering {
		if hmac.Equal([]byte(p.proof(i, probe, shop, prefix)), []byte(answer)) {
			return true
		}
	}
	return false
}

func (p *Probes) proof(i int, probe string, shop Shop, prefix string) string {
	return mac(p.answering[i], strings.Join([]string{probe, string(shop), prefix}, "\n"))
}

// Sign makes of query what Shopify would forward of it now, signed with an app's
// secret, for a visitor who is not signed in.
func Sign(query url.Values, shop Shop, prefix, secret string, now time.Time) string {
	query.Set("shop", string(shop))
	query.Set("logged_in_customer_id", "")
	query.Set("path_prefix", prefix)
	query.Set("timestamp", strconv.FormatInt(now.Unix(), 10))
	query.Set("signature", mac([]byte(secret), signedText(query)))
	return query.Encode()
}

func mac(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}
