package shopify_test

import (
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/shopify"
)

// TestPlatform checks the addresses of the zero value, and that an emulator replaces all of them.
func TestPlatform(t *testing.T) {
	const shop = shopify.Shop("some-shop.myshopify.com")
	real := shopify.Platform{}
	emulated := shopify.Platform{
		Admins: map[shopify.Shop]string{shop: "http://admin.test/some-shop"},
		Shops:  map[shopify.Shop]string{shop: "http://shop.test/some-shop", "": "http://other.test"},
		CDN:    "http://cdn.test",
	}
	for _, test := range []struct{ name, got, want string }{
		{"Handle", shop.Handle(), "some-shop"},
		{"AdminURL", real.AdminURL(shop), "https://admin.shopify.com"},
		{"ShopURL", real.ShopURL(shop), "https://some-shop.myshopify.com"},
		{"Scripts", real.Scripts(), "https://cdn.shopify.com/shopifycloud/"},
		{"AppBridge", real.AppBridge(), "https://cdn.shopify.com/shopifycloud/app-bridge.js"},
		{"Polaris", real.Polaris("2"), "https://cdn.shopify.com/shopifycloud/polaris-2.js"},
		{"FrameAncestors", real.FrameAncestors(shop), "https://some-shop.myshopify.com https://admin.shopify.com"},
		{"InstallLink", real.InstallLink(shop, "i&d"), "https://admin.shopify.com/store/some-shop/oauth/install?client_id=i%26d"},
		{"AddBlock", real.AddBlock(shop, "id", "block"), "https://some-shop.myshopify.com/admin/themes/current/editor?addAppBlockId=id%2Fblock&target=newAppsSection&template=index"},
		{"TurnOnEmbed", real.TurnOnEmbed(shop, "id", "embed"), "https://some-shop.myshopify.com/admin/themes/current/editor?activateAppId=id%2Fembed&context=apps"},
		{"emulated AdminURL", emulated.AdminURL(shop), "http://admin.test/some-shop"},
		{"emulated ShopURL", emulated.ShopURL(shop), "http://shop.test/some-shop"},
		{"another ShopURL", emulated.ShopURL("other.myshopify.com"), "http://other.test"},
		{"another AdminURL", emulated.AdminURL("other.myshopify.com"), "https://admin.shopify.com"},
		{"emulated AppBridge", emulated.AppBridge(), "http://cdn.test/shopifycloud/app-bridge.js"},
		{"emulated Polaris", emulated.Polaris("2"), "http://cdn.test/shopifycloud/polaris-2.js"},
		{"emulated FrameAncestors", emulated.FrameAncestors(shop), "http://shop.test/some-shop http://admin.test/some-shop"},
		{"emulated InstallLink", emulated.InstallLink(shop, "id"), "http://admin.test/some-shop/store/some-shop/oauth/install?client_id=id"},
		{"emulated AddBlock", emulated.AddBlock(shop, "id", "a&b"), "http://shop.test/some-shop/admin/themes/current/editor?addAppBlockId=id%2Fa%26b&target=newAppsSection&template=index"},
	} {
		if test.got != test.want {
			t.Errorf("%s = %q; want %q", test.name, test.got, test.want)
		}
	}
}
