package handlers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/portallink"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Campaigns answers /api/campaigns, for mail tools and scripts. They use the keys of POST /api/portal-links.
type Campaigns struct{ *APIKeyAuth }

// Register adds the routes.
func (a *Campaigns) Register(e *echo.Echo) {
	if a.Merchant.Importer == nil {
		return
	}
	e.POST("/api/campaigns", a.shop(a.plan))
	e.GET("/api/campaigns", a.shop(a.list))
	e.GET("/api/campaigns/:id", a.shop(a.show))
	e.DELETE("/api/campaigns/:id", a.shop(a.cancel))
}

const (
	listSize  = 16 << 20    // the longest body, in bytes
	listTime  = time.Minute // for sending it
	planAfter = time.Minute // for planning a campaign of that many
)

// describe returns a campaign for JSON, as docs/openapi-headless.yaml says. It never contains who the shoppers
// are. A dry run has no id, and a campaign that goes on until it is cancelled no end.
func (a *Campaigns) describe(campaign importer.Campaign) map[string]any {
	words := a.Merchant.CampaignWords(campaign)
	answer := map[string]any{
		"name": campaign.Name, "starts_at": campaign.StartsAt, "ends_at": nil, "audience": campaign.Audience,
		"made_at": campaign.MadeAt.Truncate(time.Second), "state": words.State, "text": words.Progress,
		"size": campaign.Size, "unknown": campaign.Unknown, "prepared": campaign.Prepared(), "percent": words.Percent,
		"forecast": map[string]any{
			"need_seconds": int64(campaign.Need.Seconds()), "start_by": campaign.StartBy.Truncate(time.Second),
			"ready": campaign.Ready, "share": campaign.Share(), "text": words.Forecast,
		},
		"clicks": words.Clicks,
	}
	if campaign.ID != "" {
		answer["id"] = campaign.ID
	}
	if !campaign.EndsAt.IsZero() {
		answer["ends_at"] = campaign.EndsAt
	}
	return answer
}

// shop authenticates a request before any of its body is read, and passes its shop on.
func (a *Campaigns) shop(do func(context.Context, echo.Context, shopify.Shop) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		click := begin(portal.FromAPI, a.Merchant.Now, nil) // it is recorded nowhere
		key := bearer(c.Request().Header)
		shop, err := a.shopOfKey(key)
		if key == "" || err != nil {
			return answerProblem(c, string(portal.Forbidden), click.id, "")
		}
		ctx, cancel := context.WithTimeout(c.Request().Context(), listTime+planAfter)
		defer cancel()
		_, err = a.authenticate(ctx, click, store.Shopper{Shop: shop}, portallink.SecretOf(key).Among)
		if err == nil {
			if err = do(ctx, c, shop); err == nil {
				return nil
			}
		}
		a.Merchant.Log.InfoContext(ctx, "campaign request failed",
			"request_id", click.id, "shop", string(click.shop), "cause", err)
		name, detail := campaignProblem(err)
		return answerProblem(c, name, click.id, detail)
	}
}

// errNoCampaign is for an id that is not of a campaign of this shop.
var errNoCampaign = errors.New("no such campaign")

// campaignProblem returns an error's name in problems.json, and what to do about it.
func campaignProblem(err error) (name, detail string) {
	refused, _ := errors.AsType[importer.PlanError](err)
	text, _ := merchant.PlanWords(err)
	var invalid fieldError
	switch {
	case errors.As(err, &invalid):
		return "invalid_request", invalid.Error()
	case errors.Is(err, errNoKey):
		return string(portal.Forbidden), ""
	case errors.Is(err, errNoCampaign):
		return "no_such_campaign", ""
	case refused == "":
		return string(portal.Unavailable), merchant.NoDatabase().String() + " Try again after the time in Retry-After."
	case refused == importer.NotConnected:
		return string(portal.NotConnected), ""
	case slices.Contains([]importer.PlanError{
		importer.Off, importer.NoLinks, importer.NoOrders, importer.NotProven, importer.TooMany, importer.Twice,
	}, refused):
		return "no_campaigns", text.String()
	case refused == importer.NoCustomers || refused == importer.BadCustomers:
		refused = importer.BadAudience
	}
	return "invalid_request", string(refused) + ": " + text.String()
}

func (a *Campaigns) list(ctx context.Context, c echo.Context, shop shopify.Shop) error {
	found, err := a.Merchant.Importer.Campaigns(ctx, shop)
	if err != nil {
		return err
	}
	all := make([]map[string]any, len(found)) // none are [], not null
	for i, campaign := range found {
		all[i] = a.describe(campaign)
	}
	return c.JSON(http.StatusOK, map[string]any{"campaigns": all})
}

func (a *Campaigns) show(ctx context.Context, c echo.Context, shop shopify.Shop) error {
	found, err := a.Merchant.Importer.Campaigns(ctx, shop, c.Param("id"))
	switch {
	case err != nil:
		return err
	case len(found) > 0:
		return c.JSON(http.StatusOK, a.describe(found[0]))
	}
	return errNoCampaign
}

func (a *Campaigns) cancel(ctx context.Context, c echo.Context, shop shopify.Shop) error {
	found, err := a.Merchant.Importer.Cancel(ctx, shop, c.Param("id"))
	switch {
	case err != nil:
		return err
	case found:
		return c.NoContent(http.StatusNoContent)
	}
	return errNoCampaign
}

// allowList gives a request longer than a click has. Only a tool with a key, or a merchant, may have that.
func allowList(c echo.Context) {
	connection := http.NewResponseController(c.Response())
	_ = connection.SetReadDeadline(time.Now().Add(listTime))
	_ = connection.SetWriteDeadline(time.Now().Add(listTime + planAfter))
}

func (a *Campaigns) plan(ctx context.Context, c echo.Context, shop shopify.Shop) error {
	allowList(c)
	plan, dry, err := readPlan(c)
	if err != nil {
		return err
	}
	do, status := a.Merchant.Importer.Plan, http.StatusCreated
	if dry {
		do, status = a.Merchant.Importer.Forecast, http.StatusOK
	}
	campaign, err := do(ctx, shop, plan)
	if err != nil {
		return err
	}
	if dry {
		campaign.ID = ""
	} else {
		c.Response().Header().Set(echo.HeaderLocation, "/api/campaigns/"+campaign.ID)
	}
	return c.JSON(status, a.describe(campaign))
}

// fieldError says what is wrong with a request, for the developer of the tool. It never repeats what was sent.
type fieldError string

func (e fieldError) Error() string { return string(e) }

const (
	wrongMedia  fieldError = "send JSON, with Content-Type: application/json, or a list of customers as text/csv"
	wrongLength fieldError = "the body must have at most 16 MiB, and arrive within a minute"
	wrongObject fieldError = "send one JSON object, each name once, no nested values beside audience, and no query"
	wrongQuery  fieldError = "with CSV, send name, starts_at, ends_at and dry_run in the query, each at most once"
	wrongNames  fieldError = "the only names are name, starts_at, ends_at, dry_run and, without CSV, audience"
)

// readPlan reads a plan, and whether only the forecast is asked for. It rejects unknown names, because one
// could be a misspelt dry_run.
func readPlan(c echo.Context) (plan importer.Plan, dry bool, err error) {
	media, _, _ := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, c.Request().Body, listSize))
	if err != nil {
		return plan, false, wrongLength
	}
	var fields map[string]any
	switch media {
	case echo.MIMEApplicationJSON:
		if fields, err = flat(body, "audience"); err != nil || c.Request().URL.RawQuery != "" {
			return plan, false, wrongObject
		}
		plan.Audience, plan.Customers, err = audienceOf(fields["audience"])
		delete(fields, "audience")
	case "text/csv":
		if fields, err = queryFields(c.Request().URL.RawQuery); err != nil {
			return plan, false, err
		}
		plan.Audience = store.ListedCustomers
		plan.Customers, err = importer.ReadCustomers(bytes.NewReader(body))
	default:
		err = wrongMedia
	}
	var wrong [4]error
	plan.Name, wrong[0] = take[string](fields, "name", "a string")
	plan.StartsAt, wrong[1] = takeTime(fields, "starts_at")
	plan.EndsAt, wrong[2] = takeTime(fields, "ends_at")
	dry, wrong[3] = take[bool](fields, "dry_run", "true or false")
	if err = cmp.Or(err, cmp.Or(wrong[:]...)); err == nil && len(fields) > 0 {
		err = wrongNames
	}
	return plan, dry, err
}

// audienceOf reads an audience's name, or a list of Shopify's customer ids.
func audienceOf(value any) (name string, customers []shopify.CustomerID, err error) {
	list, listed := value.([]any)
	if !listed {
		name, _ = value.(string) // "" is no audience
		return name, nil, nil
	}
	for i, entry := range list {
		text, _ := entry.(string)
		id, err := shopify.ParseCustomerGID(text)
		if err != nil {
			at := importer.PlanDetail{Name: "entry", Value: strconv.Itoa(i + 1)}
			return "", nil, fmt.Errorf("%w: %w", importer.BadCustomers, at)
		}
		customers = append(customers, id)
	}
	return store.ListedCustomers, customers, nil
}

// queryFields reads a query as flat reads an object.
func queryFields(query string) (map[string]any, error) {
	values, err := url.ParseQuery(query)
	fields := map[string]any{}
	for name, all := range values {
		if fields[name] = all[0]; len(all) > 1 {
			err = wrongQuery
		}
		if name == "dry_run" && (all[0] == "true" || all[0] == "false") {
			fields[name] = all[0] == "true"
		}
	}
	if err != nil {
		return nil, wrongQuery
	}
	return fields, nil
}

// take removes a field and returns its value, or the zero value if there is none.
func take[T any](fields map[string]any, name, want string) (value T, err error) {
	field, found := fields[name]
	delete(fields, name)
	value, ok := field.(T)
	if found && !ok {
		err = fieldError(name + ": send " + want)
	}
	return value, err
}

func takeTime(fields map[string]any, name string) (at time.Time, err error) {
	const want = "a time with its zone, such as 2026-11-28T10:00:00Z"
	_, found := fields[name]
	text, err := take[string](fields, name, want)
	if found && err == nil {
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			err = fieldError(name + ": send " + want)
		}
	}
	return at, err
}
