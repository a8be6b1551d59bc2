// Next.js: a route handler that requests the link when the shopper clicks. Save it as
// app/manage-subscriptions/route.js, and use <a href="/manage-subscriptions">, not next/link,
// which prefetches. PORTAL_URL and PORTAL_API_KEY are in the environment. It cannot start alone. To
// call it as Next.js does, without an app around it: `node examples/testdata/serve.mjs nextjs`
import { customerOf } from "./demo.mjs"; // replace it with your own session

export const dynamic = "force-dynamic";

export async function GET(request) {
  // Shopify's id, or "recharge:" and Recharge's. Never use one that the browser sends.
  const customer = customerOf(request.headers.get("Cookie"));
  if (!customer) return redirect("/login");
  const [, recharge] = customer.split("recharge:");
  const response = await fetch(`${process.env.PORTAL_URL}/api/portal-links`, {
    method: "POST",
    headers: { Authorization: `Bearer ${process.env.PORTAL_API_KEY}`, "Content-Type": "application/json" },
    body: JSON.stringify(recharge ? { recharge_customer_id: Number(recharge) } : { shopify_customer_id: customer }),
    cache: "no-store",
    signal: AbortSignal.timeout(10_000),
  }).catch(() => null);
  if (response?.ok) return redirect((await response.json()).url);
  // 404 means that there is nothing to manage. Log any other error, which has the request's id.
  if (response?.status === 404) return redirect("/collections/subscriptions");
  console.error("no portal link", response ? await response.text() : "no answer");
  return new Response("Your subscriptions cannot be opened right now. Please try again.", { status: 503 });
}

// redirect must not be cached, because the link opens this shopper's portal.
function redirect(location) {
  return new Response(null, { status: 302, headers: { Location: location, "Cache-Control": "no-store" } });
}
