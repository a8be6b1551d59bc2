package shopifytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

const english = "en"

// A Block is an app block that the merchant has placed, or an app embed that the merchant has turned on.
type Block struct {
	ID   string // block.id in Liquid
	Name string // file name under blocks/, without ".liquid"
	// Page is where an app block stands: "/", in a section under the hero, or "/account", below the first card.
	Page string
	// Settings are the merchant's values by setting ID. The others have the defaults of the block's schema.
	Settings map[string]any
}

// A schema is the content of a block's {% schema %}.
type schema struct {
	Target     string    `json:"target"`
	Stylesheet string    `json:"stylesheet"`
	Javascript string    `json:"javascript"`
	Settings   []setting `json:"settings"`
}

type setting struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	Default any    `json:"default"`
	Options []struct {
		Value string `json:"value"`
	} `json:"options"`
}

var schemaTag = regexp.MustCompile(`(?s)\{%-?\s*schema\s*-?%\}(.*?)\{%-?\s*endschema\s*-?%\}`)

// checkExtension reports blocks that cannot be drawn, so that a typo does not look like an empty page.
func checkExtension(opts Options) error {
	if opts.Extension == nil {
		if len(opts.Blocks)+len(opts.Embeds) > 0 {
			return errors.New("Options has Blocks or Embeds, but no Extension")
		}
		return nil
	}
	for _, b := range opts.Blocks {
		if b.Page != "/" && b.Page != "/account" {
			return fmt.Errorf("block %q: no page %q has room for blocks", b.ID, b.Page)
		}
		if err := checkBlock(opts.Extension, b, "section"); err != nil {
			return err
		}
	}
	for _, b := range opts.Embeds {
		if err := checkBlock(opts.Extension, b, "head", "body"); err != nil {
			return err
		}
	}
	_, err := readLocales(opts.Extension, english)
	return err
}

func checkBlock(extension fs.FS, b Block, targets ...string) error {
	_, about, err := readBlock(extension, b.Name)
	if err != nil {
		return fmt.Errorf("block %q: %w", b.ID, err)
	}
	if !slices.Contains(targets, about.Target) {
		want := strings.Join(targets, " or ")
		return fmt.Errorf("block %q: the target of blocks/%s.liquid is %q; want %s", b.ID, b.Name, about.Target, want)
	}
	for id := range b.Settings {
		if !slices.ContainsFunc(about.Settings, func(s setting) bool { return s.ID == id }) {
			return fmt.Errorf("block %q: blocks/%s.liquid has no setting %q", b.ID, b.Name, id)
		}
	}
	return nil
}

func readBlock(extension fs.FS, name string) (source []byte, about schema, err error) {
	file := "blocks/" + name + ".liquid"
	source, err = fs.ReadFile(extension, file)
	if err != nil {
		return nil, schema{}, err
	}
	m := schemaTag.FindSubmatch(source)
	if m == nil {
		return nil, schema{}, fmt.Errorf("%s has no schema", file)
	}
	if err := json.Unmarshal(m[1], &about); err != nil {
		return nil, schema{}, fmt.Errorf("schema of %s: %w", file, err)
	}
	return source, about, nil
}

// values returns block.settings: the merchant's values, or else the defaults.
func (s schema) values(set map[string]any) map[string]any {
	got := map[string]any{}
	for _, one := range s.Settings {
		if one.ID == "" { // a heading in the editor has no value
			continue
		}
		got[one.ID] = one.initial()
		if value, ok := set[one.ID]; ok {
			got[one.ID] = value
		}
	}
	return got
}

// initial returns the value of a setting that the merchant has not changed.
func (s setting) initial() any {
	if s.Default != nil {
		return s.Default
	}
	switch s.Type {
	case "checkbox":
		return false
	case "text", "textarea":
		return ""
	case "select", "radio":
		if len(s.Options) > 0 {
			return s.Options[0].Value
		}
	}
	return nil
}

// locales are the texts for a locale, in the order of choice: its own, its language's, the extension's default.
type locales []map[string]any

func readLocales(extension fs.FS, locale string) (locales, error) {
	language, _, _ := strings.Cut(locale, "-")
	var got locales
	for _, name := range []string{locale, language, english + ".default"} {
		source, err := fs.ReadFile(extension, "locales/"+name+".json")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var texts map[string]any
		if err := json.Unmarshal(source, &texts); err != nil {
			return nil, fmt.Errorf("locales/%s.json: %w", name, err)
		}
		got = append(got, texts)
	}
	return got, nil
}

func (l locales) find(key string) (string, bool) {
	for _, texts := range l {
		var at any = texts
		for part := range strings.SplitSeq(key, ".") {
			group, _ := at.(map[string]any)
			at = group[part]
		}
		if text, ok := at.(string); ok {
			return text, true
		}
	}
	return "", false
}
