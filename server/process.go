package server

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
)

// CollectLess lets the heap grow more between two runs of the garbage collector, unless
// GOGC says how much. What is kept is small, some ten MiB, and what a click needs is gone
// with it: so a collection is nearly all marking what stays. It changes the whole process,
// so only serve calls it.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}

// collectAt is by how many percent the heap may grow.
const collectAt = 400

// MuteLibraries keeps libraries from writing to standard error on their own: what
// go-redis says there of a Redis that is down, the log says once, and OpenTelemetry
// repeats what it cannot read of its settings, secrets too. It changes the whole
// process, so only main calls it.
func MuteLibraries() {
	redis.SetLogger(mute{})
	otel.SetLogger(logr.Discard())
}

type mute struct{}

func (mute) Printf(context.Context, string, ...any) {}
