package rechargetest

import (
	"net/http"
	"strconv"
	"time"
)

// Faults are the ways in which the API can misbehave. Apart from OneVisit they do not affect the
// portal pages, which always work. The zero value is a healthy Recharge that answers with the likeliest shapes. If
// several apply, an answer is first delayed by Latency, then dropped, then replaced by Limited,
// then by Status, then delayed by Lag.
type Faults struct {
	Down bool // the connection is dropped without an answer; HTTP clients may retry a GET on their own
	// if not 0, every call gets this status with Recharge's body for it; 200 gets an empty body,
	// 502 and 504 get HTML
	Status  int
	Limited bool // every call gets 429, with a full bucket in X-Recharge-Limit
	// if not 0, a 429 carries Retry-After in whole seconds, rounded up; Recharge is not known
	// to send it
	RetryAfter time.Duration
	// every answer is held back this long first, by the real clock, unless the client goes away or
	// the server closes
	Latency time.Duration
	// every answer takes this long to arrive, so it shows the state from before the delay; with
	// Latency it shows the state after
	Lag      time.Duration
	Truncate bool // every 200 is cut in half; its Content-Length is that of the whole

	// GET /customers ignores external_customer_id and email, and returns the unfiltered page
	IgnoreFilter       bool
	RefuseSessions     bool // POST sessions: 403, as if the token lacked the scope
	RefusePortalAccess bool // GET portal_access: 401, though the session is fine
	// GET portal_access with a locale: 422; we do not know what Recharge does with an unknown
	// locale
	RefuseLocales bool

	// Only, if set, limits Down, Status, Limited, Latency, Lag and Truncate to one endpoint (see
	// the Endpoint constants).
	Only string

	// Shapes that we are not sure of.

	SnakeCaseSession bool // POST sessions answers api_token instead of apiToken
	ZonedExpiry      bool // expires_at ends in +00:00 instead of having no zone
	// The status of GET portal_access for a store with Unity; 0 means 404. 200 answers with a link to a page
	// that says where the portal is.
	UnityAccess int
	// A portal token opens one visit: the browser that first opens a page by it keeps the portal,
	// and every other gets the closed page. A token that was used before this was set is used up, too.
	OneVisit bool

	// Answers that a client must refuse. Each names another customer, with another ShopifyCustomerID if there is one,
	// and is otherwise correct: following it opens that customer's portal.

	OtherRecord    bool // GET /customers/{id} answers another customer's record
	ForeignSession bool // POST sessions answers another customer's session
	ForeignPortal  bool // GET portal_access answers another customer's hash and link

	// Webhooks.

	NoTopicHeader        bool // without X-Recharge-Topic, which is not documented
	LegacyOnly           bool // without the newer signature
	WrongNewSignature    bool // the newer signature is made with another secret; the older one is right
	WrongLegacySignature bool // the other way round
	NoTests              bool // POST /webhooks/{id}/test: 404, and nothing is delivered
	DeliverTwice         bool // every delivery is made twice
	StringID             bool // customer/deleted has the id as a string
}

// at returns the faults that apply to an endpoint.
func (f Faults) at(endpoint string) Faults {
	if f.Only != "" && f.Only != endpoint {
		f.Down, f.Status, f.Limited, f.Latency, f.Lag, f.Truncate = false, 0, false, 0, 0, false
	}
	return f
}

// Recharge's error bodies, which have no common shape. These are the recorded ones, and guesses
// (see the package comment) in the likeliest of their shapes.
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

// refusal returns Recharge's answer with a status.
func refusal(status int) answer {
	switch {
	case status < 200 || status > 599: // not valid as a final status
		return refusal(http.StatusInternalServerError)
	// these come from the gateway, not from Recharge
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

// invalid returns the 422 for one field.
func invalid(field string) answer {
	invalid := map[string][]string{field: {"Invalid value"}}
	return jsonAnswer(http.StatusUnprocessableEntity, map[string]any{"errors": invalid})
}
