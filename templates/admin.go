package templates

import (
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"io/fs"
	"strings"
	"sync"
)

//go:embed admin/*.html admin/home.css admin/home.js admin/outage.js admin/locales/*.json
var adminFiles embed.FS

// Admin renders the app home, which merchants see, with html/template.
type Admin struct {
	pages map[string]*template.Template // by the tags of their language
	Files fs.FS                         // the scripts and the style
}

// adminCatalogues returns the languages of the app home by their tags. It is called by Text, too, so
// that nothing has to pass them through the program.
var adminCatalogues = sync.OnceValue(func() map[string]catalogue {
	all, byTag := loadCatalogues(adminFiles, "admin/locales")
	for _, c := range all {
		for key, text := range byTag[english].Texts {
			if c.Texts[key] == "" {
				c.Texts[key] = text
			}
		}
	}
	byTag["pt"] = byTag["pt-br"] // for Portugal, too
	return byTag
})

// LoadAdmin parses the templates.
func LoadAdmin() *Admin {
	a := &Admin{map[string]*template.Template{}, adminFiles}
	for tag, c := range adminCatalogues() {
		a.pages[tag] = template.Must(template.New("").Funcs(c.functions()).ParseFS(adminFiles, "admin/*.html"))
	}
	return a
}

// functions returns what templates write texts with: {{t .Text}}, {{t "key"}}, {{t "key" value}} or {{t "key" "name"
// value "name" value}}. Catalogues are part of the binary, so their markup is trusted; values are escaped.
func (c catalogue) functions() template.FuncMap {
	return template.FuncMap{
		"language": func() string { return c.Code },
		"t": func(text any, values ...any) template.HTML {
			if key, ok := text.(string); ok {
				text = Text{key, values}
			}
			return template.HTML(c.value(text)) //nolint:gosec // see above
		},
		// scripts returns the texts of home.js in JSON.
		"scripts": func() (string, error) {
			texts := map[string]string{}
			for key, text := range c.Texts {
				if name, ok := strings.CutPrefix(key, "script "); ok {
					texts[name] = text
				}
			}
			raw, err := json.Marshal(texts)
			return string(raw), err
		},
	}
}

// Draw renders the template called name, which is a page or a part of one, in the first of languages that
// there is. These are as in Accept-Language.
func (a *Admin) Draw(w io.Writer, languages, name string, data any) error {
	return a.pages[strings.ToLower(choose(adminCatalogues(), languages).Code)].ExecuteTemplate(w, name, data)
}
