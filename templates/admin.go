package templates

import (
	"embed"
	"html/template"
	"io"
	"io/fs"
)

//go:embed admin/*.html admin/home.css admin/home.js admin/outage.js
var adminFiles embed.FS

// Admin renders the app home, which merchants see, with html/template.
type Admin struct {
	pages *template.Template
	Files fs.FS // the scripts and the style
}

// LoadAdmin parses the templates.
func LoadAdmin() *Admin {
	return &Admin{template.Must(template.ParseFS(adminFiles, "admin/*.html")), adminFiles}
}

// Draw renders the template called name, which is a page or a part of one.
func (a *Admin) Draw(w io.Writer, name string, data any) error {
	return a.pages.ExecuteTemplate(w, name, data)
}
