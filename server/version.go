package server

import "runtime/debug"

// Version returns what this binary was built from, as stamped by the Go command: the tag
// of a release ("v1.2.0"), or a version with the commit
// ("v0.0.0-20260102030405-abcdefabcdef"). "+dirty" means that files had changed since,
// "devel" that it was built without its repository.
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
