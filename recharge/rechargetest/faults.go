package rechargetest

import (
	"net/http"
	"strconv"
	"time"
)

// Faults are the ways in which the API can misbehave. They apply to the API only: the portal
// pages always work. The zero value is a healthy Recharge that answers with the likeliest shapes.
// Where several apply, an answer is first delayed by Latency, then dropped, then replaced by
// Limited, then by Status, then delayed by Lag.
type Faults struct {
	Down bool // the connection is dropped without an answer; an HTTP client may by itself try a GET again
	// if not 0, every call gets this status with Recharge's body for it; 200 has an empty
	// body, 502 and 504 are HTML
	Status  int
	Limited bool // every call gets 429, and X-Recharge-Limit says that the bucket is full
	// if not 0, a 429 carries Retry-After in whole seconds, rounded up; Recharge is not known
	// to send it
	RetryAfter time.Duration
	// every answer waits this long first, by the real clock, unless the client goes or the
	// server closes
	Latency time.Duration
	// every answer is this long on its way, so it says what was so when it left; Latency
	// delays the look instead
	Lag      time.Duration
	Truncate bool // what would be a 200 is cut in half: Content-Length says more than is sent

	IgnoreFilter       bool // GET /customers ignores external_customer_id: the unfiltered first page
	RefuseSessions     bool // POST sessions: 403, as if the token lacked the scope
	RefusePortalAccess bool // GET portal_access: 401, though the session is fine
	// GET portal_access with a locale: 422; what Recharge does with one that it does not know
	// is not known
	RefuseLocales bool

	// Only, if set, is the one endpoint (see the Endpoint constants) that Down, Status, Limited,
	// Latency, Lag and Truncate hit.
	Only string

	// Shapes that are not known for sure.

	SnakeCaseSession bool // POST sessions answers api_token instead of apiToken
	ZonedExpiry      bool // expires_at ends in +00:00 instead of having no zone

	// Answers that a client must refuse. Each names another customer, with another ShopifyCustomerID if there is one, and
	// is otherwise in order: following it opens that customer's portal.

	OtherRecord    bool // GET /customers/{id} answers another customer's record
	ForeignSession bool // POST sessions answers another customer's session
	ForeignPortal  bool // GET portal_access answers another customer's hash and link

	// Webhooks.

	NoTopicHeader        bool // without X-Recharge-Topic, which is not documented
	LegacyOnly           bool // without the newer signature
	WrongNewSignature    bool // the newer signature is made with another secret; the older is right
	WrongLegacySignature bool // the other way round
	DeliverTwice         bool // every delivery is made twice
	StringID             bool // customer/deleted has the id as a string
}

// at returns the faults as the endpoint sees them.
func (f Faults) at(endpoint string) Faults {
	if f.Only != "" && f.Only != endpoint {
		f.Down, f.Status, f.Limited, f.Latency, f.Lag, f.Truncate = false, 0, false, 0, 0, false
	}
	return f
}

// Bodies by which Recharge says no. It has no single shape for errors; these are the recorded
// ones, and guesses (see the package comment) in the likeliest of these shapes.
var errorBodies = map[int]string{
	http.StatusBadRequest:           `{"errors":{"_schema":["Invalid input"]}}`,
	http.StatusUnauthorized:         `{"error":"bad authentication"}`,
	http.StatusPaymentRequired:      `{"error":"Request failed"}`,
	http.StatusForbidden:            `{"error":"Forbidden"}`,
	http.StatusNotFound:             `{"errors":"Not Found"}`,
	http.StatusMethodNotAllowed:     `{"errors":"Method Not Allowed"}`,
	http.StatusConflict:             `{"error":"A call to this route is already in progress."}`,
	http.StatusUnsupportedMediaType: `{"errors":"Unsupported Media Type"}`,
	http.StatusUnprocessableEntity:  `{"errors":{"cursor":["Invalid value"]}}`,
	http.StatusLocked:               `{"error":"Two-factor authentication required"}`,
	http.StatusUpgradeRequired:      `{"error":"Unknown API version"}`,
	http.StatusTooManyRequests:      `{"warning":"too many requests"}`,
	http.StatusInternalServerError:  `{"errors":"Internal Server Error"}`,
	http.StatusNotImplemented:       `{"errors":"Not Implemented"}`,
	http.StatusServiceUnavailable:   `{"errors":"Service Unavailable"}`,
}

// refusal is Recharge's answer with the status.
func refusal(status int) answer {
	switch {
	case status < 200 || status > 599: // not to be sent as a final status
		return refusal(http.StatusInternalServerError)
	// come from the gateway, not from Recharge
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		return answer{status: status, contentType: "text/html", body: []byte("<html>" + http.StatusText(status) + "</html>")}
	case status < 300 || status == http.StatusNotModified:
		return answer{status: status, contentType: "application/json"}
	}
	body, ok := errorBodies[status]
	if !ok {
		body = `{"error":` + strconv.Quote(http.StatusText(status)) + `}`
	}
	return answer{status: status, contentType: "application/json", body: []byte(body)}
}

// invalid is the 422 for one field.
func invalid(field string) answer {
	invalid := map[string][]string{field: {"Invalid value"}}
	return jsonAnswer(http.StatusUnprocessableEntity, map[string]any{"errors": invalid})
}
