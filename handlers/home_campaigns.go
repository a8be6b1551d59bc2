package handlers

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// campaignsView holds what the app home shows about a shop's campaigns.
type campaignsView struct {
	Offered   bool          // on this server
	Closed    merchant.Text // why none can be planned; none if they can
	Unknown   bool
	Campaigns []campaignView
	Said      merchant.Said
}

type campaignView struct {
	store.Campaign
	Words merchant.CampaignWords
}

// planView is the answer to a plan.
type planView struct {
	Result string // "saved", "forecast" or "refused"
	Ready  bool   // all links will be
	Text   merchant.Text
}

func (a *Admin) campaignsView(ctx context.Context, shop shopify.Shop) campaignsView {
	view := campaignsView{Offered: a.Merchant.Importer != nil}
	if !view.Offered {
		return view
	}
	if a.Merchant.NoPrepare {
		view.Closed, _ = merchant.PlanWords(importer.Off)
	}
	all, err := a.Merchant.Importer.Campaigns(ctx, shop)
	view.Unknown = err != nil
	for _, campaign := range all {
		view.Campaigns = append(view.Campaigns, campaignView{campaign.Campaign, a.Merchant.CampaignWords(campaign)})
	}
	return view
}

// campaigns answers with the part of the page that shows the campaigns.
func (a *Admin) campaigns(c echo.Context, shop shopify.Shop) error {
	return a.part(c, http.StatusOK, "campaigns", a.campaignsView(c.Request().Context(), shop))
}

// planCampaign plans a campaign or, with dry=1, says what would be possible.
func (a *Admin) planCampaign(c echo.Context, shop shopify.Shop) error {
	allowList(c)
	if err := readForm(c, listSize); err != nil {
		return err
	}
	plan, err := planIn(c)
	var campaign importer.Campaign
	view := planView{Result: "saved"}
	switch dry := c.FormValue("dry") != ""; {
	case err != nil:
	case dry:
		view.Result = "forecast"
		campaign, err = a.Merchant.Importer.Forecast(c.Request().Context(), shop, plan)
	default:
		campaign, err = a.Merchant.Importer.Plan(c.Request().Context(), shop, plan)
	}
	if errors.Is(err, importer.Twice) {
		err = importer.Twice // merchants see names, not ids
	}
	if err != nil {
		text, ok := merchant.PlanWords(err)
		if !ok {
			return echo.NewHTTPError(http.StatusServiceUnavailable)
		}
		return a.part(c, http.StatusOK, "planned", planView{Result: "refused", Text: text})
	}
	view.Ready = campaign.Counted && campaign.Size > 0 && campaign.Ready >= campaign.Size
	view.Text = a.Merchant.CampaignWords(campaign).Forecast
	return a.part(c, http.StatusOK, "planned", view)
}

func planIn(c echo.Context) (plan importer.Plan, err error) {
	plan = importer.Plan{Name: c.FormValue("name"), Audience: c.FormValue("audience")}
	if plan.Audience != store.Renewals { // which are prepared from now on
		plan.StartsAt, _ = time.Parse(time.RFC3339, c.FormValue("starts_at")) // none is refused as too early
	}
	if plan.Audience == store.ListedCustomers {
		plan.Customers, err = importer.ReadCustomers(strings.NewReader(c.FormValue("customers")))
	}
	return plan, err
}

// cancelCampaign drops a campaign and the links that were made for it.
func (a *Admin) cancelCampaign(c echo.Context, shop shopify.Shop) error {
	ctx := c.Request().Context()
	if _, err := a.Merchant.Importer.Cancel(ctx, shop, c.FormValue("id")); err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view := a.campaignsView(ctx, shop)
	view.Said = merchant.CampaignCancelled()
	return a.part(c, http.StatusOK, "campaigns", view)
}
