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

// indexBeat is how often Index says how far it is.
const indexBeat = time.Second

// Index reads all customers of a store, or of all where name is empty, and draws
// how far it is. Servers may go on meanwhile: whoever is there takes part.
func Index(ctx context.Context, cfg config.Config, name string, out io.Writer, opts ...Option) error {
	if cfg.Redis == nil {
		return errors.New("index: REDIS_URL is empty: a server with an embedded Redis makes its own index when it starts")
	}
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	o := newOptions(log, opts)
	s, err := wire(cfg, o)
	if err != nil {
		return err
	}
	defer s.close()
	shops, err := s.indexed(ctx, name)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	begun := o.now()
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
		if err := s.watchIndex(ctx, shop, begun, out); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	return nil
}

// indexed are the shops to be indexed.
func (s *server) indexed(ctx context.Context, name string) ([]shopify.Shop, error) {
	if s.merchants.Own() != "" {
		if s.merchants.Single() == nil || name != "" && name != string(s.merchants.Own()) {
			return nil, errors.New("the store has not connected Recharge")
		}
		return []shopify.Shop{s.merchants.Own()}, nil
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

// watchIndex draws how far a shop is, until it is done.
func (s *server) watchIndex(ctx context.Context, shop shopify.Shop, since time.Time, out io.Writer) error {
	ticker := time.NewTicker(indexBeat)
	defer ticker.Stop()
	last := ""
	for {
		index, err := s.store.Import(ctx, shop)
		if err != nil {
			return err
		}
		if line := progress(index); line != last {
			fmt.Fprintf(out, "%s  %s\n", shop, line)
			last = line
		}
		switch {
		case !index.Running && !index.Done.Before(since):
			return nil
		case !index.Running && index.Problem != "" && !index.Began.Before(since):
			return errors.New(index.Problem)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

const barWidth = 20

func progress(index store.Import) string {
	percent := index.Percent()
	switch {
	case index.Problem != "":
		return index.Problem
	case !index.Running && index.Done.IsZero():
		return "waiting"
	case !index.Running:
		percent = 100
	}
	filled := percent * barWidth / 100
	bar := "[" + strings.Repeat("#", filled) + strings.Repeat(".", barWidth-filled) + "]"
	if index.Running && index.Size == 0 { // nobody knows of how many
		return fmt.Sprintf("[%s] %d customers so far", strings.Repeat("?", barWidth), index.Customers)
	}
	if !index.Running {
		return fmt.Sprintf("%s done: %d customers in %d calls", bar, index.Size, index.Pages)
	}
	return fmt.Sprintf("%s %2d %%, %d customers of about %d", bar, percent, index.Customers, index.Size)
}
