// Package extensions holds the extensions that the Shopify CLI deploys with the app.
// The sandbox draws the theme app extension from here.
package extensions

import (
	"embed"
	"io/fs"
)

//go:embed all:manage-subscriptions-theme
var files embed.FS

// Theme returns the theme app extension's folder: blocks/, snippets/, assets/ and
// locales/.
func Theme() fs.FS {
	theme, err := fs.Sub(files, "manage-subscriptions-theme")
	if err != nil {
		panic(err) // cannot happen, because the path is a valid constant
	}
	return theme
}
