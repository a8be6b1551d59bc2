package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"manage-subscriptions/config"
	"manage-subscriptions/shopify"
)

// Rekey seals anew, with the first encryption key, what Redis holds, and says
// what it did. Servers may go on meanwhile, if they have both keys.
func Rekey(ctx context.Context, cfg config.Config, out io.Writer) error {
	if cfg.Redis == nil {
		return errors.New("rekey: REDIS_URL is empty: what the embedded Redis holds ends with its process")
	}
	keys, err := encryptionKeys(cfg)
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	if len(keys) < 2 {
		return errors.New("rekey: there is one key: set ENCRYPTION_KEY to new,old (without it, SHOPIFY_API_SECRET), so that what the old one has sealed can be opened")
	}
	s, err := openStore(cfg, options{log: NewLog(os.Stderr, cfg), now: time.Now})
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	var own []shopify.Shop // an entry does not say whose shop's it is
	if cfg.Shop != "" {
		own = append(own, shopify.Shop(cfg.Shop))
	}
	done, err := s.Rekey(ctx, own...)
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("rekey: %w; what is done is done, run it again for the rest", err)
	}
	fmt.Fprintf(out, "Sealed anew: %d connected shops, %d shoppers, %d orders. Dropped, to be learned again: %d.\n",
		done.Connections, done.Customers, done.Orders, done.Dropped)
	return nil
}
