// Runs Shopify's own theme checks over the theme app extension: node extensions/theme-check.mjs
//
// Any offense fails the run, even a suggestion. The descriptions of Shopify's Liquid and settings come from the npm
// package and are not downloaded, so that the same package gives the same result everywhere.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const extension = fileURLToPath(new URL('manage-subscriptions-theme', import.meta.url));

// The checker would fetch newer copies from GitHub into the user's cache. With an empty cache and an empty source it
// uses the packaged ones. It reads these variables while it loads, so it is imported after they are set.
const empty = await mkdtemp(path.join(tmpdir(), 'theme-check-'));
for (const name of ['SHOPIFY_TLD_ROOT', 'XDG_CACHE_HOME', 'HOME', 'LOCALAPPDATA']) process.env[name] = empty;

try {
  const { default: checker } = await import('@shopify/theme-check-node');
  const { theme, offenses } = await checker.themeCheckRun(extension, 'theme-check:theme-app-extension');
  const found = [...offenses.map(describe), ...(await checkBlocks(checker, theme))];
  for (const line of found) console.error(line);
  if (theme.length === 0) console.error(`${extension}: no files`);
  process.exitCode = found.length > 0 || theme.length === 0 ? 1 : 0;
  console.log(`${theme.length} files, ${found.length} offenses`);
} finally {
  await rm(empty, { recursive: true });
}

function describe({ uri, start, check, message }) {
  return `${name(uri)}:${start.line + 1}: ${check}: ${message}`;
}

function name(uri) {
  return path.relative(process.cwd(), fileURLToPath(uri));
}

// The package has no schema for an app block's {% schema %}. Its settings are those of theme blocks, which have one.
// The rest is from Shopify's page "Configure theme app extensions".
async function checkBlocks({ JSONValidator }, theme) {
  const require = createRequire(createRequire(import.meta.url).resolve('@shopify/theme-check-node'));
  const { ThemeLiquidDocsManager } = require('@shopify/theme-check-docs-updater');
  const shipped = await new ThemeLiquidDocsManager().schemas('theme');
  const settings = shipped.find(({ uri }) => uri.endsWith('/settings.json'));
  const block = {
    uri: new URL('app_block.json', settings.uri).href,
    fileMatch: ['**/blocks/*.liquid'],
    schema: JSON.stringify({
      type: 'object',
      required: ['name', 'target'],
      additionalProperties: false,
      properties: {
        name: { type: 'string' },
        target: { enum: ['section', 'head', 'compliance_head', 'body'] },
        stylesheet: { type: 'string' },
        javascript: { type: 'string' },
        settings: { $ref: './settings.json' },
      },
    }),
  };
  const validator = new JSONValidator([...shipped.map(({ uri, schema }) => ({ uri, schema })), block]);

  const found = [];
  for (const { uri } of theme.filter(({ uri }) => uri.includes('/blocks/'))) {
    const source = await readFile(fileURLToPath(uri), 'utf8');
    const parts = /^([^]*{%-?\s*schema\s*-?%})([^]*){%-?\s*endschema/.exec(source);
    if (!parts) continue; // the checker reports that
    const [, before, schema] = parts;
    for (const { message, startIndex } of await validator.validate(uri, schema)) {
      const line = (before + schema.slice(0, startIndex)).split('\n').length;
      found.push(`${name(uri)}:${line}: AppBlockSchema: ${message}`);
    }
  }
  return found;
}
