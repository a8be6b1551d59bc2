// Package house knows the structure of the program. Its tests check which package may import which, and that no
// package calls one above it.
package house

import (
	"errors"
	"go/build"
	"io/fs"
	"path/filepath"
	"strings"
)

const module = "github.com/manage-subscriptions/manage-subscriptions"

// Imports returns what each package below root, the repository's root, imports outside of its tests. The packages of
// this module are named by their folders, and the root is "main".
//
// It reads the packages itself. If it let another program do that, the go command would not notice a new import, and
// would repeat a test's old result.
func Imports(root string) (map[string][]string, error) {
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil || !entry.IsDir():
			return err
		case dir != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata"):
			return fs.SkipDir
		}
		found, err := build.ImportDir(dir, 0)
		if _, none := errors.AsType[*build.NoGoError](err); none {
			return nil
		}
		from, _ := filepath.Rel(root, dir)
		if from = filepath.ToSlash(from); from == "." {
			from = "main"
		}
		for i, path := range found.Imports {
			found.Imports[i] = strings.TrimPrefix(path, module+"/")
		}
		all[from] = found.Imports
		return err
	})
	return all, err
}
