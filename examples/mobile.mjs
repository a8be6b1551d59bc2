// A mobile app's own server. The app signs its user in with Shopify's Customer Account API and posts that access token
// here as "Authorization: Bearer …". It opens the url of the answer at once, in a browser tab. Only Shopify can tell
// whose token it is, so ask it. With PORTAL_URL, PORTAL_API_KEY and STORE_URL (https://www.brand.example) in the
// environment, run it: `node examples/mobile.mjs`
import { forNode, serve, settings } from "./demo.mjs"; // only to run it alone

const { PORTAL_URL, PORTAL_API_KEY, STORE_URL } = settings("PORTAL_URL", "PORTAL_API_KEY", "STORE_URL");
let api; // the address of the store's Customer Account API, never one that the app sends

async function customerOf(token) {
  api ??= (await answerTo(`${STORE_URL}/.well-known/customer-account-api`)).body.graphql_api;
  const { status, body } = await answerTo(api, token, { query: "{ customer { id } }" });
  if (status === 401) return null; // expired, revoked or another store's: the app signs in again
  if (!body.data?.customer) throw new Error(`Shopify answered ${status}`);
  return body.data.customer.id;
}

async function POST(request) {
  const token = request.headers.get("Authorization")?.replace(/^Bearer /, "");
  const customer = token && (await customerOf(token));
  if (!customer) return answer(401, { error: "sign_in" });
  const asked = { shopify_customer_id: customer };
  const link = await answerTo(`${PORTAL_URL}/api/portal-links`, `Bearer ${PORTAL_API_KEY}`, asked);
  if (link.status === 404) return answer(404, { error: "no_subscriptions" });
  if (link.status !== 200) throw new Error(link.body.detail);
  return answer(200, { url: link.body.url });
}

async function answerTo(url, authorization, body) {
  const headers = { "Content-Type": "application/json", ...(authorization && { Authorization: authorization }) };
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) };
  const response = await fetch(url, { ...options, signal: AbortSignal.timeout(10_000) });
  return { status: response.status, body: await response.json().catch(() => ({})) };
}

const answer = (status, body) => Response.json(body, { status, headers: { "Cache-Control": "no-store" } });
const tryAgain = (error) => (console.error("no portal link:", error.message), answer(503, { error: "try_again" }));
serve(forNode((request) => POST(request).catch(tryAgain)), "/manage-subscriptions"); // yours: a handler of Next.js, Hono or Workers
