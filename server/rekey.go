package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"manage-subscriptions/config"
)

// Rekey re-encrypts every store's record with the first encryption key, and says how many
// that were. Servers may run meanwhile, if they have both keys.
func Rekey(ctx context.Context, cfg config.Config, out io.Writer) error {
	if cfg.Redis == nil {
		return errors.New("rekey: REDIS_URL is empty: what the embedded Redis holds ends with its process")
	}
	if len(encryptionKeys(cfg)) < 2 {
		return errors.New("rekey: there is one key: set ENCRYPTION_KEY to new,old (without it, SHOPIFY_API_SECRET), so that what the old one has sealed can be opened")
	}
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	s, err := openStore(cfg, options{log: log, now: time.Now})
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	resealed, err := s.Rekey(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("rekey: %w; what is done is done, run it again for the rest", err)
	}
	fmt.Fprintf(out, "Re-encrypted with the first key in ENCRYPTION_KEY: the records of %d stores. You can now remove the second key.\n", resealed)
	return nil
}
