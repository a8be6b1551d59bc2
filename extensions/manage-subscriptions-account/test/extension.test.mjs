// Runs the bundle that Shopify would run, in a context with only what Shopify gives
// an extension, so a bundle that calls fetch fails here. The API is Shopify's own
// fake, which rejects anything that a target does not really have.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
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

// The fake accepts the API version of its own release only, and none has come out for 2026-10.
const forFake = mkdtempSync(join(tmpdir(), "extension-"));
writeFileSync(join(forFake, "shopify.extension.toml"),
  readFileSync(join(root, "shopify.extension.toml"), "utf8").replace(/^api_version = ".*"/m, 'api_version = "2026-07"'));

const PROFILE = "customer-account.profile.block.render";
const ORDER_INDEX = "customer-account.order-index.block.render";
const ORDER_STATUS = "customer-account.order-status.block.render";
const THANK_YOU = "purchase.thank-you.block.render";
const ofAccount = [PROFILE, ORDER_INDEX];
const ofOrder = [ORDER_STATUS, THANK_YOU];

const SHOP = "https://brand.myshopify.com";
const PLAIN = "/apps/subscriptions?locale=en&country=CA";

/** Returns an order's lines, with the selling plan as each target's API has it. */
const lines = {
  subscription: { [ORDER_STATUS]: [{ id: "gid://shopify/SellingPlan/1" }], [THANK_YOU]: [undefined, { id: "x", recurringDeliveries: true }] },
  once: { [ORDER_STATUS]: [undefined], [THANK_YOU]: [undefined] },
  preorder: { [THANK_YOU]: [{ id: "x", recurringDeliveries: false }] },
  none: { [ORDER_STATUS]: [], [THANK_YOU]: [] },
};

function locale(file) {
  return JSON.parse(readFileSync(join(root, "locales", file), "utf8"));
}

function token(claims) {
  return ["{}", JSON.stringify(claims), "signature"].map((part) => Buffer.from(part).toString("base64url")).join(".");
}

/** Renders one target and returns what a shopper would see, or null for nothing. */
async function draw(target, {
  set = {}, language = "en", country = "CA", strings = english, sessionToken, shop, order = "subscription", signedIn = true, editor,
} = {}) {
  const { document } = parseHTML("<body></body>");
  globalThis.document = document; // tearDown clears it
  const extension = getExtension(target, { configSearchDir: forFake });
  extension.setUp();
  try {
    const api = extension.shopify;
    // The fake rejects unknown settings, so reading one that is not in the configuration fails.
    api.settings.value = { ...unset, ...set };
    api.localization.language.value = { isoCode: language };
    api.localization.country.value = country ? { isoCode: country } : undefined;
    api.i18n.translate = (key) => strings[key];
    api.extension = { ...api.extension, editor };
    api.sessionToken.get = sessionToken ?? (async () => token({ dest: "brand.myshopify.com" }));
    if (ofOrder.includes(target)) {
      api.sessionToken.get = () => assert.fail("the page's API has the shop");
      api.shop = shop ?? { storefrontUrl: undefined, myshopifyDomain: "brand.myshopify.com" };
      api.lines.value = lines[order][target].map((sellingPlan) => ({ merchandise: { sellingPlan } }));
    }
    if (target === ORDER_STATUS) api.authenticationState.value = signedIn ? "fully_authenticated" : "pre_authenticated";

    const registered = new Map();
    const extend = (name, run) => registered.set(name, run);
    const shopify = new Proxy(api, { get: (fake, name) => (name === "extend" ? extend : fake[name]) });
    // A block that is drawn first and then removed would be seen for a moment.
    const drawn = [];
    const insert = document.body.insertBefore.bind(document.body);
    document.body.insertBefore = (node, ...at) => (drawn.push(node), insert(node, ...at));
    vm.runInNewContext(script, { shopify, document, atob, setTimeout });
    assert.deepEqual([...registered.keys()], targets);
    await registered.get(target)();

    if (!document.body.firstChild) {
      assert.deepEqual(drawn, []);
      return null;
    }
    assert.equal(drawn.length, 1);
    const links = document.querySelectorAll("[href]");
    assert.equal(links.length, 1);
    return {
      heading: document.querySelector("s-section").getAttribute("heading"),
      text: document.querySelector("s-paragraph").textContent,
      label: links[0].textContent,
      href: links[0].getAttribute("href"),
      opens: links[0].getAttribute("target"),
    };
  } finally {
    extension.tearDown();
  }
}

after(() => {
  delete globalThis.document;
  rmSync(forFake, { recursive: true });
});

const long = "x".repeat(10_000);

// Only the Thank you page knows that the order is new.
const mark = (target) => (target === THANK_YOU ? "&ms_ordered=1" : "");

const links = [
  { name: "plain", want: SHOP + PLAIN },
  { name: "no country", country: null, want: `${SHOP}/apps/subscriptions?locale=en` },
  { name: "destination", set: { destination: "payment-methods" }, want: `${SHOP}/apps/subscriptions/payment-methods?locale=en&country=CA` },
  { name: "destination of two parts", set: { destination: "payment-method/update" }, want: `${SHOP}/apps/subscriptions/payment-method/update?locale=en&country=CA` },
  { name: "the default destination", set: { destination: "subscriptions" }, want: SHOP + PLAIN },
  { name: "locale with a region", language: "pt-BR", country: "BR", want: `${SHOP}/apps/subscriptions?locale=pt-BR&country=BR` },
  { name: "link address", set: { link_address: "https://www.brand.example/tools/My_abo-2" }, want: "https://www.brand.example/tools/My_abo-2?locale=en&country=CA" },
  { name: "path alone", set: { link_address: "/tools/My_abo-2/" }, want: `${SHOP}/tools/My_abo-2?locale=en&country=CA` },
  { name: "link address as pasted", set: { link_address: " https://WWW.Brand.example/a/abo/ " }, want: "https://www.brand.example/a/abo?locale=en&country=CA" },
  { name: "link address and destination", set: { link_address: "https://b.example/community/x", destination: "orders" }, want: "https://b.example/community/x/orders?locale=en&country=CA" },
  { name: "longest subpath", set: { link_address: `https://b.example/apps/${"x".repeat(30)}` }, want: `https://b.example/apps/${"x".repeat(30)}?locale=en&country=CA` },
  { name: "too long a subpath", set: { link_address: `https://b.example/apps/${"x".repeat(31)}` }, want: SHOP + PLAIN },
  { name: "settings of another type", set: { heading: 1, text: true, label: 2.5, destination: 1.5, show_to: 3, link_address: false }, want: SHOP + PLAIN },
];

for (const target of targets) {
  for (const { name, want, ...given } of links) {
    test(`${target}: ${name}`, async () => {
      assert.deepEqual(await draw(target, given), { ...english, href: want + mark(target), opens: null });
    });
  }

  test(`${target}: the merchant's own words`, async () => {
    const own = { heading: "Your coffee", text: "Skip a delivery any time.", label: "Open" };
    const { href, opens, ...seen } = await draw(target, { set: own });
    assert.deepEqual(seen, own);
    const blank = await draw(target, { set: { heading: " ", text: "", label: "\t" } });
    assert.deepEqual(blank, { ...english, href: SHOP + PLAIN + mark(target), opens: null });
  });
}

test("shop named by its address in the token", async () => {
  for (const target of ofAccount) {
    assert.equal((await draw(target, { sessionToken: async () => token({ dest: SHOP }) })).href, SHOP + PLAIN);
  }
});

const shops = [
  { storefrontUrl: "https://www.brand.example", want: "https://www.brand.example" },
  { storefrontUrl: "https://www.brand.example/", want: "https://www.brand.example" },
  { storefrontUrl: "https://www.brand.example/fr", want: "https://www.brand.example" },
  ...["", "http://brand.example", "https://evil.example@brand.example", "https://brand.example:8443", "javascript:alert(1)", long]
    .map((storefrontUrl) => ({ storefrontUrl, want: SHOP })),
];

test("the pages of an order link to the store's own domain", async () => {
  for (const target of ofOrder) {
    for (const { storefrontUrl, want } of shops) {
      const seen = await draw(target, { shop: { storefrontUrl, myshopifyDomain: "brand.myshopify.com" } });
      assert.equal(seen.href, want + PLAIN + mark(target), storefrontUrl);
    }
    assert.equal(await draw(target, { shop: { storefrontUrl: "", myshopifyDomain: "" } }), null);
  }
});

const audiences = [
  // order, signed in, then what is shown by show_to: blank, everyone, subscription orders
  ["subscription", true, [true, true, true]],
  ["subscription", false, [true, true, true]],
  ["once", true, [true, true, false]],
  ["once", false, [false, true, false]],
  ["none", false, [false, true, false]],
];

for (const target of ofOrder) {
  for (const [order, signedIn, want] of audiences) {
    // On the Thank you page, the app does not know who is signed in.
    if (target === THANK_YOU && signedIn) continue;
    test(`${target}: ${signedIn ? "signed in" : "not signed in"}, order ${order}`, async () => {
      for (const [i, show_to] of [undefined, "everyone", "subscription orders"].entries()) {
        const seen = await draw(target, { order, signedIn, set: { show_to } });
        assert.equal(seen !== null, want[i], `show_to=${show_to}`);
      }
      assert.notEqual(await draw(target, { order, signedIn, editor: { type: "checkout" } }), null);
    });
  }
}

test("a pre-order is no subscription on the Thank you page", async () => {
  assert.equal(await draw(THANK_YOU, { order: "preorder" }), null);
});

test("everyone who opens an account page sees the block", async () => {
  for (const target of ofAccount) {
    for (const show_to of ["everyone", "subscription orders"]) assert.notEqual(await draw(target, { set: { show_to } }), null);
  }
});

const hostile = [
  "../../x", "..", ".", "/", "\\evil.example", "//evil.example", "@evil.example", "evil.example", "evil.example@x", "https://evil.example",
  "javascript:alert(1)", "data:text/html,x", "abo?x=1", "abo#x", "abo/../../x", "%2e%2e%2f", "a b", "a\nb", "\u202eabo", "аbo",
  '"><script>alert(1)</script>', "'", "`", "{{ shop }}", "constructor", "__proto__", "status\n", "a--b", "a//b", "a/", long,
];

for (const target of targets) {
  test(`${target}: a hostile destination stays on the store's proxy path`, async () => {
    for (const destination of hostile) {
      const { href } = await draw(target, { set: { destination } });
      assert.match(href, /^https:\/\/brand\.myshopify\.com\/apps\/subscriptions(\/[a-z-]+)*\?locale=en&country=CA(&ms_ordered=1)?$/, destination);
      assert.equal(new URL(href).href, href, destination);
    }
  });

  test(`${target}: a hostile link address counts as not set`, async () => {
    const around = hostile.flatMap((part) => [part, `https://b.example/${part}`, `https://b.example/apps/${part}`]);
    const valid = /^https:\/\/b\.example\/apps\/[\w-]{1,30}\/?$/;
    for (const link_address of around.filter((value) => !valid.test(value.trim()))) {
      assert.equal((await draw(target, { set: { link_address } })).href, SHOP + PLAIN + mark(target), link_address);
    }
    for (const link_address of [
      "http://b.example/apps/x", "b.example/apps/x", "//b.example/apps/x", "https://b.example:8443/apps/x", "https://user@b.example/apps/x",
      "https://b/apps/x", "https://b.example/Apps/x", "https://b.example/apps/x/y", "https://b.example/pages/x", "https://b.example/fr/apps/x", "https://b.example/apps/x?y=1",
      "https://b.example/apps/x#y", "/pages/x", "/apps/x/y", "apps/x", "/\\evil.example/apps/x", "/apps/x?y=1", "https://b.example\\@evil.example/apps/x", "https://.example/apps/x", `https://${long}.example/apps/x`,
      "https://b.example/../apps/x", "https://bücher.example/apps/x", "ftp://b.example/apps/x", "https:b.example/apps/x",
    ]) {
      assert.equal((await draw(target, { set: { link_address } })).href, SHOP + PLAIN + mark(target), link_address);
    }
  });

  test(`${target}: hostile words are text`, async () => {
    for (const value of hostile) {
      const { heading, text, label, href } = await draw(target, { set: { heading: value, text: value, label: value } });
      assert.deepEqual([heading, text, label], Array(3).fill(value.trim()));
      assert.equal(href, SHOP + PLAIN + mark(target));
    }
  });
}

test("a hostile language or country stays in its parameter", async () => {
  for (const value of ["en&return_to=//evil.example", "en#x", "../x", '"', "ca", "CAN", "C"]) {
    const url = new URL((await draw(PROFILE, { language: value, country: value })).href);
    assert.equal(url.origin + url.pathname, `${SHOP}/apps/subscriptions`);
    assert.deepEqual([...url.searchParams], [["locale", value]]);
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
    for (const target of ofAccount) {
      assert.equal(await draw(target, { sessionToken }), null);
      const seen = await draw(target, { sessionToken, set: { link_address: "https://brand.example/apps/subscriptions" } });
      assert.equal(seen.href, "https://brand.example" + PLAIN);
      assert.equal(await draw(target, { sessionToken, set: { link_address: "/apps/subscriptions" } }), null);
    }
  });
}

test("each target has its own module", () => {
  assert.deepEqual(targets, [...ofAccount, ...ofOrder]);
  const modules = targeting.map(({ module }) => module);
  assert.equal(new Set(modules).size, modules.length);
  for (const module of modules) assert.ok(existsSync(join(root, module)), module);
});

test("each choice of destination opens its own page", async () => {
  const field = settings.fields.find(({ key }) => key === "destination");
  for (const destination of JSON.parse(field.validations[0].value)) {
    const { pathname } = new URL((await draw(PROFILE, { set: { destination } })).href);
    assert.equal(pathname, "/apps/subscriptions" + (destination === "subscriptions" ? "" : `/${destination}`));
  }
});

test("the extension asks for no capability", () => {
  assert.equal(config.extensions[0].capabilities, undefined);
});

const LANGUAGES = "ar cs da de en.default es fi fr he it ja ko nb nl pl pt-BR pt-PT sv th tr vi zh-CN zh-TW";

test("locales are complete, and every string is used", async () => {
  assert.deepEqual(readdirSync(join(root, "locales")).sort(), LANGUAGES.split(" ").map((code) => `${code}.json`).sort());
  for (const file of readdirSync(join(root, "locales"))) {
    const strings = locale(file);
    assert.deepEqual(Object.keys(strings), ["heading", "text", "label"], file);
    for (const string of Object.values(strings)) assert.ok(string.trim(), file);
    const { href, opens, ...seen } = await draw(ORDER_INDEX, { strings });
    assert.deepEqual(seen, strings, file);
  }
});

test("the bundle is within Shopify's limit", () => {
  const size = compressed(script);
  assert.ok(size <= LIMIT, `${size} bytes`);
});
