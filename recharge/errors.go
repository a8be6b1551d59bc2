package recharge

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Reason is why a call to Recharge failed. The first block stands for Recharge's own statuses. Its
// error bodies have no common shape and may name customers, so they are neither read nor kept.
type Reason string

// The reasons, with their causes.
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
	Limited       Reason = "rate limited"        // 429, and during the pause after one
	Unavailable   Reason = "unavailable"         // 5xx
	Unexpected    Reason = "unexpected status"   // any other

	Unreachable   Reason = "unreachable"           // no answer
	TooSlow       Reason = "too slow"              // no answer in time
	Malformed     Reason = "malformed answer"      // a 200 with an unreadable body; Recharge is known to cut some short
	OverBudget    Reason = "call budget spent"     // not called, to stay inside the token's budget
	Tripped       Reason = "left alone"            // not called, because the endpoint's last calls have all failed
	Cancelled     Reason = "cancelled"             // the caller has given up, which says nothing about Recharge
	FilterIgnored Reason = "filter ignored"        // a page with other people's records; an alert
	Ambiguous     Reason = "several records"       // the customer has several records, none of them preferable
	NoCustomer    Reason = "no such customer"      // Recharge does not know the Shopify customer
	Foreign       Reason = "someone else's answer" // a session or link for another customer; an alert
	LinkRefused   Reason = "link refused"          // the guard does not allow this link
	WrongStore    Reason = "another store's token" // the token is not this shop's
)

// Transient reports whether the same call may succeed later, because the reason has nothing to do
// with what was asked for.
func (r Reason) Transient() bool {
	switch r {
	case Locked, Limited, Unavailable, Unreachable, TooSlow, Malformed, OverBudget, Tripped, Cancelled:
		return true
	}
	return false
}

// Error is the error of all Client methods, except for the shared limiter's ErrHeld and ErrChanged.
// Its text holds no id, hash, token or URL, so it can be logged as it is.
type Error struct {
	Endpoint string // "customers", "sessions", ...; "link by hash" and "signed-in link" make no call
	Reason   Reason
	Status   int    // HTTP status; 0 if there was none
	Detail   string // what is wrong with the link, for LinkRefused
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
func Is(err error, reason Reason) bool { return ReasonOf(err) == reason }

// ReasonOf returns the reason of an *Error, and "" for any other error.
func ReasonOf(err error) Reason {
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.Reason
	}
	return ""
}

// malformed returns the error for a 200 whose body cannot be used.
func malformed(endpoint string) *Error {
	return &Error{Endpoint: endpoint, Reason: Malformed, Status: http.StatusOK}
}

func reasonFor(status int) Reason {
	known := map[int]Reason{
		http.StatusBadRequest: BadRequest, http.StatusUnauthorized: Unauthorized,
		http.StatusPaymentRequired: RequestFailed, http.StatusForbidden: Forbidden, http.StatusNotFound: NotFound,
		http.StatusMethodNotAllowed: NotAcceptable, http.StatusNotAcceptable: NotAcceptable,
		http.StatusUnsupportedMediaType: NotAcceptable, http.StatusConflict: Locked,
		http.StatusUnprocessableEntity: Invalid, http.StatusLocked: TwoFactor,
		http.StatusUpgradeRequired: BadVersion, http.StatusTooManyRequests: Limited,
	}
	if reason := known[status]; reason != "" || status < 500 {
		return cmp.Or(reason, Unexpected)
	}
	return Unavailable
}

// dead reports whether the endpoint's next call will most likely fail, too.
func dead(err error) bool {
	switch ReasonOf(err) {
	case Unreachable, TooSlow, Unavailable, Malformed:
		return true
	}
	return false
}

// retryDelay returns how long to wait before a retry, or 0 if a retry would not help. A locked
// route needs time to finish; the others need only a moment. A 429 is never answered with more
// calls.
func retryDelay(err error) time.Duration {
	switch {
	case Is(err, Locked):
		return 500 * time.Millisecond
	case dead(err):
		return 50 * time.Millisecond
	}
	return 0
}

const (
	// tripAfter is how many calls in a row may fail before an endpoint's circuit opens.
	tripAfter = 5
	// tripFor is how long it stays open. After that a single call tries the endpoint.
	tripFor = 5 * time.Second
)

// breakers keep clicks from waiting for endpoints that are dead. Each endpoint has one.
type breakers map[string]*gobreaker.TwoStepCircuitBreaker[any]

func newBreakers() breakers {
	all := breakers{}
	for _, endpoint := range Endpoints() {
		all[endpoint] = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Timeout:      tripFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !dead(err) },
			IsExcluded:   func(err error) bool { return Is(err, Cancelled) },
		})
	}
	return all
}

// CircuitOpen reports whether an endpoint is not called for now because its last calls have failed.
// Reserving calls for it would be pointless.
func (l *Limiter) CircuitOpen(endpoint string) bool {
	return l.breakers[endpoint].State() == gobreaker.StateOpen
}
