package server

import "runtime/debug"

// Version returns what this binary was built from, as stamped by the Go command: the tag
// of a release ("v1.2.0"), or a version with the commit
// ("v0.0.0-20260102030405-abcdefabcdef"). "+dirty" means that files had changed since,
// "devel" that it was built without its repository.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
