// Package extensions holds the extensions that the Shopify CLI deploys with the app.
// The sandbox draws them from here.
package extensions

import (
	"embed"
	"io/fs"
)

//go:embed all:manage-subscriptions-theme
//go:embed manage-subscriptions-account/shopify.extension.toml manage-subscriptions-account/locales
var files embed.FS

// Theme returns the theme app extension's folder: blocks/, snippets/, assets/ and
// locales/.
func Theme() fs.FS { return folder("manage-subscriptions-theme") }

// Account returns the account extension's configuration and locales/.
func Account() fs.FS { return folder("manage-subscriptions-account") }

func folder(name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // cannot happen, because the paths are valid constants
	}
	return sub
}
