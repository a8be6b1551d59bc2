package shopifytest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"strings"

	"github.com/osteele/liquid"
	"github.com/osteele/liquid/render"
	"github.com/osteele/liquid/values"
)

// draw renders an app's Liquid into a whole page. As at Shopify, an output tag does not escape by itself. The
// app has to write {{ customer.first_name | escape }}, and an app that forgets it shows that here too.
func (s *Server) draw(v visit, source []byte) ([]byte, error) {
	bare := false
	engine := newEngine()
	// {% layout none %} becomes known only while the body is drawn, so each page has its own engine.
	engine.RegisterTag("layout", func(c render.Context) (string, error) {
		if name := strings.Trim(strings.TrimSpace(c.TagArgs()), `'"`); name != "none" {
			return "", fmt.Errorf("layout %q: this theme has no layout but its own and none", name)
		}
		bare = true
		return "", nil
	})

	body, err := renderLiquid(engine, "", source, s.objects(v, nil))
	if err != nil {
		return nil, err
	}
	if bare {
		return body, nil
	}
	// The title is a guess at the theme's. The content is the app's own HTML, inserted as at Shopify.
	return s.layout(s.newDrawing(v, nil), s.opts.Name, template.HTML(body))
}

// newEngine returns the engine for all Liquid. It reads no files.
func newEngine() *liquid.Engine {
	engine := liquid.NewEngine()
	// The library's include would read this machine's files.
	engine.RegisterTag("include", func(render.Context) (string, error) {
		return "", errors.New("include: this theme has no snippets")
	})
	engine.RegisterFilter("md5", func(s string) string {
		sum := md5.Sum([]byte(s))
		return hex.EncodeToString(sum[:])
	})
	engine.RegisterFilter("sha256", func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	})
	return engine
}

// renderLiquid draws one template, which may write to objects. Its errors name path, unless it is empty, and a line.
func renderLiquid(engine *liquid.Engine, path string, source []byte, objects liquid.Bindings) ([]byte, error) {
	text, err := inDialect(string(source))
	if err != nil {
		return nil, err
	}
	line := 0
	if path != "" {
		line = 1
	}
	parsed, err := parseLiquid(engine, text, path, line)
	if err != nil {
		return nil, err
	}
	page, failed := parsed.Render(objects)
	if failed != nil {
		return nil, failed
	}
	return page, nil
}

// parseLiquid returns a plain error, because the library's own error type may hold a nil.
func parseLiquid(engine *liquid.Engine, text, path string, line int) (*liquid.Template, error) {
	parsed, err := engine.ParseTemplateLocation([]byte(text), path, line)
	if err != nil {
		return nil, err
	}
	return parsed, nil
}

// objects returns what every Liquid template can use. pageType is nil on an app's page.
func (s *Server) objects(v visit, pageType any) liquid.Bindings {
	r := s.routes(v)
	return liquid.Bindings{
		"blank": blank{values.ValueOf(nil)},
		"shop": map[string]any{
			"name":             s.opts.Name,
			"email":            s.opts.Email,
			"permanent_domain": s.opts.Shop,
		},
		"customer": customer(v.shopper),
		"localization": map[string]any{
			"country":  map[string]any{"iso_code": s.opts.Country},
			"language": map[string]any{"iso_code": v.locale},
		},
		"request": map[string]any{
			"path":        v.full,
			"host":        v.host,
			"origin":      "http://" + v.host,
			"page_type":   pageType,
			"design_mode": false,
			"locale": map[string]any{
				"iso_code": v.locale,
				"primary":  v.locale == english,
				"root_url": r.Root,
			},
		},
		"routes": map[string]any{
			"root_url":                    r.Root,
			"account_url":                 r.Account,
			"account_addresses_url":       r.Addresses,
			"account_login_url":           r.AccountLogin,
			"account_logout_url":          r.Logout,
			"storefront_login_url":        r.StorefrontLogin,
			"all_products_collection_url": r.AllProducts,
		},
	}
}

func customer(shopper *Shopper) any {
	if shopper == nil {
		return nil
	}
	return map[string]any{
		"id":         shopper.ID,
		"email":      shopper.Email,
		"first_name": shopper.FirstName,
		"last_name":  shopper.LastName,
		"name":       shopper.Name(),
	}
}

// blank is Shopify's word for nil, false, and an empty text or list. It only works on the left of
// == and !=, where inDialect puts it.
type blank struct{ values.Value }

func (blank) Equal(other values.Value) bool {
	switch v := other.Interface().(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return strings.TrimSpace(v) == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
