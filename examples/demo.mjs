// A DEMO: it lets the Node examples run alone. Anybody can sign in here as one of the sandbox's shoppers. Replace it with
// your own sessions. What must stay: the server itself remembers who has which session, and customerOf takes the
// customer from there. An id from a parameter, a form or a header would let anybody into anybody's portal.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

const shoppers = {
  Pat: "gid://shopify/Customer/6100200300400", // as in Shopify's Customer Account API
  Kim: "recharge:70100500", // a customer at Recharge only
};
const sessions = new Map(); // from a random session id to a customer

export const customerOf = (cookie) => sessions.get(/(?:^|; )session=([0-9a-f]+)/.exec(cookie ?? "")?.[1]);

// settings returns the named environment variables, and ends the program if one is missing.
export function settings(...names) {
  const missing = names.filter((name) => !process.env[name]);
  if (missing.length === 0) return process.env;
  console.error(`Set ${missing.join(", ")} in the environment. docs/headless.md explains each.`);
  process.exit(1);
}

// serve serves a handler of node:http and the demo sign-in, on this machine only, and prints the address of the page.
export function serve(handler, page) {
  const server = createServer(async (request, response) => {
    if (!request.url.endsWith("/login")) return handler(request, response);
    const shopper = request.method === "POST" && shoppers[new URLSearchParams(await text(request)).get("as")];
    if (!shopper) {
      const buttons = Object.keys(shoppers).map((name) => `<button name="as" value="${name}">${name}</button>`);
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
      return response.end(`<h1>Demo sign-in</h1><form method="post">${buttons.join(" ")}</form>`);
    }
    const session = randomBytes(16).toString("hex");
    sessions.set(session, shopper);
    response.writeHead(303, { Location: page, "Set-Cookie": `session=${session}; Path=/; HttpOnly; SameSite=Lax` }).end();
  });
  server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () =>
    console.log(`Listening on http://127.0.0.1:${server.address().port}${page}`),
  );
}

// forNode makes a handler of node:http from one that takes a Request and returns a Response.
export const forNode = (handler) => async (incoming, outgoing) => {
  const { method, headers, url } = incoming;
  const answer = await handler(new Request(new URL(url, "http://localhost"), { method, headers }));
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
};
