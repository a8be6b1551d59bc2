package shopifytest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Signature returns the signature that Shopify would put on rawQuery: 64 lower-case hexadecimal
// digits. rawQuery is the query as in the URL, without "?". A signature parameter in it is left
// out. Signature never fails: it takes a malformed escape, which Ruby refuses, literally.
//
// It follows Shopify's reference directly and shares no code with a verifier that it may be compared to:
//
//	query_hash = Rack::Utils.parse_query(query_string)
//	signature = query_hash.delete("signature")
//	sorted_params = query_hash.collect{ |k, v| "#{k}=#{Array(v).join(',')}" }.sort.join
//	calculated_signature = OpenSSL::HMAC.hexdigest(OpenSSL::Digest.new('sha256'), SHARED_SECRET, sorted_params)
//
// One corner is simpler than Rack, which ignores a bare "k" before "k=1". Here it is an empty value, like "k=".
//
// Source: https://shopify.dev/docs/apps/build/online-store/app-proxies/authenticate-app-proxies
func Signature(secret, rawQuery string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signedText(rawQuery)))
	return hex.EncodeToString(mac.Sum(nil))
}

func signedText(rawQuery string) string {
	values := map[string][]string{}
	for pair := range strings.SplitSeq(rawQuery, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key = unescape(key)
		values[key] = append(values[key], unescape(value))
	}
	delete(values, "signature")

	var pairs []string
	for key, list := range values {
		pairs = append(pairs, key+"="+strings.Join(list, ","))
	}
	// The whole "k=v" is sorted, not the key, so "shop2=" comes before "shop=".
	slices.Sort(pairs)
	return strings.Join(pairs, "")
}

// unescape decodes a form-encoded value by hand, since the verifier under test uses net/url.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		if s[i] == '+' {
			out.WriteByte(' ')
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
