package servertest

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/importer"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
)

// Importer returns an importer beside the servers of one store or of many, as a command has it. It does no work.
func (f *Fixture) Importer(change ...func(*config.Settings)) *importer.Importer {
	f.T.Helper()
	cfg := f.Config(change...)
	log := slog.New(slog.DiscardHandler)
	keys := [][]byte{store.DeriveKey(AppSecret)}
	var configured *store.Connection
	if len(cfg.EncryptionKeys) > 0 {
		keys = [][]byte{[]byte(cfg.EncryptionKeys[0].Reveal())}
	}
	if cfg.Shop != "" {
		configured = &store.Connection{
			Shop: cfg.Shop, APIToken: cfg.RechargeAPIToken.Reveal(),
			StorefrontToken: cfg.RechargeStorefrontToken.Reveal(),
		}
	}
	account := sha256.Sum256([]byte(cfg.RechargeAPIToken.Reveal() + "\x00" + cfg.RechargeClientSecret.Reveal()))
	beside, err := store.Open(store.Options{
		Redis: &redis.UniversalOptions{Addrs: []string{f.Redis.Addr}}, Keys: keys,
		CustomerTTL: cfg.CustomerTTL, Single: cfg.Shop, Account: hex.EncodeToString(account[:16]), Now: f.Clock.Now, Log: log,
	})
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() { _ = beside.Close() })
	options := recharge.Options{
		APIURL: cfg.RechargeAPIURL, Rate: cfg.RechargeRate, Burst: cfg.RechargeBurst, Timeout: cfg.RechargeTimeout,
		HTTP: recharge.NewTransport(cfg.RechargeTimeout), Now: f.Clock.Now, AppURL: cfg.AppURL,
	}
	merchants, err := portal.NewMerchants(beside, portal.Settings{Options: options}, configured)
	if err != nil {
		f.T.Fatal(err)
	}
	resolver := &portal.Resolver{
		Store: beside, Merchants: merchants, Timeout: cfg.ClickTimeout, LinkTTL: cfg.LinkTTL, Now: f.Clock.Now,
	}
	return importer.New(resolver, &portal.Recorder{Store: beside, Log: log})
}
