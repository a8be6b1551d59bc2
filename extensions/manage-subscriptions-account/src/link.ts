// The link to the store's app proxy path. No setting can make it another kind of path,
// because a setting without the right shape is ignored.

/** The merchant's settings, as named in shopify.extension.toml. */
export type Settings = { [key: string]: string | number | boolean | undefined };

const HOST = /^(?:[a-z0-9-]+\.)+[a-z0-9-]+$/;
const ADDRESS = /^(?:https:\/\/([^/]{1,253}))?(\/(?:apps|a|community|tools)\/[A-Za-z0-9_-]{1,30})\/?$/;
// The shape of the choices in shopify.extension.toml. The server opens the default page for a name that it
// does not know.
const DESTINATION = /^[a-z]+(?:[-/][a-z]+)*$/;
const COUNTRY = /^[A-Z]{2}$/;
// Most of Shopify's tokens have the shop's host; those for the admin have its URL.
const SHOP = /^(?:https:\/\/)?([a-z0-9][a-z0-9-]*\.myshopify\.com)$/;

/**
 * Returns the shop's myshopify.com host from a session token, for the pages whose API
 * does not have the shop. Shopify redirects that host to the store's own domain. The
 * token is not verified, since it comes from Shopify and only decides where a link leads.
 */
export async function hostFromToken(token: { get(): Promise<string> }): Promise<string | undefined> {
  try {
    const [, payload = ""] = (await token.get()).replace(/-/g, "+").replace(/_/g, "/").split(".");
    return SHOP.exec(JSON.parse(atob(payload)).dest)?.[1];
  } catch {
    return undefined;
  }
}

/** Returns the host of the store's own domain, or else its myshopify.com host. */
export function hostOf(shop: { storefrontUrl?: string; myshopifyDomain: string }): string | undefined {
  const host = /^https:\/\/([^/]+)\/?/.exec(shop.storefrontUrl ?? "")?.[1] ?? "";
  return [host, shop.myshopifyDomain].find((name) => HOST.test(name));
}

/**
 * Returns the link to the portal, or undefined if the store is not known. Recharge may need a minute to
 * know a new order. If the shopper has just ordered, the server's page says so first.
 */
export function portalLink(
  store: string | undefined, settings: Settings, language: string, country: string | undefined,
  justOrdered = false,
): string | undefined {
  const address = linkAddress(store, settings);
  if (!address) return undefined;
  const market = country && COUNTRY.test(country) ? `&country=${country}` : "";
  return `${address}${destination(settings)}?locale=${encodeURIComponent(language)}${market}${justOrdered ? "&ms_ordered=1" : ""}`;
}

/** Returns the address that the merchant has pasted, or the path alone on the store's own host. */
function linkAddress(store: string | undefined, settings: Settings): string | undefined {
  const [, pasted = "", path = ""] = ADDRESS.exec(text(settings, "link_address")) ?? [];
  const host = pasted.toLowerCase();
  if (HOST.test(host)) return `https://${host}${path}`;
  return store && `https://${store}${(!host && path) || "/apps/subscriptions"}`;
}

/** Returns "" for "subscriptions", which the path opens without a destination. */
function destination(settings: Settings): string {
  const page = text(settings, "destination");
  return DESTINATION.test(page) && page !== "subscriptions" ? `/${page}` : "";
}

/** Returns a setting as text without spaces around it, "" if it is not set. */
export function text(settings: Settings, key: string): string {
  const value = settings[key];
  return typeof value === "string" ? value.trim() : "";
}
