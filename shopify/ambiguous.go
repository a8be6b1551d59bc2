package shopify

import (
	"net/url"
	"strings"
)

// ambiguous returns the name of one of Shopify's parameters whose true value the signed text does not
// prove, or "".
//
// Shopify signs sorted "k=v" strings joined without a separator, so a=1&b=2 and a=1b%3D2 have one
// signature. Shopify does not document either whether it drops its own names from a visitor's query.
// If it does not, it signs both values with a comma between them. So the query is only one reading of
// the text. Everything in the text that could be Shopify's own value must therefore be the value in
// the query.
//
// One ambiguity is left. path_prefix can end anywhere before the next "=" if one of the visitor's
// parameters is sorted directly after it. That is harmless, since path_prefix is only used for
// links within the same store.
func ambiguous(query url.Values, text string) string {
	if strings.Count(text, "path_prefix=/") > 1 {
		return "path_prefix"
	}
	for _, p := range []hidden{
		{"logged_in_customer_id", "path_prefix", customerAt},
		{"shop", "timestamp", shopAt},
		{"timestamp", "", timestampAt},
	} {
		if p.other(text, query.Get(p.name)) {
			return p.name
		}
	}
	return ""
}

// hidden is a parameter of Shopify's whose true value is to be found in a signed text. Whatever the
// visitor adds, that value is a whole beginning of what follows it, because what is sorted behind it
// cannot continue its shape.
type hidden struct {
	name, next string // next is Shopify's parameter that is sorted behind it; "" for the last
	at         func(text string) (value string, ok bool)
}

func customerAt(text string) (string, bool) {
	value := digitsAt(text)
	return value, isCustomer(value)
}

func timestampAt(text string) (string, bool) {
	value := digitsAt(text)
	return value, isTimestamp(value)
}

func digitsAt(text string) string { return text[:len(text)-len(strings.TrimLeft(text, "0123456789"))] }

func shopAt(text string) (string, bool) {
	text = text[:min(len(text), 63+len(shopSuffix))] // the longest, so that many commas do not take long
	handle, _, _ := strings.Cut(text, shopSuffix)
	value := text[:min(len(text), len(handle)+len(shopSuffix))]
	return value, isShop(value)
}

// other reports whether text has a place where Shopify's own value could stand and is not value.
//
// Every "name=" is such a place, whatever follows. So is every comma behind the first, since Shopify's
// value may not be the first of several. What follows it is then another comma, the pair of next, or a
// pair that is sorted before that.
func (p hidden) other(text, value string) bool {
	end := len(text) // where the pair of next could begin at the latest
	if p.next != "" {
		end = strings.LastIndex(text, p.next+"=")
	}
	lastPair := strings.LastIndexByte(text[:end], '=') // of what is before it
	seen := false
	for i := range len(text) {
		named := text[i] == '=' && strings.HasSuffix(text[:i], p.name)
		seen = seen || named
		if !named && (text[i] != ',' || !seen) {
			continue
		}
		could, ok := p.at(text[i+1:])
		behind := i + 1 + len(could)
		if ok && could != value && (named || p.mayFollow(text[behind:], lastPair >= behind)) {
			return true
		}
	}
	return false
}

// mayFollow reports whether rest can stand behind this parameter's value. pairs is whether there can
// be pairs between it and the pair of next.
func (p hidden) mayFollow(rest string, pairs bool) bool {
	if strings.HasPrefix(rest, ",") || p.next == "" && rest == "" || p.next != "" && strings.HasPrefix(rest, p.next+"=") {
		return true
	}
	return pairs && rest >= p.name && (p.next == "" || rest < p.next+"=")
}
