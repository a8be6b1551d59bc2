// Hydrogen and React Router: a route that signs a link when the shopper clicks. Save it as
// app/routes/manage-subscriptions.jsx, and use <Link to="/manage-subscriptions" reloadDocument>.
// It needs only Web Crypto, so it runs on Oxygen and other workers. PORTAL_URL, PORTAL_API_KEY and SHOP are in the
// environment. It cannot start alone. To call it as React Router does, without a storefront around it:
// `node examples/testdata/serve.mjs hydrogen`
import { redirect } from "react-router";
import { customerOf } from "./demo.mjs"; // replace it with your own session; in Hydrogen, use context.customerAccount

const bytes = (text) => new TextEncoder().encode(text);
const hex = (buffer) => Array.from(new Uint8Array(buffer), (b) => b.toString(16).padStart(2, "0")).join("");

// customer is Shopify's id (gid://shopify/Customer/1 is fine), or "recharge:" and Recharge's. Never
// take it from the browser.
async function signedLink({ PORTAL_URL, PORTAL_API_KEY, SHOP }, customer, options = {}) {
  const { destination = "", locale = "", country = "", returnTo = "" } = options;
  const expires = String(Math.floor(Date.now() / 1000) + 240);
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const signed = ["manage-subscriptions/go/1", SHOP, customer, destination, locale, expires, nonce];
  if (country || returnTo) signed.push(country, returnTo);
  const text = signed.map((value) => `${bytes(value).length}:${value},`).join("");
  const secret = await crypto.subtle.digest("SHA-256", bytes(PORTAL_API_KEY));
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = hex(await crypto.subtle.sign("HMAC", key, bytes(text)));
  const query = { shop: SHOP, customer, destination, locale, country, return_to: returnTo, expires, nonce, signature };
  return `${PORTAL_URL}/go?${new URLSearchParams(query)}`;
}

export async function loader({ request, context }) {
  const customer = customerOf(request.headers.get("Cookie"));
  if (!customer) return redirect("/account/login");
  const headers = { "Cache-Control": "no-store" }; // the link is for this shopper only
  return redirect(await signedLink(context.env, customer), { headers });
}
