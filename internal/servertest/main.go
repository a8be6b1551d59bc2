package servertest

import (
	"flag"
	"os"
	"testing"

	"manage-subscriptions/server"
)

// Main is for a package's TestMain. It lets six tests run beside each other, whatever
// the number of processors, as most of them wait most of the time. Another -parallel
// counts all the same.
func Main(m *testing.M) {
	server.MuteLibraries()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "6")
	}
	os.Exit(m.Run())
}
