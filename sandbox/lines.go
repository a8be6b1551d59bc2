package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// This file has lines to paste into a shell, which the panel shows.

// writeSettings writes the settings that other commands need into a file, and returns its name.
func writeSettings(s config.Settings) (name string, err error) {
	file, err := os.CreateTemp("", "sandbox-*.env") // only its owner can read it
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(file, "SHOPIFY_API_KEY=%s\nSHOPIFY_API_SECRET=%s\nAPP_URL=%s\n"+
		"REDIS_URL=%s\nENCRYPTION_KEY=%s\nRECHARGE_API_URL=%s\nOPS_ADDR=%s\n",
		s.ShopifyAPIKey, s.ShopifyAPISecret, s.AppURL, s.RedisURL, s.EncryptionKey, s.RechargeAPIURL, s.OpsAddr)
	return file.Name(), errors.Join(err, file.Close())
}

// lines returns commands that work with this store, in the folder of the repository.
func (s *Sandbox) lines() []string {
	pat := shoppers()[0].ID
	run := s.environment.run()
	path := ""
	if s.path != mountPath {
		path = " --path=" + s.path
	}
	lines := []string{
		run + fmt.Sprintf("doctor --shop=%s --store-url=%s --customer=%s%s", s.kind.shop, s.Store.URL, pat, path),
		run + fmt.Sprintf("preview --shop=%s --customer=%s", s.kind.shop, pat),
		run + "stores", run + fmt.Sprintf("stores --shop=%s", s.kind.shop),
		run + "doctor --all", run + "campaign --list", run + "healthcheck",
	}
	if f := s.headless.Load(); f != nil {
		lines = append(lines, fmt.Sprintf("curl %s/api/portal-links -H 'Authorization: Bearer %s' "+
			`-H 'Content-Type: application/json' -d '{"shopify_customer_id": "%s"}'`, s.AppURL(), f.key, pat), s.example())
	}
	return lines
}

// run returns what the lines begin with.
func (e *environment) run() string { return "env $(cat " + e.settings + ") go run . " }

// example returns a command that starts an example for the headless store. Its settings are right for every example.
func (s *Sandbox) example() string {
	store, key := s.Headless()
	return fmt.Sprintf("env PORTAL_URL=%s PORTAL_API_KEY=%s SHOP=%s STORE_URL=%s python3 examples/portal.py",
		s.AppURL(), key, s.Shop(), store)
}
