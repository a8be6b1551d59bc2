package servertest

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/server"
)

// Main is for a package's TestMain. It lets this many tests run in parallel, however many
// processors there are, because most tests wait most of the time. The flag -parallel
// overrides it.
func Main(m *testing.M, parallel int) {
	server.MuteLibraries()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	os.Exit(m.Run())
}
