// The link to the store's app proxy path. No setting can make it another kind of path,
// because a setting without the right shape is ignored.

/** The merchant's settings, as named in shopify.extension.toml. */
export type Settings = { [key: string]: string | number | boolean | undefined };

const PREFIXES = ["apps", "a", "community", "tools"];
const SUBPATH = /^[A-Za-z0-9_-]{1,30}$/;
const DESTINATIONS = ["overview", "schedule", "orders", "addresses", "payment-methods"];
const HOST = /^[a-z0-9-]+(\.[a-z0-9-]+)+$/i;
// Most of Shopify's tokens have the shop's host; those for the admin have its URL.
const SHOP = /^(?:https:\/\/)?([a-z0-9][a-z0-9-]*\.myshopify\.com)$/;

/**
 * Returns the shop's myshopify.com host from a session token. These targets do not
 * get the storefront's address (only those of an order do), but each token names
 * the shop, and Shopify redirects that host to the store's own domain. The token is
 * not verified, since it comes from Shopify and only decides where a link leads.
 */
export function shopHost(token: string): string | undefined {
  try {
    const [, payload = ""] = token.replace(/-/g, "+").replace(/_/g, "/").split(".");
    return SHOP.exec(JSON.parse(atob(payload)).dest)?.[1];
  } catch {
    return undefined;
  }
}

/** Returns the link to the portal, or undefined if the store is not known. */
export function portalLink(shop: string | undefined, settings: Settings, language: string): string | undefined {
  const host = storeHost(settings) ?? shop;
  if (!host) return undefined;
  return `https://${host}${proxyPath(settings)}${destination(settings)}?locale=${encodeURIComponent(language)}`;
}

/** Accepts a scheme or a slash, because merchants paste whole addresses. */
function storeHost(settings: Settings): string | undefined {
  const host = text(settings.store_address).replace(/^https?:\/\//i, "").replace(/\/$/, "");
  return host.length <= 253 && HOST.test(host) ? host.toLowerCase() : undefined;
}

/** Uses both settings or, if either is wrong, neither. */
function proxyPath(settings: Settings): string {
  const prefix = text(settings.proxy_prefix) || "apps";
  const subpath = text(settings.proxy_subpath) || "subscriptions";
  return PREFIXES.includes(prefix) && SUBPATH.test(subpath) ? `/${prefix}/${subpath}` : "/apps/subscriptions";
}

/** Returns "" for "subscriptions", which the path opens without a destination. */
function destination(settings: Settings): string {
  const page = text(settings.destination);
  return DESTINATIONS.includes(page) ? `/${page}` : "";
}

function text(setting: Settings[string]): string {
  return typeof setting === "string" ? setting.trim() : "";
}
