package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"manage-subscriptions/portal"
	"manage-subscriptions/portallink"
	"manage-subscriptions/recharge"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// PortalLinks answers a shop's own middleware, which knows who is signed in and asks
// for the link to that customer's portal: POST /api/portal-links.
type PortalLinks struct {
	*APIKeyAuth
	Recorder *portal.Recorder
	Log      *slog.Logger
	Now      func() time.Time
}

// Register adds the route.
func (l *PortalLinks) Register(e *echo.Echo) { e.POST("/api/portal-links", l.handle) }

// portalLink is the answer.
type portalLink struct {
	URL       string     `json:"url"`
	ExpiresAt *time.Time `json:"expires_at"` // nil: not known
	SignedIn  bool       `json:"signed_in"`
}

// problem is what goes wrong, as RFC 9457 has it.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
}

// invalidRequest is no outcome: nothing was asked for that could end in one.
const invalidRequest = "invalid_request"

// problemOf is the problem of an outcome that is not a link.
func problemOf(outcome portal.Outcome) problem {
	switch outcome {
	case portal.NotASubscriber:
		return problem{Title: "No subscriptions", Status: http.StatusNotFound,
			Detail: "Recharge has no customer by this id, or several that cannot be told apart. Show what there is to subscribe to. Who has just subscribed is found within a minute."}
	case portal.NotConnected:
		return problem{Title: "Recharge is not connected", Status: http.StatusConflict,
			Detail: "This server has no Recharge token for the store: whoever runs it has to set RECHARGE_API_TOKEN."}
	case portal.Forbidden:
		return problem{Title: "Forbidden", Status: http.StatusForbidden,
			Detail: "Send a key of this store's that is in use, as the bearer in the header Authorization."}
	}
	return problem{Title: "Not available right now", Status: http.StatusServiceUnavailable,
		Detail: "Recharge could not say in time who this is, and nothing is remembered. Show the shopper a way to try again, and wait as long as Retry-After says."}
}

// retryAfter is when a middleware may ask again, in seconds.
const retryAfter = 5

func (l *PortalLinks) handle(c echo.Context) error {
	trace, id := portal.NewTrace(l.Now), requestID()
	start := trace.Now()
	result, shop, invalid := l.decide(c, trace)
	if invalid != "" {
		l.Log.InfoContext(c.Request().Context(), "portal link not asked for rightly", "request_id", id, "shop", string(shop), "cause", invalid)
		return answerProblem(c, invalidRequest, problem{
			Title: "The request is not right", Status: http.StatusBadRequest, Detail: invalid, RequestID: id,
		})
	}
	err := l.answer(c, id, result)
	l.Recorder.Record(c.Request().Context(), clicked(id, shop, portal.FromAPI, start, trace, result))
	return err
}

// decide reads what is asked and decides it. The shop is "" where it is not proven.
// invalid is what is wrong with the body: only those who have a key read it.
func (l *PortalLinks) decide(c echo.Context, trace *portal.Trace) (result portal.Result, shop shopify.Shop, invalid string) {
	ctx := c.Request().Context()
	key, bears := strings.CutPrefix(c.Request().Header.Get(echo.HeaderAuthorization), "Bearer ")
	shop, noShop := l.shopOfKey(key)
	if noShop != nil || !bears || key == "" || len(c.Request().Header.Values(echo.HeaderAuthorization)) != 1 {
		return portal.Result{Outcome: portal.Forbidden, Cause: errNoKey}, "", ""
	}
	proven := func(secrets []portallink.Secret) bool { return portallink.SecretOf(key).Among(secrets...) }
	who, visit, wrong := l.read(c, shop)
	if wrong != nil {
		secrets, lost := l.secrets(ctx, shop)
		switch {
		case lost != nil:
			return portal.Result{Outcome: portal.Unavailable, Cause: lost}, "", ""
		case !proven(secrets):
			return portal.Result{Outcome: portal.Forbidden, Cause: errNoKey}, "", ""
		}
		return portal.Result{}, shop, wrong.Error()
	}
	result, trusted := l.resolve(ctx, portal.Request{Shopper: who, Visit: visit}, trace, proven, nil)
	if !trusted {
		shop = ""
	}
	return result, shop, ""
}

func (l *PortalLinks) answer(c echo.Context, id string, result portal.Result) error {
	if result.Outcome == portal.Redirected || result.Outcome == portal.RedirectedByHash {
		link := portalLink{URL: result.Link.URL, SignedIn: result.Outcome == portal.Redirected}
		if expires := result.Link.Expires; !expires.IsZero() {
			expires = expires.UTC().Truncate(time.Second)
			link.ExpiresAt = &expires
		}
		return c.JSON(http.StatusOK, link)
	}
	p := problemOf(result.Outcome)
	p.RequestID = id
	if p.Status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	return answerProblem(c, string(result.Outcome), p)
}

// answerProblem answers with a problem of a type that is named like the outcome.
func answerProblem(c echo.Context, name string, p problem) error {
	p.Type = "urn:manage-subscriptions:problem:" + name
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return c.Blob(p.Status, "application/problem+json", body)
}

// bodySize is above all that a body can hold.
const bodySize = 4 << 10

// Errors of read, which tell the developer what to do. None repeats what was sent.
var (
	errMedia      = errors.New("send JSON, with Content-Type: application/json")
	errTooLong    = errors.New("the body is longer than 4 KiB")
	errNotObject  = errors.New("the body is not one JSON object, of which each name stands there once")
	errUnknown    = errors.New("there is a name that is none of shopify_customer_id, recharge_customer_id, destination, locale")
	errOneOf      = errors.New("name the customer by shopify_customer_id or by recharge_customer_id, not by both")
	errShopifyID  = errors.New(`shopify_customer_id is text with Shopify's id: "7123456789012", or "gid://shopify/Customer/7123456789012"`)
	errRechargeID = errors.New("recharge_customer_id is a whole number, such as 18819267")
	errText       = errors.New("destination and locale are text")
)

// read reads who is asked for, and where to. It is strict: what it does not know
// could have been meant to matter.
func (l *PortalLinks) read(c echo.Context, shop shopify.Shop) (store.Shopper, recharge.Visit, error) {
	media, _, err := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationJSON {
		return store.Shopper{}, recharge.Visit{}, errMedia
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, bodySize))
	if err != nil {
		return store.Shopper{}, recharge.Visit{}, errTooLong
	}
	return readBody(shop, body)
}

func readBody(shop shopify.Shop, body []byte) (store.Shopper, recharge.Visit, error) {
	fields, err := flat(body)
	if err != nil {
		return store.Shopper{}, recharge.Visit{}, err
	}
	text := map[string]string{}
	for _, name := range []string{"destination", "locale"} {
		value, given := fields[name]
		word, ok := value.(string)
		if given && value != nil && !ok {
			return store.Shopper{}, recharge.Visit{}, errText
		}
		text[name] = word
		delete(fields, name)
	}
	who, err := named(shop, fields)
	return who, visitOf(text["destination"], text["locale"]), err
}

// named is the customer that is named, by exactly one of two names.
func named(shop shopify.Shop, fields map[string]any) (store.Shopper, error) {
	atShopify, byShopify := fields["shopify_customer_id"]
	atRecharge, byRecharge := fields["recharge_customer_id"]
	delete(fields, "shopify_customer_id")
	delete(fields, "recharge_customer_id")
	switch {
	case len(fields) > 0:
		return store.Shopper{}, errUnknown
	case byShopify == byRecharge:
		return store.Shopper{}, errOneOf
	case byShopify:
		id, ok := atShopify.(string)
		who, err := shopperOf(shop, id)
		if !ok || err != nil || who.Customer == "" {
			return store.Shopper{}, errShopifyID
		}
		return who, nil
	}
	id, ok := atRecharge.(json.Number)
	who, err := shopperOf(shop, "recharge:"+id.String())
	if !ok || err != nil {
		return store.Shopper{}, errRechargeID
	}
	return who, nil
}

// flat reads an object whose values are text, numbers or null. encoding/json alone
// would take a name twice, and in other letters.
func flat(body []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotObject
	}
	fields := map[string]any{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errNotObject
		}
		value, err := decoder.Token()
		_, nested := value.(json.Delim)
		if _, twice := fields[fmt.Sprint(name)]; err != nil || nested || twice {
			return nil, errNotObject
		}
		fields[fmt.Sprint(name)] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return fields, nil
}
