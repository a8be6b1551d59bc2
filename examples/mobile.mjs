// A mobile app's own server. The app signs its user in with Shopify's Customer Account API and posts that access token
// here as "Authorization: Bearer …". It opens the url of the answer at once, in a browser tab. Only Shopify can tell
// whose token it is, so ask it. STORE_URL (https://www.brand.example), PORTAL_URL and PORTAL_API_KEY are in the
// environment. Next.js, Hono and Workers call this as a handler.
let api; // the address of the store's Customer Account API, never one that the app sends

async function customerOf(token) {
  api ??= (await answerTo(`${process.env.STORE_URL}/.well-known/customer-account-api`)).body.graphql_api;
  const { status, body } = await answerTo(api, token, { query: "{ customer { id } }" });
  if (status === 401) return null; // expired, revoked or another store's: the app signs in again
  if (!body.data?.customer) throw new Error(`Shopify answered ${status}`);
  return body.data.customer.id;
}

export async function POST(request) {
  const token = request.headers.get("Authorization")?.replace(/^Bearer /, "");
  try {
    const customer = token && (await customerOf(token));
    if (!customer) return answer(401, { error: "sign_in" });
    const key = `Bearer ${process.env.PORTAL_API_KEY}`;
    const link = await answerTo(`${process.env.PORTAL_URL}/api/portal-links`, key, { shopify_customer_id: customer });
    if (link.status === 200) return answer(200, { url: link.body.url });
    if (link.status === 404) return answer(404, { error: "no_subscriptions" });
    throw new Error(link.body.detail);
  } catch (error) {
    console.error("no portal link:", error.message);
    return answer(503, { error: "try_again" });
  }
}

async function answerTo(url, authorization, body) {
  const headers = { "Content-Type": "application/json", ...(authorization && { Authorization: authorization }) };
  const options = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) };
  const response = await fetch(url, { ...options, signal: AbortSignal.timeout(10_000) });
  return { status: response.status, body: await response.json().catch(() => ({})) };
}

const answer = (status, body) => Response.json(body, { status, headers: { "Cache-Control": "no-store" } });
