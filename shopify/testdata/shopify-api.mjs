// Reads {"secret", "now", "queries"} as JSON from the standard input and writes, for each query, what
// @shopify/shopify-api says of it: "" if it takes it, else why not; and whether its order of the names
// (localeCompare) is another than that of the signed pairs.
import '@shopify/shopify-api/adapters/node';
import {readFileSync} from 'node:fs';
import {ApiVersion, shopifyApi} from '@shopify/shopify-api';

const {secret, now, queries} = JSON.parse(readFileSync(0, 'utf8'));
Date.now = () => now * 1000;
const shopify = shopifyApi({
  apiKey: 'key', apiSecretKey: secret, hostName: 'app.example', isEmbeddedApp: true,
  apiVersion: Object.values(ApiVersion).at(-1), logger: {log: () => {}},
});

async function verdict(query) {
  try {
    const good = await shopify.utils.validateHmac(new URLSearchParams(query), {signator: 'appProxy'});
    return good ? '' : 'signature';
  } catch (error) {
    return error.message;
  }
}

// Pairs are compared by their bytes, as Ruby does.
function ordersDiffer(query) {
  const names = [...new Set([...new URLSearchParams(query).keys()])].filter((name) => name !== 'signature');
  const byBytes = names.toSorted((a, b) => Buffer.compare(Buffer.from(`${a}=`), Buffer.from(`${b}=`)));
  const byLocale = names.sort((a, b) => a.localeCompare(b));
  return byBytes.join('&') !== byLocale.join('&');
}

const answers = [];
for (const query of queries) answers.push({verdict: await verdict(query), ordersDiffer: ordersDiffer(query)});
process.stdout.write(JSON.stringify(answers));
