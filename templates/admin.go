package templates

import (
	"embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed admin
var adminFiles embed.FS

// Admin is what a merchant sees: the app home, drawn by html/template, and the
// files that it asks for.
type Admin struct {
	pages         *template.Template
	Style, Script []byte // home.css and home.js
}

// LoadAdmin parses the templates.
func LoadAdmin() (*Admin, error) {
	pages, err := template.ParseFS(adminFiles, "admin/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse the app home: %w", err)
	}
	a := &Admin{pages: pages}
	if a.Style, err = adminFiles.ReadFile("admin/home.css"); err != nil {
		return nil, err
	}
	a.Script, err = adminFiles.ReadFile("admin/home.js")
	return a, err
}

// Draw writes the page, or the part of one, that is called name.
func (a *Admin) Draw(w io.Writer, name string, data any) error {
	return a.pages.ExecuteTemplate(w, name, data)
}
