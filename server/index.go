package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/shopify"
	"manage-subscriptions/store"
)

// progressEvery is how often Index reads the progress.
const progressEvery = time.Second

// Index imports all customers of a store, or of all stores if name is empty, and draws the
// progress. Running servers take part.
func Index(ctx context.Context, cfg config.Config, name string, out io.Writer, opts ...Option) error {
	if cfg.Redis == nil {
		return errors.New("index: REDIS_URL is empty; a server with an embedded Redis imports when it starts")
	}
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	o := newOptions(log, opts)
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	shops, err := s.connectedShops(ctx, name)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	start := o.now()
	for _, shop := range shops {
		if err := s.store.RequestImport(ctx, shop); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var importing sync.WaitGroup
	importing.Go(func() { s.importer.Run(ctx) })
	defer importing.Wait()
	defer stop()
	for _, shop := range shops {
		if err := s.drawProgress(ctx, shop, start, out); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// connectedShops returns the shop of that name, or all if it is empty.
func (s *server) connectedShops(ctx context.Context, name string) ([]shopify.Shop, error) {
	if own := s.merchants.Own(); own != "" {
		if s.merchants.Single() == nil || name != "" && name != string(own) {
			return nil, errors.New("the store has not connected Recharge")
		}
		return []shopify.Shop{own}, nil
	}
	var shops []shopify.Shop
	err := s.store.EachConnection(ctx, func(c store.Connection) error {
		if name == "" || name == string(c.Shop) {
			shops = append(shops, c.Shop)
		}
		return nil
	})
	if err == nil && len(shops) == 0 {
		err = errors.New("no such store has connected Recharge")
	}
	return shops, err
}

// drawProgress draws a shop's progress until its import has ended.
func (s *server) drawProgress(ctx context.Context, shop shopify.Shop, since time.Time, out io.Writer) error {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	last := ""
	for {
		state, err := s.store.Import(ctx, shop)
		if err != nil {
			return err
		}
		if line := progress(state); line != last {
			fmt.Fprintf(out, "%s  %s\n", shop, line)
			last = line
		}
		switch {
		case !state.Running && !state.Done.Before(since):
			return nil
		case !state.Running && state.Problem != "" && !state.Began.Before(since):
			return errors.New(state.Problem)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

const barWidth = 20

func progress(state store.Import) string {
	switch {
	case state.Problem != "":
		return state.Problem
	case !state.Running && state.Done.IsZero():
		return "waiting"
	case !state.Running:
		return fmt.Sprintf("[%s] done: %d customers in %d calls", strings.Repeat("#", barWidth), state.Size, state.Pages)
	case state.Size == 0: // the first import does not know how many there are
		return fmt.Sprintf("[%s] %d customers so far", strings.Repeat("?", barWidth), state.Customers)
	}
	percent := state.Percent()
	filled := percent * barWidth / 100
	bar := strings.Repeat("#", filled) + strings.Repeat(".", barWidth-filled)
	return fmt.Sprintf("[%s] %2d %%, %d customers of about %d", bar, percent, state.Customers, state.Size)
}
