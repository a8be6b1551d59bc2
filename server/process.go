package server

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
)

// CollectLess makes the garbage collector run less often, unless GOGC is set. The heap
// that stays is small, some ten MiB, and a collection costs as much as marking it. It
// changes the whole process, so only the serve command calls it.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}

// collectAt is by how many percent the heap may grow.
const collectAt = 400

// MuteLibraries keeps libraries from writing to standard error. go-redis repeats there
// that Redis is down, which the log says once. OpenTelemetry prints settings that it
// cannot read, with their secrets. It changes the whole process, so only main calls it.
func MuteLibraries() {
	redis.SetLogger(mute{})
	otel.SetLogger(logr.Discard())
}

type mute struct{}

func (mute) Printf(context.Context, string, ...any) {}
