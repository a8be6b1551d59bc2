package recharge

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Reason says why a call to Recharge gave nothing. The first block is Recharge's
// own statuses; its error bodies have no single shape and may name customers,
// so they are neither read nor kept.
type Reason string

// The reasons, by what is answered or seen.
const (
	BadRequest    Reason = "bad request"         // 400
	Unauthorized  Reason = "bad token"           // 401; for a session: expired, or without the scope
	RequestFailed Reason = "request failed"      // 402: valid, but refused
	Forbidden     Reason = "scope missing"       // 403; or the store has uninstalled Recharge
	NotFound      Reason = "not found"           // 404
	NotAcceptable Reason = "not acceptable"      // 405, 406, 415
	Locked        Reason = "route locked"        // 409: the same call is in progress
	Invalid       Reason = "invalid"             // 422
	TwoFactor     Reason = "two-factor needed"   // 423
	BadVersion    Reason = "API version unknown" // 426
	Limited       Reason = "rate limited"        // 429, and for a while after one
	Unavailable   Reason = "unavailable"         // 5xx
	Unexpected    Reason = "unexpected status"   // any other

	Unreachable   Reason = "unreachable"           // no answer
	TooSlow       Reason = "too slow"              // no answer in time
	Malformed     Reason = "malformed answer"      // a 200 whose body cannot be read: Recharge is known to cut some short
	OverBudget    Reason = "call budget spent"     // not called, to stay inside the token's budget
	Tripped       Reason = "left alone"            // not called: the last calls of this endpoint have all failed
	FilterIgnored Reason = "filter ignored"        // a page of other people's records: an alert, not a customer
	Ambiguous     Reason = "several records"       // more than one record of this customer, none to prefer
	NoCustomer    Reason = "no such customer"      // Recharge does not know the Shopify customer
	Foreign       Reason = "someone else's answer" // a session or link for another customer: an alert
	LinkRefused   Reason = "link refused"          // the guard does not let this link out
	WrongStore    Reason = "another store's token" // the token is not this shop's
)

// Passing tells a reason that says nothing of what was asked for: another time
// the answer may be another.
func (r Reason) Passing() bool {
	switch r {
	case Locked, Limited, Unavailable, Unreachable, TooSlow, Malformed, OverBudget, Tripped:
		return true
	}
	return false
}

// Error is what every method of Client fails with. Its text holds no id, hash,
// token or URL, so it can be logged as it is.
type Error struct {
	Endpoint   string // "customers", "sessions", "portal_access", ...; "link by hash" where none was called
	Reason     Reason
	Status     int           // HTTP status, 0 where there was none
	RetryAfter time.Duration // with a 429: when to ask again
	Detail     string        // for LinkRefused: what is wrong with it
}

func (e *Error) Error() string {
	text := fmt.Sprintf("recharge %s: %s", e.Endpoint, e.Reason)
	if e.Status != 0 {
		text += fmt.Sprintf(" (%d)", e.Status)
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Is reports whether err is an *Error for that reason.
func Is(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// ReasonOf is the reason of an *Error; "" of any other.
func ReasonOf(err error) Reason {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Reason
	}
	return ""
}

func reasonFor(status int) Reason {
	switch status {
	case http.StatusBadRequest:
		return BadRequest
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusPaymentRequired:
		return RequestFailed
	case http.StatusForbidden:
		return Forbidden
	case http.StatusNotFound:
		return NotFound
	case http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return NotAcceptable
	case http.StatusConflict:
		return Locked
	case http.StatusUnprocessableEntity:
		return Invalid
	case http.StatusLocked:
		return TwoFactor
	case http.StatusUpgradeRequired:
		return BadVersion
	case http.StatusTooManyRequests:
		return Limited
	}
	if status >= 500 {
		return Unavailable
	}
	return Unexpected
}

// retryable tells the failures that another try may mend. Limited is not one: a
// 429 is never answered by more calls.
func (e *Error) retryable() bool {
	return e.Reason.Passing() && e.Reason != Limited && e.Reason != OverBudget && e.Reason != Tripped
}

// retryDelay lets a locked route finish; for the rest a moment is enough.
func (e *Error) retryDelay() time.Duration {
	if e.Reason == Locked {
		return 500 * time.Millisecond
	}
	return 50 * time.Millisecond
}
