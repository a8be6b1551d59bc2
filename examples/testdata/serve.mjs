// Calls hydrogen.mjs or nextjs.mjs as its framework would, so that it can be tried without the framework.
import { forNode, serve, settings } from "../demo.mjs";

const page = "/manage-subscriptions";
const { GET, loader } = await import(`../${process.argv[2]}.mjs`);
const env = settings("PORTAL_URL", "PORTAL_API_KEY", ...(loader ? ["SHOP"] : []));

async function load(request) {
  const { createStaticHandler } = await import("react-router");
  return createStaticHandler([{ path: page, loader }]).queryRoute(request, { requestContext: { env } });
}

const respond = (request) => {
  if (new URL(request.url).pathname !== page) return new Response("Your own storefront has a page here.", { status: 404 });
  return (GET ?? load)(request);
};
serve(forNode(respond), page);
