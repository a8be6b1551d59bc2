package shopify

import (
	"fmt"
	"regexp"
)

// Shop is a store's permanent name, such as "my-store.myshopify.com". It names
// the merchant everywhere; the store's own domain can change.
type Shop string

// ParseShop reads a shop's name. It takes lower case only: Shopify sends
// nothing else, and two spellings of one shop would be two merchants.
func ParseShop(s string) (Shop, error) {
	if !shopShape.MatchString(s) {
		return "", fmt.Errorf("%q is not a myshopify.com name", s)
	}
	return Shop(s), nil
}

// CustomerID is Shopify's id of a customer: 1 to 20 digits. "" is nobody.
type CustomerID string

// The shapes of what Shopify signs. They are strict because the signed text
// has no delimiters (see resplit): a value that could hold another parameter's
// text would be a way to forge one. Compiled once and never changed.
var (
	shopShape       = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com$`)
	customerShape   = regexp.MustCompile(`^[0-9]{0,20}$`)
	pathPrefixShape = regexp.MustCompile(`^(/[A-Za-z0-9_-]{1,64}){1,4}$`)
	timestampShape  = regexp.MustCompile(`^[0-9]{1,12}$`)
	signatureShape  = regexp.MustCompile(`^[0-9a-f]{64}$`)

	// What a visitor's value and a true one, joined by Shopify, have between them.
	commaAny       = regexp.MustCompile(`,`)
	commaShop      = regexp.MustCompile(`,[a-z0-9-]+\.myshopify\.com`)
	commaTimestamp = regexp.MustCompile(`,[0-9]{9}`)
)
