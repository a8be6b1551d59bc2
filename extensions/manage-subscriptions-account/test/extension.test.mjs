// Runs the bundle that Shopify would run, in a context with only what Shopify gives
// an extension, so a bundle that calls fetch fails here. The API is Shopify's own
// fake, which rejects anything that a target does not really have.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import vm from "node:vm";
import { getExtension } from "@shopify/ui-extensions-tester";
import { parseHTML } from "linkedom";
import { bundle, compressed, config, LIMIT, root } from "../build.mjs";

const script = await bundle();
const [{ targeting, settings }] = config.extensions;
const targets = targeting.map(({ target }) => target);
const unset = Object.fromEntries(settings.fields.map(({ key }) => [key, undefined]));
const english = locale("en.default.json");

const SHOP = "https://brand.myshopify.com";
const PLAIN = `${SHOP}/apps/subscriptions?locale=en`;

function locale(file) {
  return JSON.parse(readFileSync(join(root, "locales", file), "utf8"));
}

function token(claims) {
  return ["{}", JSON.stringify(claims), "signature"].map((part) => Buffer.from(part).toString("base64url")).join(".");
}

/** Renders one target and returns what a shopper would see, or null for nothing. */
async function draw(target, { set = {}, language = "en", strings = english, sessionToken } = {}) {
  const { document } = parseHTML("<body></body>");
  globalThis.document = document; // tearDown clears it
  const extension = getExtension(target, { configSearchDir: root });
  extension.setUp();
  try {
    const api = extension.shopify;
    // The fake rejects unknown settings, so reading one that is not in the configuration fails.
    api.settings.value = { ...unset, ...set };
    api.localization.language.value = { isoCode: language };
    api.i18n.translate = (key) => strings[key];
    api.sessionToken.get = sessionToken ?? (async () => token({ dest: "brand.myshopify.com" }));

    const registered = new Map();
    const extend = (name, run) => registered.set(name, run);
    const shopify = new Proxy(api, { get: (fake, name) => (name === "extend" ? extend : fake[name]) });
    vm.runInNewContext(script, { shopify, document, atob, setTimeout });
    assert.deepEqual([...registered.keys()], targets);
    await registered.get(target)();

    if (!document.body.firstChild) return null;
    const links = document.querySelectorAll("[href]");
    assert.equal(links.length, 1);
    return {
      heading: document.querySelector("s-section").getAttribute("heading"),
      text: document.querySelector("s-paragraph").textContent,
      manage: links[0].textContent,
      href: links[0].getAttribute("href"),
      opens: links[0].getAttribute("target"),
    };
  } finally {
    extension.tearDown();
  }
}

after(() => delete globalThis.document);

const long = "x".repeat(10_000);

const links = [
  { name: "plain", want: PLAIN },
  { name: "renamed proxy", set: { proxy_prefix: "tools", proxy_subpath: "My_abo-2" }, want: `${SHOP}/tools/My_abo-2?locale=en` },
  { name: "renamed prefix alone", set: { proxy_prefix: "a" }, want: `${SHOP}/a/subscriptions?locale=en` },
  { name: "destination", set: { destination: "payment-methods" }, want: `${SHOP}/apps/subscriptions/payment-methods?locale=en` },
  { name: "the default destination", set: { destination: "subscriptions" }, want: PLAIN },
  { name: "locale with a region", language: "pt-BR", want: `${SHOP}/apps/subscriptions?locale=pt-BR` },
  { name: "store address", set: { store_address: "www.brand.example" }, want: "https://www.brand.example/apps/subscriptions?locale=en" },
  { name: "store address as pasted", set: { store_address: " https://WWW.Brand.example/ " }, want: "https://www.brand.example/apps/subscriptions?locale=en" },
  { name: "shop named by its address", sessionToken: async () => token({ dest: SHOP }), want: PLAIN },
  { name: "longest subpath", set: { proxy_subpath: "x".repeat(30) }, want: `${SHOP}/apps/${"x".repeat(30)}?locale=en` },
  { name: "too long a subpath", set: { proxy_subpath: "x".repeat(31) }, want: PLAIN },
  { name: "unknown prefix", set: { proxy_prefix: "pages", proxy_subpath: "abo" }, want: PLAIN },
  { name: "settings of another type", set: { proxy_prefix: true, proxy_subpath: 7, destination: 1.5, store_address: false }, want: PLAIN },
];

for (const target of targets) {
  for (const { name, want, ...given } of links) {
    test(`${target}: ${name}`, async () => {
      assert.deepEqual(await draw(target, given), { ...english, href: want, opens: null });
    });
  }
}

const hostile = [
  "../../x", "..", ".", "/", "\\evil.example", "//evil.example", "@evil.example", "evil.example", "evil.example@x", "https://evil.example",
  "javascript:alert(1)", "data:text/html,x", "abo?x=1", "abo#x", "abo/../../x", "%2e%2e%2f", "a b", "a\nb", "\u202eabo", "аbo",
  '"><script>alert(1)</script>', "'", "`", "{{ shop }}", "constructor", "__proto__", long,
];

for (const key of ["proxy_prefix", "proxy_subpath", "destination"]) {
  test(`hostile ${key} stays on the store's proxy path`, async () => {
    for (const value of hostile) {
      const { href } = await draw(targets[0], { set: { [key]: value } });
      assert.match(href, /^https:\/\/brand\.myshopify\.com\/(apps|a|community|tools)\/[\w-]{1,30}(\/[a-z-]+)?\?locale=en$/, `${key}=${value}`);
      assert.equal(new URL(href).href, href, `${key}=${value}`);
    }
  });
}

test("hostile store_address counts as not set", async () => {
  // A bare host name is a valid value.
  for (const value of hostile.filter((value) => !/^(https:\/\/)?evil\.example$/.test(value))) {
    assert.equal((await draw(targets[0], { set: { store_address: value } })).href, PLAIN, value);
  }
  for (const value of ["brand.example:8443", "brand.example/path", "user@brand.example", "http:brand.example", "ftp://brand.example", `${long}.example`]) {
    assert.equal((await draw(targets[0], { set: { store_address: value } })).href, PLAIN, value);
  }
});

test("a hostile language stays in its parameter", async () => {
  for (const language of ["en&return_to=//evil.example", "en#x", "../x", '"'])  {
    const url = new URL((await draw(targets[0], { language })).href);
    assert.equal(url.origin + url.pathname, `${SHOP}/apps/subscriptions`);
    assert.deepEqual([...url.searchParams], [["locale", language]]);
    assert.equal(url.hash, "");
  }
});

const tokens = [
  ["no token", async () => { throw new Error("offline"); }],
  ["not a token", async () => "mock-session-token"],
  ["empty token", async () => ""],
  ["no shop in it", async () => token({})],
  ["not an object", async () => token(null)],
  ["another host", async () => token({ dest: "evil.example" })],
  ["a shop and more", async () => token({ dest: "brand.myshopify.com.evil.example" })],
  ["a path", async () => token({ dest: "brand.myshopify.com/x" })],
  ["several", async () => token({ dest: ["brand.myshopify.com", "b"] })],
];

for (const [name, sessionToken] of tokens) {
  test(`store not known (${name}): nothing, unless the merchant named it`, async () => {
    assert.equal(await draw(targets[0], { sessionToken }), null);
    const seen = await draw(targets[0], { sessionToken, set: { store_address: "brand.example" } });
    assert.equal(seen.href, "https://brand.example/apps/subscriptions?locale=en");
  });
}

test("each target has its own module", () => {
  assert.deepEqual(targets, ["customer-account.profile.block.render", "customer-account.order-index.block.render"]);
  const modules = targeting.map(({ module }) => module);
  assert.equal(new Set(modules).size, modules.length);
  for (const module of modules) assert.ok(existsSync(join(root, module)), module);
});

test("the extension asks for no capability", () => {
  assert.equal(config.extensions[0].capabilities, undefined);
});

const LANGUAGES = "ar cs da de en.default es fi fr he it ja ko nb nl pl pt-BR pt-PT sv th tr vi zh-CN zh-TW";

test("locales are complete, and every string is used", async () => {
  assert.deepEqual(readdirSync(join(root, "locales")).sort(), LANGUAGES.split(" ").map((code) => `${code}.json`).sort());
  for (const file of readdirSync(join(root, "locales"))) {
    const strings = locale(file);
    assert.deepEqual(Object.keys(strings), ["heading", "text", "manage"], file);
    for (const string of Object.values(strings)) assert.ok(string.trim(), file);
    const { href, opens, ...seen } = await draw(targets[1], { strings });
    assert.deepEqual(seen, strings, file);
  }
});

test("the bundle is within Shopify's limit", () => {
  const size = compressed(script);
  assert.ok(size <= LIMIT, `${size} bytes`);
});
