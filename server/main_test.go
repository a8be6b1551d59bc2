package server_test

import (
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m, 6) }
