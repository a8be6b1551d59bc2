package shopify

import (
	"errors"
	"fmt"
	"strings"
)

// Shop is a store's permanent name, such as "my-store.myshopify.com". It identifies the merchant
// everywhere, since the store's own domain can change.
type Shop string

const shopSuffix = ".myshopify.com"

// ParseShop reads a shop's name. It accepts lower case only, because Shopify sends nothing else and
// two spellings of one shop would be two merchants.
func ParseShop(s string) (Shop, error) {
	if !isShop(s) {
		return "", fmt.Errorf("%q is not a myshopify.com name", s)
	}
	return Shop(s), nil
}

// ShopOfHandle reads the first part of a shop's name, "my-store". It is the inverse of Shop.Handle.
func ShopOfHandle(handle string) (Shop, error) { return ParseShop(handle + shopSuffix) }

// CustomerID is Shopify's ID of a customer: 1 to 20 digits. It is "" if nobody is signed in.
type CustomerID string

// ParseCustomerID reads a customer's ID: 1 to 20 digits, the first not zero. A customer therefore has one
// spelling, in the cache and at Recharge. Verify reads the ID of a click exactly as it was signed.
func ParseCustomerID(s string) (CustomerID, error) {
	if s == "" || s[0] == '0' || !isCustomer(s) {
		return "", errors.New("not the id of a Shopify customer: 1 to 20 digits")
	}
	return CustomerID(s), nil
}

// ParseCustomerGID reads a customer's ID as ParseCustomerID does, also as Shopify's APIs write it:
// gid://shopify/Customer/7123456789012.
func ParseCustomerGID(s string) (CustomerID, error) {
	return ParseCustomerID(strings.TrimPrefix(s, "gid://shopify/Customer/"))
}

// The shapes of the signed parameters. They are strict because the signed text has no delimiters
// (see ambiguous), so a value that could hold another parameter's text would allow a forgery. They
// are functions because they run on every click and are faster than regular expressions.

func isShop(s string) bool {
	handle, ok := strings.CutSuffix(s, shopSuffix)
	return ok && len(handle) >= 1 && len(handle) <= 63 && handle[0] != '-' && only(handle, func(c byte) bool {
		return isLower(c) || isDigit(c) || c == '-'
	})
}

func isCustomer(s string) bool { return len(s) <= 20 && only(s, isDigit) }

// isTimestamp accepts the seconds of the years 2001 to 2286, which all have ten digits.
func isTimestamp(s string) bool { return len(s) == 10 && s[0] != '0' && only(s, isDigit) }

func isSignature(s string) bool {
	return len(s) == 64 && only(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' })
}

// isPathPrefix accepts 1 to 4 segments of 1 to 64 letters, digits, "_" and "-".
func isPathPrefix(s string) bool {
	rest, ok := strings.CutPrefix(s, "/")
	if !ok || strings.Count(s, "/") > 4 {
		return false
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || len(part) > 64 || !only(part, isNameByte) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '-'
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
