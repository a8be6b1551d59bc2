package templates

import (
	"strings"
	"testing"
)

func TestPagesNameTheNextStep(t *testing.T) {
	pages, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	page := Page{RequestID: "abc123", Path: "/apps/subscriptions/orders?locale=fr", SignIn: "/customer_authentication/login?return_to=x"}
	for name, want := range map[string][]string{
		"sign_in_failed":   {page.RequestID, page.SignIn, "mailto:"},
		"not_a_subscriber": {page.RequestID, page.Path, "{{ routes.all_products_collection_url }}", "mailto:"},
		"unavailable":      {page.RequestID, page.Path, "mailto:"},
		"not_connected":    {page.RequestID, "{{ routes.root_url }}", "mailto:"},
	} {
		body, err := pages.Liquid(name, page)
		if err != nil {
			t.Errorf("Liquid(%q): %v", name, err)
		}
		for _, part := range want {
			if !strings.Contains(string(body), part) {
				t.Errorf("Liquid(%q) = %s; want %q in it", name, body, part)
			}
		}
	}
	if _, err := pages.Liquid("nonsense", page); err == nil {
		t.Error("Liquid(nonsense) = nil; want an error")
	}
}

// TestInputIsInert: whatever reaches a page is neither HTML nor Liquid there.
func TestInputIsInert(t *testing.T) {
	pages, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	attack := `"><script>alert(1)</script>{{ shop.email }}{% layout none %}{{{{ javascript:alert(1)`
	for _, name := range []string{"sign_in_failed", "not_a_subscriber", "unavailable", "not_connected"} {
		clean, err := pages.Liquid(name, Page{})
		if err != nil {
			t.Fatal(err)
		}
		body, err := pages.Liquid(name, Page{RequestID: attack, Path: attack, SignIn: attack})
		if err != nil {
			t.Fatal(err)
		}
		for _, opening := range []string{"<script", "{{", "{%", `href="javascript:`} {
			if got, want := strings.Count(string(body), opening), strings.Count(string(clean), opening); got != want {
				t.Errorf("Liquid(%q) has %q %d times; want the page's own %d:\n%s", name, opening, got, want, body)
			}
		}
	}
}

func TestForwardCannotBeBrokenOutOf(t *testing.T) {
	pages, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	body, err := pages.Forward(`https://portal.example/a?token=1&b="><script>alert(1)</script>`)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "<script") || strings.Count(string(body), "https://portal.example/a?token=1") != 2 {
		t.Errorf("Forward = %s; want the target twice, and no script", body)
	}
	if body, err := pages.Forward("javascript:alert(1)"); err != nil || strings.Contains(string(body), `href="javascript:`) {
		t.Errorf("Forward(javascript:) = %s, %v; want no such link", body, err)
	}
}
