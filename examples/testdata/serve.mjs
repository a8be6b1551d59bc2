// Serves an example on a free loopback port and prints its address: node serve.mjs NAME.
import { createServer } from "node:http";

const name = process.argv[2];
const example = await import(`../${name}.mjs`);

// answerOf calls the example through its framework.
async function answerOf(request) {
  if (new URL(request.url).pathname !== "/manage-subscriptions") return new Response("Not found", { status: 404 });
  if (example[request.method]) return example[request.method](request);
  const { createStaticHandler } = await import("react-router");
  const routes = [{ path: "/manage-subscriptions", loader: example.loader }];
  return createStaticHandler(routes).queryRoute(request, { requestContext: { env: process.env } });
}

const server = example.app
  ? createServer(example.app)
  : createServer(async (incoming, outgoing) => {
      const request = new Request(`http://${incoming.headers.host}${incoming.url}`, { method: incoming.method, headers: incoming.headers });
      const answer = await answerOf(request);
      outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
      outgoing.end(await answer.text());
    });
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
