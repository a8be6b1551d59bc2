package shopify_test

import (
	"strings"
	"testing"

	"manage-subscriptions/shopify"
)

func TestParseShop(t *testing.T) {
	tests := []struct {
		in   string
		want bool
	}{
		{"fixture-shop.myshopify.com", true},
		{"a.myshopify.com", true},
		{"0.myshopify.com", true},
		{strings.Repeat("a", 63) + ".myshopify.com", true},
		{strings.Repeat("a", 64) + ".myshopify.com", false},
		{"", false},
		{".myshopify.com", false},
		{"-a.myshopify.com", false},
		{"Fixture-shop.myshopify.com", false},
		{"fixture-shop.MYSHOPIFY.com", false},
		{"fixture-shop.myshopify.com.evil.example", false},
		{"evil.example/fixture-shop.myshopify.com", false},
		{"evil.example#fixture-shop.myshopify.com", false},
		{"user@fixture-shop.myshopify.com", false},
		{"a.b.myshopify.com", false},
		{"fixture-shopXmyshopify.com", false},
		{"fixture-shop.myshopify.com:443", false},
		{"fixture-shop.myshopify.com/", false},
		{"https://fixture-shop.myshopify.com", false},
		{"fixture_shop.myshopify.com", false},
		{"fixture-shop.myshopify.com\n", false},
		{" fixture-shop.myshopify.com", false},
		{"fixture-sh\u00f6p.myshopify.com", false},
		{"fixture-shop.myshopify.io", false},
	}
	for _, tt := range tests {
		got, err := shopify.ParseShop(tt.in)
		if ok := err == nil; ok != tt.want {
			t.Errorf("ParseShop(%q) = %q, %v; want it taken: %t", tt.in, got, err, tt.want)
		}
		want := shopify.Shop("")
		if tt.want {
			want = shopify.Shop(tt.in)
		}
		if got != want {
			t.Errorf("ParseShop(%q) = %q; want %q", tt.in, got, want)
		}
	}
}
