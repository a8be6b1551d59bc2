package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/merchant"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// CampaignOptions says what the campaign command does: plan one, list all, or cancel one.
type CampaignOptions struct {
	Shop      string    `help:"The store, such as my-store.myshopify.com; needed if several are connected."`
	Name      string    `help:"What to call the campaign; required to plan one."`
	StartsAt  time.Time `help:"When the e-mail goes out, such as 2026-11-28T10:00:00Z; required."`
	EndsAt    time.Time `help:"When the links are dropped; 24 hours later if not given."`
	Audience  string    `help:"active: all subscribers; renewals: those who renew" enum:"active,renewals" default:"active"`
	Customers []byte    `type:"filecontent" placeholder:"FILE" help:"Customer ids, in CSV or JSON; - for standard input."`
	DryRun    bool      `help:"Print what is possible, and plan nothing."`
	List      bool      `help:"List the campaigns." xor:"do"`
	Cancel    string    `help:"Cancel a campaign." placeholder:"ID" xor:"do"`
}

// Validate names the flags that a plan lacks.
func (o CampaignOptions) Validate() error {
	if !o.List && o.Cancel == "" && (o.Name == "" || o.StartsAt.IsZero()) {
		return errors.New("a campaign needs --name and --starts-at")
	}
	return nil
}

// Campaign plans a campaign and takes part in the work on it, beside the servers, until all is prepared. If
// ctx ends, it leaves the rest to the servers.
func Campaign(ctx context.Context, cfg config.Config, ask CampaignOptions, out io.Writer, o Options) error {
	if cfg.RedisURL.Empty() {
		return errors.New("campaign: REDIS_URL is empty, and the embedded Redis ends with its process")
	}
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	shops, err := s.connectedShops(ctx, ask.Shop)
	switch {
	case err != nil:
	case ask.List:
		err = s.listCampaigns(ctx, shops, out)
	case len(shops) > 1:
		return config.Problems{{Name: "--shop", What: "is missing", Hint: "several stores are connected; name one"}}
	case ask.Cancel != "":
		err = s.cancelCampaign(ctx, shops[0], ask.Cancel, out)
	default:
		err = s.planCampaign(ctx, shops[0], ask, out)
	}
	if text, refused := merchant.PlanWords(err); refused {
		err = errors.New(text.String())
	}
	if err != nil {
		return fmt.Errorf("campaign: %w", err)
	}
	return nil
}

func (s *server) listCampaigns(ctx context.Context, shops []shopify.Shop, out io.Writer) error {
	none := true
	for _, shop := range shops {
		all, err := s.importer.Campaigns(ctx, shop)
		if err != nil {
			return err
		}
		for _, campaign := range all {
			none = false
			if len(shops) > 1 {
				fmt.Fprintf(out, "%s  ", shop)
			}
			fmt.Fprintf(out, "%s  %s  %s  %s\n", campaign.ID, campaign.StartsAt.UTC().Format("2006-01-02 15:04 UTC"),
				campaign.Name, s.merchant.CampaignWords(campaign).Progress)
		}
	}
	if none {
		fmt.Fprintln(out, "There are no campaigns.")
	}
	return nil
}

func (s *server) cancelCampaign(ctx context.Context, shop shopify.Shop, id string, out io.Writer) error {
	found, err := s.importer.Cancel(ctx, shop, id)
	if err == nil && !found {
		err = errors.New("the store has no such campaign")
	}
	if err == nil {
		fmt.Fprintln(out, merchant.CampaignCancelled().Text)
	}
	return err
}

func (s *server) planCampaign(ctx context.Context, shop shopify.Shop, ask CampaignOptions, out io.Writer) error {
	plan := importer.Plan{Name: ask.Name, StartsAt: ask.StartsAt, EndsAt: ask.EndsAt, Audience: ask.Audience}
	do := s.importer.Plan
	var err error
	switch {
	case ask.Customers != nil && ask.Audience == store.Renewals:
		return errors.New("--customers is an audience of its own; leave out --audience")
	case ask.Customers != nil:
		plan.Audience = store.ListedCustomers
		plan.Customers, err = importer.ReadCustomers(bytes.NewReader(ask.Customers))
	}
	if ask.DryRun {
		do = s.importer.Forecast
	} else if err == nil {
		err = s.importer.Schedule(ctx, shop)
	}
	if err != nil {
		return err
	}
	campaign, err := do(ctx, shop, plan)
	if err != nil {
		return err
	}
	words := s.merchant.CampaignWords(campaign)
	if ask.DryRun {
		fmt.Fprintln(out, words.Forecast)
		return nil
	}
	fmt.Fprintf(out, "%s  %s\n%s\n", campaign.ID, campaign.Name, words.Forecast)
	working, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { s.importer.Run(working) })
	defer work.Wait()
	defer stop()
	return s.drawCampaign(ctx, shop, campaign.ID, out)
}

// drawCampaign prints a campaign's progress until all are prepared, or the campaign or ctx has ended.
func (s *server) drawCampaign(ctx context.Context, shop shopify.Shop, id string, out io.Writer) error {
	for last := ""; ; {
		found, err := s.importer.Campaigns(ctx, shop, id)
		key, line, done := "no database", merchant.NoDatabase(), false
		switch {
		case err == nil && len(found) == 0:
			return errors.New("the campaign was cancelled")
		case err == nil:
			words := s.merchant.CampaignWords(found[0])
			key, line = fmt.Sprint(words.State, words.Percent, found[0].Problem), words.Progress
			done = found[0].Pass > 0 || words.State == merchant.CampaignEnded
		}
		if ctx.Err() == nil && key != last {
			fmt.Fprintln(out, line)
			last = key
		}
		if done {
			return nil
		}
		// One for renewals is never complete.
		if len(found) > 0 && found[0].Audience == store.Renewals || !recharge.Wait(ctx, time.Second) {
			fmt.Fprintf(out, "The servers go on with it. To cancel it: "+
				"manage-subscriptions campaign --shop %s --cancel %s\n", shop, id)
			return nil
		}
	}
}
