// The same warm click in a Node app. Shopify's own library checks the signature, Redis
// has the link, and the answer redirects the browser.
import '@shopify/shopify-api/adapters/node';
import { shopifyApi } from '@shopify/shopify-api';
import express from 'express';
import Redis from 'ioredis';

const { PORT, REDIS_PORT, SECRET } = process.env;
const shopify = shopifyApi({ apiKey: 'bench', apiSecretKey: SECRET, hostName: 'bench.example', apiVersion: '2026-01', isEmbeddedApp: false, logger: { level: 0 } });
const redis = new Redis(Number(REDIS_PORT), '127.0.0.1');
const app = express();
app.disable('x-powered-by');
app.disable('etag');

app.get('/apps/subscriptions', async (request, response) => {
  let genuine = false;
  try {
    genuine = await shopify.utils.validateHmac(request.query, { signator: 'appProxy' });
  } catch { /* no signature, or too old */ }
  const link = genuine && await redis.get('bench:' + request.query.logged_in_customer_id);
  if (!link) return response.sendStatus(403);
  response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer', Location: link });
  response.status(302).end();
});

const server = app.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
process.stdin.on('end', () => { server.close(); process.exit(0); }).resume();
