package server

import (
	"runtime/debug"
	"testing"
)

func TestVersionOf(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}, {Key: "vcs.modified", Value: modified}}
	}
	for _, test := range []struct {
		name, main string
		settings   []debug.BuildSetting
		want       string
	}{
		{"release", "v1.2.3", vcs("false"), "v1.2.3"},
		{"commit", "v0.0.0-20260102030405-0123456789ab+dirty", vcs("true"), "v0.0.0-20260102030405-0123456789ab+dirty"},
		{"only stamped", "(devel)", vcs("false"), "0123456789ab"},
		{"changed since", "", vcs("true"), "0123456789ab+dirty"},
		{"no repository", "(devel)", nil, "devel"},
	} {
		if got := versionOf(&debug.BuildInfo{Main: debug.Module{Version: test.main}, Settings: test.settings}); got != test.want {
			t.Errorf("%s: versionOf = %q; want %q", test.name, got, test.want)
		}
	}
}
