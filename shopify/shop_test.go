package shopify_test

import (
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
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

func TestShopOfHandle(t *testing.T) {
	shop, err := shopify.ShopOfHandle("fixture-shop")
	if err != nil || shop != "fixture-shop.myshopify.com" || shop.Handle() != "fixture-shop" {
		t.Errorf("ShopOfHandle = %q, %v, whose handle is %q", shop, err, shop.Handle())
	}
	for _, handle := range []string{"", "a.b", "evil.example/a", "Fixture"} {
		if shop, err := shopify.ShopOfHandle(handle); err == nil {
			t.Errorf("ShopOfHandle(%q) = %q; want an error", handle, shop)
		}
	}
}

func TestParseCustomerID(t *testing.T) {
	for in, want := range map[string]bool{
		"1": true, "6100200300400": true, strings.Repeat("9", 20): true,
		"": false, "0": false, "0123": false, strings.Repeat("9", 21): false,
		"12a": false, " 12": false, "12\n": false, "-1": false, "1e3": false, "\u0661": false, "gid://shopify/Customer/1": false,
	} {
		got, err := shopify.ParseCustomerID(in)
		if ok := err == nil; ok != want || want && got != shopify.CustomerID(in) || !want && got != "" {
			t.Errorf("ParseCustomerID(%q) = %q, %v; want it taken: %t", in, got, err, want)
		}
	}
}
