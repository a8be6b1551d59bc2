package shopify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"time"
)

// Sign adds to a visitor's query what Shopify would, for a visitor who is not signed in,
// and returns it signed with an app's secret.
func Sign(query url.Values, shop Shop, prefix, secret string, now time.Time) string {
	query.Set("shop", string(shop))
	query.Set("logged_in_customer_id", "")
	query.Set("path_prefix", prefix)
	query.Set("timestamp", strconv.FormatInt(now.Unix(), 10))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signedText(query)))
	query.Set("signature", hex.EncodeToString(mac.Sum(nil)))
	return query.Encode()
}
