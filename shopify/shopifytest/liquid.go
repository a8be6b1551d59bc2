package shopifytest

import (
	"errors"
	"fmt"
	"html/template"
	"strings"

	"github.com/osteele/liquid"
	"github.com/osteele/liquid/render"
)

// draw renders an app's Liquid into a whole page. As at Shopify, an output tag does not escape by itself: the app has to
// say {{ customer.first_name | escape }}, and one that forgets shows it here too.
func (s *Server) draw(v visit, source []byte) ([]byte, error) {
	bare := false
	engine := liquid.NewEngine()
	// {% layout none %} is only known while the body is drawn, so each page has an engine of its own.
	engine.RegisterTag("layout", func(c render.Context) (string, error) {
		if name := strings.Trim(strings.TrimSpace(c.TagArgs()), `'"`); name != "none" {
			return "", fmt.Errorf("layout %q: this theme has no layout but its own and none", name)
		}
		bare = true
		return "", nil
	})
	// The library's include would read this machine's files.
	engine.RegisterTag("include", func(render.Context) (string, error) {
		return "", errors.New("include: this theme has no snippets")
	})

	body, err := engine.ParseAndRender(source, s.bindings(v))
	if err != nil {
		return nil, err
	}
	if bare {
		return body, nil
	}
	return s.layout(v, s.opts.Name, template.HTML(body)) // the app's own HTML, as Shopify takes it
}

// bindings are the objects that a Liquid page can use.
func (s *Server) bindings(v visit) liquid.Bindings {
	r := s.routes(v)
	return liquid.Bindings{
		"shop": map[string]any{
			"name":             s.opts.Name,
			"email":            s.opts.Email,
			"permanent_domain": s.opts.Shop,
		},
		"customer": customer(v.shopper),
		"request": map[string]any{
			"path":   v.full,
			"locale": map[string]any{"iso_code": v.locale},
		},
		"routes": map[string]any{
			"root_url":                    r.Root,
			"account_url":                 r.Account,
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
