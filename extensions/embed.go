// Package extensions holds what the Shopify CLI deploys with the app. As a Go
// package it gives the theme app extension to the sandbox, which draws it.
package extensions

import (
	"embed"
	"io/fs"
)

//go:embed all:manage-subscriptions-theme
var files embed.FS

// Theme returns the theme app extension, rooted where its blocks/, snippets/,
// assets/ and locales/ are.
func Theme() fs.FS {
	theme, err := fs.Sub(files, "manage-subscriptions-theme")
	if err != nil {
		panic(err) // the path is a constant, and a valid one
	}
	return theme
}
