package servertest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
)

// nothingInTheOpen searches the whole log and the whole Redis of a test for secrets.
func (f *Fixture) nothingInTheOpen() {
	secrets := f.Secrets()
	log := f.Log.String()
	for what, secret := range secrets {
		if strings.Contains(log, secret) {
			f.T.Errorf("the log holds %s", what)
		}
	}
	if f.Redis == nil || !f.Redis.Running() {
		return
	}
	var dump bytes.Buffer
	for key, value := range f.Redis.Dump() {
		dump.WriteString(key + "\n" + value + "\n")
	}
	for what, secret := range secrets {
		raw := []byte(secret)
		for _, form := range []string{
			secret, hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		} {
			if bytes.Contains(dump.Bytes(), []byte(form)) {
				f.T.Errorf("Redis holds %s", what)
			}
		}
	}
}

// Secrets returns everything that must not leak, by description: the fixture's credentials
// and customers, and the tokens that the emulators have seen or issued.
func (f *Fixture) Secrets() map[string]string {
	secrets := map[string]string{
		"the app's secret": AppSecret, "the old secret": OldAppSecret,
		"the Admin token": APIToken, "the storefront token": StorefrontToken,
		"an e-mail address": "@example.test", "the webhook secret": WebhookSecret,
		"a session token": "eyJhbGciOi", // how every JWT begins
	}
	for _, c := range Customers() {
		secrets["the hash of "+c.Hash] = c.Hash
		secrets["the Shopify id of "+c.Hash] = c.ShopifyCustomerID
	}
	secrets["the Shopify id of Robin"] = Robin
	for _, request := range append(f.Seen, f.Recharge.Requests()...) {
		if token := request.Header.Get("X-Recharge-Access-Token"); token != "" {
			secrets["the token of "+request.Endpoint+token] = token
		}
	}
	for _, forwarded := range f.Store.Forwarded() {
		query, _ := url.ParseQuery(forwarded.Query)
		secrets["a signature "+query.Get("signature")] = query.Get("signature")
		location, _ := url.Parse(forwarded.Header.Get("Location"))
		if token := location.Query().Get("token"); token != "" {
			secrets["a portal token "+token] = token
		}
	}
	return secrets
}
