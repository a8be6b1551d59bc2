package merchant_test

import (
	"testing"

	"manage-subscriptions/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }
