// Checks each Shopify element (s-…) in the app home, with its attributes and their fixed values, against the
// definitions that Shopify publishes: node --test templates/admin/elements.test.mjs
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test from 'node:test';

const require = createRequire(import.meta.url);
const everywhere = /^(id|class|slot|hidden|lang|dir|role|aria-.*|data-.*)$/;

// Polaris publishes a manifest of its elements. App Bridge has its own only as TypeScript.
const elements = new Map();
for (const { declarations = [] } of require('@shopify/polaris-types/custom-elements').modules) {
  for (const { tagName, attributes = [] } of declarations) {
    if (tagName) elements.set(tagName, new Map(attributes.map(({ name, type }) => [name, type?.text ?? 'string'])));
  }
}
const bridge = readFileSync(require.resolve('@shopify/app-bridge-types').replace(/index\.\w+$/, 'index.d.ts'), 'utf8');
const properties = (name) => {
  const [, body] = bridge.match(new RegExp(`interface ${name} \\{\\n([^]*?)\\n\\}`));
  return new Map([...body.matchAll(/^\t(\w+)\??: (.*);/gm)].map(([, property, type]) => [property, type]));
};
elements.set('s-app-nav', properties('SAppNavAttributes'));
elements.set('s-app-nav s-link', properties('SAppNavLinkAttributes'));

// problems returns what Shopify does not know in a template.
function problems(html) {
  const found = [];
  let nav = '';
  for (const [tag, end, name, rest] of html.replace(/\{\{.*?\}\}/gs, '').matchAll(/<(\/?)(s-[\w-]+)([^>]*)>/g)) {
    if (name === 's-app-nav') nav = end ? '' : 's-app-nav ';
    const known = elements.get(nav + name) ?? elements.get(name);
    if (!known) found.push(`${tag}: no such element`);
    for (const [, attribute, value = ''] of rest.matchAll(/([\w-]+)(?:="([^"]*)")?/g)) {
      const type = known?.get(attribute);
      const fixed = type && /^("[^"]*"( \| )?)+$/.test(type) && !type.includes(`"${value}"`);
      if (!everywhere.test(attribute) && (!type || fixed)) found.push(`${tag}: no such attribute or value: ${attribute}`);
    }
  }
  return found;
}

test('the app home uses only what Shopify has', () => {
  let used = 0;
  for (const file of readdirSync(import.meta.dirname).filter((name) => name.endsWith('.html'))) {
    const html = readFileSync(`${import.meta.dirname}/${file}`, 'utf8');
    assert.deepEqual(problems(html), [], file);
    used += html.split('<s-').length - 1;
  }
  assert.ok(used > 10, `only ${used} elements found`);
});

test('an unknown element, attribute or value is found', () => {
  for (const wrong of [
    '<s-card>', '<s-section title="x">', '<s-page inlinesize="huge">', '<s-app-nav href="/">', '<s-link rel="home" href="/">',
    '<s-app-nav><s-link to="/">', '<s-app-nav><s-link rel="next" href="/">',
  ]) assert.equal(problems(wrong).length, 1, wrong);
  for (const right of ['<s-page inlinesize="base" id="x">', '<s-app-nav><s-link rel="home" href="{{.Base}}/">', '<s-banner dismissible>']) {
    assert.deepEqual(problems(right), [], right);
  }
});
