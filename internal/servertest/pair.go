package servertest

import (
	"github.com/manage-subscriptions/manage-subscriptions/config"
)

// Second runs another server on the same Redis, and returns the addresses of both.
func (f *Fixture) Second(change ...func(*config.Settings)) []string {
	f.T.Helper()
	first := f.Public
	f.Run(change...)
	return []string{first, f.Public}
}
