package shopify

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
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

// ShopOfHandle reads the first part of a shop's name, "my-store", as the admin's
// addresses have it. Shop.Handle returns it.
func ShopOfHandle(handle string) (Shop, error) { return ParseShop(handle + shopSuffix) }

// CustomerID is Shopify's id of a customer: 1 to 20 digits. "" is nobody.
type CustomerID string

// ParseCustomerID reads the id of a customer: 1 to 20 digits that do not begin with
// a zero. A customer has one spelling everywhere, and so one entry in the cache and
// one in Recharge. A click's id is read by Verify, as Shopify signed it.
func ParseCustomerID(s string) (CustomerID, error) {
	if s == "" || s[0] == '0' || !isCustomer(s) {
		return "", errors.New("not the id of a Shopify customer: 1 to 20 digits")
	}
	return CustomerID(s), nil
}

// The shapes of what Shopify signs. They are strict because the signed text
// has no delimiters (see resplit): a value that could hold another parameter's
// text would be a way to forge one. Compiled once and never changed.
//
// A click is read by the functions below, which say the same and cost it less.
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

const shopSuffix = ".myshopify.com"

func isShop(s string) bool {
	handle, ok := strings.CutSuffix(s, shopSuffix)
	return ok && len(handle) >= 1 && len(handle) <= 63 && handle[0] != '-' && only(handle, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

func isCustomer(s string) bool { return len(s) <= 20 && only(s, isDigit) }

func isTimestamp(s string) bool { return len(s) >= 1 && len(s) <= 12 && only(s, isDigit) }

func isSignature(s string) bool {
	return len(s) == 64 && only(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' })
}

func isPathPrefix(s string) bool {
	parts := 0
	for s != "" {
		if s[0] != '/' || parts == 4 {
			return false
		}
		part, _, _ := strings.Cut(s[1:], "/")
		if part == "" || len(part) > 64 || !only(part, func(c byte) bool { return isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '-' }) {
			return false
		}
		s, parts = s[1+len(part):], parts+1
	}
	return parts > 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func only(s string, fits func(byte) bool) bool {
	for i := range len(s) {
		if !fits(s[i]) {
			return false
		}
	}
	return true
}
