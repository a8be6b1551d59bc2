// Bundles the extension as `shopify app build` does, without an account. Run as a
// program, it writes dist/ and fails if Shopify would reject the bundle.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { parse } from "smol-toml";

/** The extension's folder. */
export const root = dirname(fileURLToPath(import.meta.url));

/** shopify.extension.toml as an object. */
export const config = parse(readFileSync(join(root, "shopify.extension.toml"), "utf8"));

/** Shopify's limit for an extension's script, in compressed bytes, since API version 2025-10. */
export const LIMIT = 64 * 1024;

/** Returns the script that Shopify would run. It registers each target of the configuration. */
export async function bundle() {
  const [{ targeting }] = config.extensions;
  const entry = targeting.map(({ target, module }, i) =>
    `import Target_${i} from '${module}';shopify.extend('${target}', (...args) => Target_${i}(...args));`);
  const { outputFiles } = await build({
    stdin: { contents: entry.join("\n"), resolveDir: root, loader: "tsx" },
    bundle: true,
    write: false,
    minify: true,
    target: "es6",
    jsx: "automatic",
    legalComments: "none",
    logLevel: "error",
    loader: { ".esnext": "ts", ".js": "jsx" },
    resolveExtensions: [".tsx", ".ts", ".js", ".json", ".esnext", ".mjs", ".ejs"],
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return outputFiles[0].text;
}

/** Returns the size of a script in the unit of LIMIT. */
export function compressed(script) {
  return gzipSync(script).length;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [{ handle }] = config.extensions;
  const script = await bundle();
  const size = compressed(script);
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(join(root, "dist", `${handle}.js`), script);
  console.log(`dist/${handle}.js: ${size} bytes compressed; Shopify takes ${LIMIT}`);
  if (size > LIMIT) process.exitCode = 1;
}
