package templates

import (
	"embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed admin/*.html
var adminFiles embed.FS

var (
	//go:embed admin/home.css
	adminStyle []byte
	//go:embed admin/home.js
	adminScript []byte
)

// Admin renders the app home, which merchants see, with html/template.
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
	return &Admin{pages: pages, Style: adminStyle, Script: adminScript}, nil
}

// Draw renders the template called name, which is a page or a part of one.
func (a *Admin) Draw(w io.Writer, name string, data any) error {
	return a.pages.ExecuteTemplate(w, name, data)
}
