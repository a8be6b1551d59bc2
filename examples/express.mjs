// Express: the account page, with a link that is signed while the page is rendered. With PORTAL_URL, PORTAL_API_KEY
// and SHOP (my-store.myshopify.com) in the environment, and Express installed (`npm ci`), run it:
// `node examples/express.mjs`
import { createHash, createHmac, randomBytes } from "node:crypto";
import express from "express";
import { customerOf, serve, settings } from "./demo.mjs"; // replace customerOf with your own session

const { PORTAL_URL, PORTAL_API_KEY, SHOP } = settings("PORTAL_URL", "PORTAL_API_KEY", "SHOP");
const secret = createHash("sha256").update(PORTAL_API_KEY).digest();

// customer is Shopify's id, or "recharge:" and Recharge's. Never take it from the browser.
function signedLink(customer, destination = "", locale = "") {
  const expires = String(Math.floor(Date.now() / 1000) + 240);
  const nonce = randomBytes(16).toString("hex");
  const signed = ["manage-subscriptions/go/1", SHOP, customer, destination, locale, expires, nonce];
  const text = signed.map((value) => `${Buffer.byteLength(value)}:${value},`).join("");
  const signature = createHmac("sha256", secret).update(text).digest("hex");
  const query = { shop: SHOP, customer, destination, locale, expires, nonce, signature };
  return `${PORTAL_URL}/go?${new URLSearchParams(query)}`;
}

const app = express();

app.get("/account", (request, response) => {
  const customer = customerOf(request.headers.cookie);
  if (!customer) return response.redirect("/login");
  const link = signedLink(customer).replaceAll("&", "&amp;");
  response.set("Cache-Control", "no-store"); // the link is for this shopper only
  response.send(`<h1>My account</h1><a id="manage" href="${link}">Manage subscriptions</a>`);
});

serve(app, "/account"); // yours: app.listen(…)
