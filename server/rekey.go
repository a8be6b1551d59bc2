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

// Rekey re-encrypts every store's record with the first encryption key, and writes how
// many. Servers that have both keys may run meanwhile.
func Rekey(ctx context.Context, cfg config.Config, out io.Writer) error {
	if cfg.Redis == nil {
		return errors.New("rekey: REDIS_URL is empty, and the embedded Redis ends with its process")
	}
	if len(encryptionKeys(cfg)) < 2 {
		return errors.New("rekey: there is one key; set ENCRYPTION_KEY (without it, SHOPIFY_API_SECRET) to new,old")
	}
	log, flush := NewLog(os.Stderr, cfg)
	defer flush()
	s, err := openStore(cfg, options{log: log, now: time.Now})
	if err != nil {
		return fmt.Errorf("rekey: %w", err)
	}
	resealed, err := s.Rekey(ctx)
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("rekey: %w; run it again for the stores that are left", err)
	}
	fmt.Fprintf(out, "Re-encrypted the records of %d stores with the first key in ENCRYPTION_KEY. ", resealed)
	fmt.Fprintln(out, "You can now remove the second key.")
	return nil
}
