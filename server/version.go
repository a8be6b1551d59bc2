// What this binary was built from, for operators and for whoever reads their reports.

package server

import "runtime/debug"

// Version is what this binary was built from, as the Go command has stamped it: the
// tag of a release ("v1.2.0"), else a version that names the commit
// ("v0.0.0-20260102030405-abcdefabcdef"). "+dirty" says that files had been changed
// since; "devel", that it was built without its repository.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "devel", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	return revision + dirty
}
