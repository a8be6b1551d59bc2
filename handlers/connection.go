package handlers

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// connectionView holds what the app home shows about a shop's connection.
type connectionView struct {
	Base      string // path of APP_URL
	Shop      string
	Fixed     bool // configured by this server's operator
	ThisStore bool // Fixed, and this is the configured store
	Connected bool
	Refused   bool   // Recharge no longer takes the Admin token
	Store     string // the store's address, which leads to its own domain
	Setup     merchant.Setup
	Support   supportView
	Reports   *reportsView // nil if this server sends no mail

	AddBlock, TurnOnEmbed string // addresses in the theme editor

	store.Traits     // in use
	Detected, Chosen store.Traits
	HasStorefront    bool
	Secret           merchant.Text // what is known of the API Client Secret; none if there is none
	Webhooks         merchant.Text
	News, Warnings   []merchant.Text
	Looked           merchant.Text // how long ago; none if never
	Said             merchant.Said // the result of the last action
}

func (a *Admin) connectionView(ctx context.Context, shop shopify.Shop) (connectionView, error) {
	own := a.Merchant.Merchants.Own()
	view := connectionView{
		Base: a.base(), Shop: string(shop), Fixed: own != "", ThisStore: shop == own,
		Store:       a.Merchant.Platform.ShopURL(shop),
		Setup:       a.Merchant.SetupOf(nil, store.Traits{}),
		AddBlock:    a.Merchant.Platform.AddBlock(shop, a.ClientID, "manage-subscriptions"),
		TurnOnEmbed: a.Merchant.Platform.TurnOnEmbed(shop, a.ClientID, "account-link"),
	}
	record, err := a.Merchant.Store.Record(ctx, shop)
	if err != nil && !view.Fixed {
		return view, err
	}
	connection := a.Merchant.Merchants.Connection(shop, record)
	if connection == nil {
		return view, nil
	}
	view.Connected, view.Traits = true, a.Merchant.Merchants.Traits(connection)
	view.Setup = a.Merchant.SetupOf(connection, view.Traits)
	view.Detected, view.Chosen = connection.Detected, connection.Chosen
	view.HasStorefront = connection.StorefrontToken != ""
	view.News, view.Warnings = merchant.News(connection), merchant.Warnings(connection, view.Traits)
	if !connection.Look.At.IsZero() {
		view.Looked = merchant.Ago(a.Merchant.Now().Sub(connection.Look.At))
	}
	view.Refused = connection.Look.Refused
	view.Webhooks = a.Merchant.WebhookWords(connection, record)
	if connection.ClientSecret != "" {
		view.Secret = a.Merchant.SecretWords(record)
	}
	if a.Merchant.Notifier != nil && a.Merchant.Notifier.Mails() {
		view.Reports = &reportsView{To: connection.ReportTo, Failed: connection.Reported.Failed}
	}
	view.Support.Known, view.Support.Connected = err == nil, true
	view.Support.On, view.Support.Account = record.SupportSecret() != nil, view.Link == "account" && view.AccountPage != ""
	return view, nil
}

// connection answers with the part of the home page that shows the connection.
func (a *Admin) connection(c echo.Context, shop shopify.Shop) error {
	return a.sayIn(c, "home-connection", shop, merchant.Said{})
}

// choosePortal saves which of Recharge's portals the store shows, as the setup guide asks.
func (a *Admin) choosePortal(c echo.Context, shop shopify.Shop) error {
	said, err := a.Merchant.ChoosePortal(c.Request().Context(), shop, c.FormValue("portal"), c.FormValue("page"))
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	return a.sayIn(c, "home-connection", shop, said)
}

// settingsPart answers with the part of the settings page that has the forms.
func (a *Admin) settingsPart(c echo.Context, shop shopify.Shop) error {
	return a.say(c, shop, merchant.Said{})
}

// say answers with the settings after one of their forms was sent.
func (a *Admin) say(c echo.Context, shop shopify.Shop, said merchant.Said) error {
	return a.sayIn(c, "settings", shop, said)
}

func (a *Admin) sayIn(c echo.Context, part string, shop shopify.Shop, said merchant.Said) error {
	view, err := a.connectionView(c.Request().Context(), shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view.Said = said
	return a.part(c, http.StatusOK, part, view)
}

// alone lets a shop make only one request at a time that calls Recharge or waits for the disk.
func (a *Admin) alone(next func(echo.Context, shopify.Shop) error) func(echo.Context, shopify.Shop) error {
	return func(c echo.Context, shop shopify.Shop) error {
		end := a.Merchant.Begin(shop)
		if end == nil {
			return echo.NewHTTPError(http.StatusTooManyRequests)
		}
		defer end()
		return next(c, shop)
	}
}

// setting is alone for requests that change the connection. It refuses them on a server that is
// configured for one store.
func (a *Admin) setting(next func(echo.Context, shopify.Shop) error) func(echo.Context, shopify.Shop) error {
	return a.alone(func(c echo.Context, shop shopify.Shop) error {
		if a.Merchant.Merchants.Own() != "" {
			return echo.NewHTTPError(http.StatusForbidden)
		}
		return next(c, shop)
	})
}

// connect checks the tokens that the merchant pasted, and saves them if they work. It sends each
// check as soon as it is done, and goes on even if the merchant leaves the page.
func (a *Admin) connect(c echo.Context, shop shopify.Shop) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), merchant.ConnectTimeout)
	defer cancel()
	steps := &steps{pages: a.Pages, languages: languages(c), response: c.Response()}
	pasted := merchant.Tokens{
		Admin: c.FormValue("token"), Storefront: c.FormValue("storefront"), Secret: c.FormValue("secret"),
		NoStorefront: c.FormValue("without") == "storefront",
	}
	said, err := a.Merchant.Connect(ctx, shop, pasted, steps.add)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	steps.write("checks-end", said)
	return steps.err
}

// settings saves the merchant's choices, which override detected settings.
func (a *Admin) settings(c echo.Context, shop shopify.Shop) error {
	said, ok := a.Merchant.SaveChosen(c.Request().Context(), shop, chosenIn(c))
	if !ok {
		return echo.NewHTTPError(http.StatusBadRequest)
	}
	return a.say(c, shop, said)
}

func chosenIn(c echo.Context) store.Traits {
	return store.Traits{
		PortalURL: c.FormValue("portal"), Accounts: c.FormValue("accounts"), Link: c.FormValue("link"),
		AccountPage: c.FormValue("page"),
	}
}

// look detects the store's settings again.
func (a *Admin) look(c echo.Context, shop shopify.Shop) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), merchant.ConnectTimeout)
	defer cancel()
	return a.say(c, shop, a.Merchant.Look(ctx, shop))
}

// disconnect erases the tokens and everything cached for the shop.
func (a *Admin) disconnect(c echo.Context, shop shopify.Shop) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), merchant.ConnectTimeout)
	defer cancel()
	return a.say(c, shop, a.Merchant.Disconnect(ctx, shop))
}

// triedView holds what the app home shows about a try.
type triedView struct {
	merchant.Tried
	Customers string // address of the store's customers in the admin
}

// try shows, step by step, what would happen if a shopper clicked. With support, it also makes a link for
// support.
func (a *Admin) try(c echo.Context, shop shopify.Shop) error {
	ctx, steps := c.Request().Context(), &steps{pages: a.Pages, languages: languages(c), response: c.Response()}
	tried := a.Merchant.Try(ctx, shop, c.FormValue("customer"), steps.add)
	if c.FormValue("support") != "" {
		tried = a.Merchant.SupportLink(ctx, shop, tried, staff(c))
	}
	steps.write("tried", triedView{tried, a.Merchant.Platform.AdminURL(shop) + "/store/" + shop.Handle() + "/customers/"})
	return steps.err
}

// supportView holds what the app home shows about links for support.
type supportView struct {
	Connected, On bool
	Known         bool // Redis answers
	Account       bool // the portal is in the Shopify account, which no link opens
	Said          merchant.Said
}

// support turns links for support on or off.
func (a *Admin) support(c echo.Context, shop shopify.Shop) error {
	ctx := c.Request().Context()
	said := a.Merchant.SwitchSupport(ctx, shop, c.FormValue("on") != "", staff(c))
	view, err := a.connectionView(ctx, shop)
	if err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	view.Support.Said = said
	return a.part(c, http.StatusOK, "support", view.Support)
}

// contact saves what the admin tells the app home of the store, as Shopify tells it to nobody else.
func (a *Admin) contact(c echo.Context, shop shopify.Shop) error {
	told := store.Contact{Name: c.FormValue("name"), Email: c.FormValue("email")}
	if err := a.Merchant.SaveContact(c.Request().Context(), shop, told); err != nil {
		return echo.NewHTTPError(http.StatusServiceUnavailable)
	}
	return c.NoContent(http.StatusNoContent)
}

// reportsView holds what the app home shows about notices by e-mail.
type reportsView struct {
	To     string // "": nobody gets them
	Failed bool   // the last one could not be sent
	Said   merchant.Said
}

// reports saves where the merchant wants notices by e-mail.
func (a *Admin) reports(c echo.Context, shop shopify.Shop) error {
	if a.Merchant.Notifier == nil || !a.Merchant.Notifier.Mails() {
		return echo.NewHTTPError(http.StatusNotFound)
	}
	view := reportsView{To: strings.TrimSpace(c.FormValue("to"))}
	view.Said = a.Merchant.SaveReportTo(c.Request().Context(), shop, view.To, languages(c))
	return a.part(c, http.StatusOK, "reports", view)
}

// steps streams an answer. It sends each line as soon as it is known.
type steps struct {
	pages     *templates.Admin
	languages string
	response  *echo.Response
	begun     bool
	err       error // the first error; nothing is written after it
}

func (s *steps) begin() {
	// The server's write timeout is for clicks. Connecting takes longer.
	deadline := time.Now().Add(merchant.ConnectTimeout + 10*time.Second)
	s.err = http.NewResponseController(s.response).SetWriteDeadline(deadline)
	s.response.Header().Set(echo.HeaderContentType, "text/html; charset=utf-8")
	s.response.Header().Set("X-Accel-Buffering", "no") // proxies must not buffer the answer
	s.write("checks-start", nil)
}

func (s *steps) add(step merchant.Step) { s.write("step", step) }

func (s *steps) write(name string, data any) {
	if !s.begun {
		s.begun = true
		s.begin()
	}
	if s.err != nil {
		return
	}
	if s.err = s.pages.Draw(s.response, s.languages, name, data); s.err == nil {
		s.response.Flush()
	}
}
