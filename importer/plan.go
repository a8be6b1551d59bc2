package importer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// This file plans campaigns and says beforehand what is possible.

const (
	// usualLength is how long a campaign goes on if nobody says.
	usualLength = 24 * time.Hour
	// MaxLength is the longest campaign.
	MaxLength = 7 * 24 * time.Hour
	// MaxAhead is how long before its start a campaign can be planned.
	MaxAhead = 60 * 24 * time.Hour
	// MaxCustomers is the longest list.
	MaxCustomers = 500_000
	// maxName is the longest name, in characters.
	maxName = 80
	// callsEach is how many calls an access costs: a session, and the access itself.
	callsEach = 2
)

// Plan is a campaign that somebody wants to have.
type Plan struct {
	Name             string
	StartsAt, EndsAt time.Time            // when the e-mail goes out, and when the accesses are dropped; zero: a day later
	Audience         string               // as in store.Campaign
	Customers        []shopify.CustomerID // of store.ListedCustomers
}

// PlanError is what is wrong with a plan, as a fixed key.
type PlanError string

// The errors.
const (
	BadName      PlanError = "name"
	BadStart     PlanError = "starts_at"     // in the past, or too far ahead
	BadEnd       PlanError = "ends_at"       // not after the start, over already, or too late
	BadAudience  PlanError = "audience"      // unknown
	NoCustomers  PlanError = "customers"     // a list without an id, or ids without such an audience
	BadCustomers PlanError = "customer ids"  // an entry that is no id
	TooMany      PlanError = "too many"      // the shop has store.MaxCampaigns already
	Twice        PlanError = "twice"         // the shop has it already, perhaps from an attempt whose answer was lost
	Off          PlanError = "off"           // PREPARE=off
	NotConnected PlanError = "not connected" // or another account's
	NoOrders     PlanError = "no orders"     // Recharge announces no renewals: the token may not read orders
	NotProven    PlanError = "not proven"    // Recharge's announcements may not arrive: no webhook has verified lately
	NoLinks      PlanError = "no links"      // the store's links are by hash, or its portal is in the account
)

func (e PlanError) Error() string { return "campaign: " + string(e) }

// PlanDetail says more about a PlanError beside it: the "line" of a list in CSV, or the "entry" of one in
// JSON, that is no id, each from 1, or the "id" of the campaign that there is already.
type PlanDetail struct{ Name, Value string }

func (d PlanDetail) Error() string { return d.Name + " " + d.Value }

// Campaign is everything known about a campaign.
type Campaign struct {
	store.Campaign
	store.Progress
	Forecast
	Clicks map[string]int64 // from its start to its end, by outcome, and portal.ByPrepared
}

// Forecast says what is possible at the token's rate.
type Forecast struct {
	Counted bool          // Size is known, since the customers were imported
	Each    time.Duration // for one access
	Need    time.Duration // for all
	StartBy time.Time     // to be ready when the campaign starts
	Ready   int           // shoppers whose access is ready then
	Proven  bool          // webhooks arrive, so that no click needs a call
	Missing error         // for renewals: why Recharge's announcements may not arrive; a PlanError
}

// Share is the part of the audience that is ready at the start, from 0 to 1.
func (c Campaign) Share() float64 { return float64(c.Ready) / float64(max(c.Size, 1)) }

// check returns the plan as it will be saved.
func (p Plan) check(now time.Time) (Plan, error) {
	p.Name = strings.TrimSpace(p.Name)
	audiences := []string{store.ActiveSubscribers, store.ListedCustomers, store.Renewals}
	switch {
	case p.Name == "" || len([]rune(p.Name)) > maxName || strings.ContainsFunc(p.Name, unicode.IsControl):
		return p, BadName
	case !slices.Contains(audiences, p.Audience):
		return p, BadAudience
	case (p.Audience == store.ListedCustomers) != (len(p.Customers) > 0) || len(p.Customers) > MaxCustomers:
		return p, NoCustomers
	}
	if p.Audience == store.Renewals && p.StartsAt.IsZero() {
		p.StartsAt = now
	}
	if p.StartsAt.Before(now.Add(-time.Hour)) || p.StartsAt.After(now.Add(MaxAhead)) {
		return p, BadStart
	}
	return p.withEnd(now)
}

// withEnd checks when a plan ends.
func (p Plan) withEnd(now time.Time) (Plan, error) {
	switch last := p.StartsAt.Add(MaxLength); {
	case p.EndsAt.IsZero() && p.Audience == store.Renewals:
		return p, nil
	case p.EndsAt.IsZero():
		p.EndsAt = p.StartsAt.Add(usualLength)
	case p.EndsAt.After(last):
		return p, BadEnd
	}
	if !p.EndsAt.After(later(p.StartsAt, now)) {
		return p, BadEnd
	}
	return p, nil
}

// Forecast says what a plan would lead to. It saves nothing and makes no call.
// Errors: a PlanError; any other means that Redis does not answer.
func (x *Importer) Forecast(ctx context.Context, shop shopify.Shop, plan Plan) (Campaign, error) {
	campaign, _, _, err := x.draft(ctx, shop, plan)
	return campaign, err
}

// Plan saves a campaign. Errors: as Forecast's, TooMany, and Twice with the id of the other.
func (x *Importer) Plan(ctx context.Context, shop shopify.Shop, plan Plan) (Campaign, error) {
	campaign, record, names, err := x.draft(ctx, shop, plan)
	if err != nil {
		return Campaign{}, err
	}
	room, twin, err := x.recorder.Store.SaveCampaign(ctx, record, campaign.Campaign, names, campaign.Progress)
	switch {
	case err != nil:
		return Campaign{}, fmt.Errorf("save campaign: %w", err)
	case twin != "":
		return Campaign{}, fmt.Errorf("%w: %w", Twice, PlanDetail{"id", twin})
	case !room:
		return Campaign{}, TooMany
	}
	x.recorder.Log.InfoContext(ctx, "campaign planned", "shop", string(shop), "campaign", campaign.ID,
		"starts_at", campaign.StartsAt, "audience", campaign.Audience, "shoppers", campaign.Size)
	wake(x.planned)
	return campaign, nil
}

// draft returns a plan as a campaign, the shop's record, and the pseudonyms of a list.
func (x *Importer) draft(ctx context.Context, shop shopify.Shop, plan Plan) (Campaign, *store.Record, []string, error) {
	now := x.now()
	plan, err := plan.check(now)
	if err != nil {
		return Campaign{}, nil, nil, err
	}
	record, merchant, err := x.preparing(ctx, shop)
	if err != nil {
		return Campaign{}, nil, nil, err
	}
	if plan.Audience == store.Renewals {
		if err := x.announced(record); err != nil {
			return Campaign{}, nil, nil, err
		}
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // it never fails
	campaign := Campaign{Campaign: store.Campaign{
		ID: hex.EncodeToString(id), Name: plan.Name, StartsAt: plan.StartsAt.UTC(), EndsAt: plan.EndsAt.UTC(),
		Audience: plan.Audience, MadeAt: now.UTC(),
	}}
	var names []string
	if plan.Audience == store.ListedCustomers {
		names = record.Names(plan.Customers)
	}
	members, err := x.members(ctx, record, campaign.Campaign, names)
	if err != nil {
		return Campaign{}, nil, nil, err
	}
	campaign.Size, campaign.Planned = len(members), plan.Audience == store.Renewals // those come one by one
	if names != nil {
		campaign.Unknown = len(names) - len(members)
	}
	x.forecast(record, merchant, x.recorder.Store.Imported(ctx, shop), &campaign)
	return campaign, record, names, nil
}

// announced returns why Recharge's announcements of renewals may not arrive, nil if they should.
func (x *Importer) announced(r *store.Record) error {
	switch {
	case r.Connection == nil || !r.Connection.ReadsCharges():
		return NoOrders
	case !x.recorder.Store.WebhooksProven(r):
		return NotProven
	}
	return nil
}

// preparing returns a shop's record and merchant if accesses can be made for it.
func (x *Importer) preparing(ctx context.Context, shop shopify.Shop) (*store.Record, *portal.Merchant, error) {
	if x.resolver.NoPrepare {
		return nil, nil, Off
	}
	loaded := x.recorder.Store.Load(ctx, store.Shopper{Shop: shop}) // creates the record of the configured shop
	if loaded.Err != nil {
		return nil, nil, loaded.Err
	}
	merchant, err := x.merchants.Of(shop, loaded.Record)
	switch {
	case err != nil:
		return nil, nil, err
	case merchant == nil || loaded.Record == nil:
		return nil, nil, NotConnected
	case merchant.NoAccess:
		return nil, nil, NoLinks
	}
	return loaded.Record, merchant, nil
}

// Campaigns returns a shop's campaigns, the newest first. If there are ids, it returns only those.
func (x *Importer) Campaigns(ctx context.Context, shop shopify.Shop, ids ...string) ([]Campaign, error) {
	loaded := x.recorder.Store.Load(ctx, store.Shopper{Shop: shop})
	record := loaded.Record
	if loaded.Err != nil || record == nil || record.Connection == nil {
		return nil, loaded.Err
	}
	merchant, err := x.merchants.Of(shop, record)
	if err != nil || merchant == nil {
		return nil, err
	}
	imported := x.recorder.Store.Imported(ctx, shop)
	var all []Campaign
	for _, one := range slices.Backward(record.Connection.Campaigns) {
		if len(ids) > 0 && !slices.Contains(ids, one.ID) {
			continue
		}
		campaign := Campaign{Campaign: one}
		var failed error
		if campaign.Progress, failed = x.recorder.Store.Progress(ctx, shop, one); failed == nil {
			campaign.Clicks, failed = x.recorder.Store.CampaignClicks(ctx, shop, one.ID)
		}
		if failed != nil {
			return nil, failed
		}
		x.forecast(record, merchant, imported, &campaign)
		all = append(all, campaign)
	}
	return all, nil
}

// Cancel drops a campaign and every access that was made for it. It reports whether there was one.
func (x *Importer) Cancel(ctx context.Context, shop shopify.Shop, id string) (bool, error) {
	found, err := x.recorder.Store.CancelCampaign(ctx, shop, id)
	if err == nil && found {
		x.recorder.Log.InfoContext(ctx, "campaign cancelled", "shop", string(shop), "campaign", id)
		wake(x.planned)
	}
	return found, err
}

// forecast fills in a campaign's forecast, from what is done so far.
func (x *Importer) forecast(r *store.Record, merchant *portal.Merchant, imported bool, c *Campaign) {
	now := x.now()
	c.Counted = c.Planned || imported
	c.Proven = x.recorder.Store.WebhooksProven(r)
	if c.Audience == store.Renewals {
		c.Missing = x.announced(r)
	}
	c.Each = each(merchant)
	c.Need = time.Duration(c.Size) * c.Each
	c.StartBy = c.StartsAt.Add(-c.Need)
	done := c.Prepared()
	free := c.StartsAt.Sub(later(now, earliest(c.Campaign)))
	if !now.Before(c.StartsAt) {
		free = 0
	}
	c.Ready = min(c.Size, done+int(max(0, free)/c.Each))
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ReadCustomers reads a list of Shopify's customer ids: a JSON array of texts or numbers, or CSV. The ids are in
// the column whose heading speaks of a customer and an id, such as that of Shopify's own export, or else in the
// first. Errors: BadCustomers with a PlanDetail, and NoCustomers.
func ReadCustomers(r io.Reader) (ids []shopify.CustomerID, err error) {
	in := bufio.NewReader(r)
	start, _ := in.Peek(64)
	read, name := readCSV, "line"
	if bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(start, []byte("\ufeff"))), []byte("[")) {
		read, name = readJSON, "entry"
	}
	err = read(in, func(text string, at int) error {
		text = strings.TrimPrefix(strings.TrimSpace(text), "'")
		if text == "" {
			return nil
		}
		id, err := shopify.ParseCustomerGID(text)
		if err != nil {
			return fmt.Errorf("%w: %w", BadCustomers, PlanDetail{name, strconv.Itoa(at)})
		}
		if ids = append(ids, id); len(ids) > MaxCustomers {
			return NoCustomers
		}
		return nil
	})
	if err == nil && len(ids) == 0 {
		err = NoCustomers
	}
	return ids, err
}

func readJSON(in io.Reader, add func(text string, entry int) error) error {
	var values []any
	decoder := json.NewDecoder(in)
	decoder.UseNumber()
	if decoder.Decode(&values) != nil || decoder.More() {
		return BadCustomers
	}
	for i, value := range values {
		if err := add(fmt.Sprint(value), i+1); err != nil {
			return err
		}
	}
	return nil
}

func readCSV(in io.Reader, add func(text string, line int) error) error {
	reader := csv.NewReader(in)
	reader.FieldsPerRecord, reader.LazyQuotes, reader.ReuseRecord = -1, true, true
	column := 0
	for first := true; ; first = false {
		fields, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return BadCustomers
		}
		if first {
			fields[0] = strings.TrimPrefix(fields[0], "\ufeff")
			if heading := slices.IndexFunc(fields, isHeading); heading >= 0 {
				column = heading
				continue
			}
		}
		if column < len(fields) {
			line, _ := reader.FieldPos(column)
			if err := add(fields[column], line); err != nil {
				return err
			}
		}
	}
}

// isHeading reports whether a column holds Shopify's customer ids.
func isHeading(text string) bool {
	text = strings.NewReplacer(" ", "", "_", "", "-", "").Replace(strings.ToLower(text))
	return slices.Contains([]string{"customerid", "shopifycustomerid", "shopifyid", "id"}, text)
}
