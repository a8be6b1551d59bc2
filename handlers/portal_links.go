package handlers

import (
	"bytes"
	"cmp"
	_ "embed" // the problems
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// PortalLinks answers POST /api/portal-links. A shop's own middleware, which knows who is signed
// in, calls it for the link to that customer's portal.
type PortalLinks struct{ *APIKeyAuth }

// Register adds the route.
func (l *PortalLinks) Register(e *echo.Echo) { e.POST("/api/portal-links", l.handle) }

// portalLink is the JSON answer.
type portalLink struct {
	URL       string     `json:"url"`
	ExpiresAt *time.Time `json:"expires_at"` // nil if not known
	SignedIn  bool       `json:"signed_in"`
}

func portalLinkOf(result portal.Result) portalLink {
	link := portalLink{URL: result.Link.URL, SignedIn: result.Outcome == portal.Redirected && !result.Merchant.InAccount}
	if expires := result.Link.Expires; !expires.IsZero() {
		expires = expires.UTC().Truncate(time.Second)
		link.ExpiresAt = &expires
	}
	return link
}

// problem is an error in the format of RFC 9457.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
}

//go:embed problems.json
var problems []byte

// retryAfter is how many seconds a middleware should wait before it retries.
const retryAfter = 5

// answerProblem answers with the problem of problems.json called name, which is mostly an outcome.
// Its detail, or else the file's, is written for the developer of the middleware.
func answerProblem(c echo.Context, name, id, detail string) error {
	var all map[string]problem
	_ = json.Unmarshal(problems, &all) // cannot fail
	p, known := all[name]
	if !known {
		p = all[string(portal.Unavailable)]
	}
	p.Type, p.RequestID, p.Detail = "urn:manage-subscriptions:problem:"+name, id, cmp.Or(detail, p.Detail)
	body, _ := json.Marshal(p) // cannot fail
	if p.Status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	return c.Blob(p.Status, "application/problem+json", body)
}

// handle resolves a click, answers it and records it. An invalid request is not recorded, because
// it has no outcome.
func (l *PortalLinks) handle(c echo.Context) error {
	click := begin(portal.FromAPI, l.Merchant.Now, nil)
	result, invalid := l.decide(c, click)
	if invalid == nil {
		return click.finish(c, l.Merchant, result)
	}
	l.Merchant.Log.InfoContext(c.Request().Context(), "portal link request is invalid",
		"request_id", click.id, "shop", string(click.shop), "cause", invalid.Error())
	return answerProblem(c, "invalid_request", click.id, invalid.Error())
}

// decide reads the request and resolves it. invalid describes what is wrong with the body, and is
// returned only for a valid key.
func (l *PortalLinks) decide(c echo.Context, click *clickRequest) (result portal.Result, invalid error) {
	defer portal.Recover(&result)
	key := bearer(c.Request().Header)
	shop, err := l.shopOfKey(key)
	if err != nil || key == "" {
		return refuse(errNoKey), nil
	}
	who, visit, wrong := l.read(c)
	who.Shop = shop
	ctx, cancel := l.limit(c)
	defer cancel()
	loaded, err := l.authenticate(ctx, click, who, portallink.SecretOf(key).Among)
	switch {
	case err != nil:
		return refuse(err), nil
	case wrong != nil:
		return portal.Result{}, wrong
	case visit.Return != "":
		merchant, _ := l.Merchant.Merchants.Find(ctx, shop)
		if merchant != nil && merchant.Client.WayBack(visit.Return) != visit.Return {
			return portal.Result{}, errReturn
		}
	}
	return l.Merchant.Resolve(ctx, portal.Request{Shopper: who, Visit: visit, Loaded: loaded}, click.trace), nil
}

// bodySize is the maximum size of a body in bytes. Valid bodies are much smaller.
const bodySize = 4 << 10

// Errors of read, written for the middleware's developer. They never repeat what was sent.
var (
	errMedia     = errors.New("send JSON, with Content-Type: application/json")
	errTooLong   = errors.New("the body is longer than 4 KiB")
	errNotObject = errors.New("the body must be one JSON object, with each name once and no nested values")
	errUnknown   = errors.New("the only names beside the customer's id are destination, locale, country and return_to")
	errOneOf     = errors.New("send one of shopify_customer_id and recharge_customer_id")
	errShopifyID = errors.New("shopify_customer_id must be a string with Shopify's id: " +
		`"7123456789012", or "gid://shopify/Customer/7123456789012"`)
	errRechargeID = errors.New("recharge_customer_id must be a whole number, such as 18819267")
	errText       = errors.New("destination, locale, country and return_to must be strings")
	errReturn     = errors.New("return_to must be https, and on the host of the shop or of its portal, but not Recharge's")
)

// read returns the shopper, without the shop, and the page that the body asks for. It rejects
// unknown names, because one could be a misspelt option.
func (l *PortalLinks) read(c echo.Context) (store.Shopper, recharge.Visit, error) {
	media, _, err := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	if err != nil || media != echo.MIMEApplicationJSON {
		return store.Shopper{}, recharge.Visit{}, errMedia
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, bodySize))
	if err != nil {
		return store.Shopper{}, recharge.Visit{}, errTooLong
	}
	return readBody(body)
}

func readBody(body []byte) (who store.Shopper, visit recharge.Visit, err error) {
	fields, err := flat(body, "")
	if err != nil {
		return who, visit, err
	}
	var text [4]string
	for i, name := range []string{"destination", "locale", "country", "return_to"} {
		var ok bool
		if text[i], ok = fields[name].(string); !ok && fields[name] != nil {
			return who, visit, errText
		}
		delete(fields, name)
	}
	atShopify, byShopify := fields["shopify_customer_id"]
	atRecharge, byRecharge := fields["recharge_customer_id"]
	delete(fields, "shopify_customer_id")
	delete(fields, "recharge_customer_id")
	switch {
	case len(fields) > 0:
		return who, visit, errUnknown
	case byShopify == byRecharge:
		return who, visit, errOneOf
	case byShopify:
		id, _ := atShopify.(string)
		if who.Customer, err = shopify.ParseCustomerGID(id); err != nil {
			return who, visit, errShopifyID
		}
	default:
		id, _ := atRecharge.(json.Number)
		if who.RechargeID, err = parseRechargeID(id.String()); err != nil {
			return who, visit, errRechargeID
		}
	}
	return who, visitOf(text[0], text[1], text[2], text[3]), nil
}

// flat decodes an object whose values are not nested, except for a list called list. Unmarshalling into
// a struct would accept a name that occurs twice, or in capitals.
func flat(body []byte, list string) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if start, _ := decoder.Token(); !json.Valid(body) || start != json.Delim('{') {
		return nil, errNotObject
	}
	fields := map[string]any{}
	for decoder.More() { // reading valid JSON does not fail
		name, _ := decoder.Token()
		var value any
		_ = decoder.Decode(&value)
		_, object := value.(map[string]any)
		_, array := value.([]any)
		if _, twice := fields[name.(string)]; object || array && name != list || twice {
			return nil, errNotObject
		}
		fields[name.(string)] = value
	}
	return fields, nil
}
