// Builds every widget's script and style into ../static, or into the folder named as the first argument.
// The result depends on these sources and the locked packages alone: no dates, no paths.
import { build } from "esbuild";
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ? resolve(process.argv[2]) : join(here, "..", "static");

// Libraries name addresses in error messages and in comments of shaders; no script of ours names any.
const withoutAddresses = {
  name: "without-addresses",
  setup: (made) => made.onLoad({ filter: /node_modules[\\/]regl[^\\/]*[\\/].*\.js$/ }, async ({ path }) => ({
    contents: (await readFile(path, "utf8")).replace(/https?:\/\/(?!www\.w3\.org)[^\s"'`)]+/g, ""),
    loader: "js",
  })),
};

const options = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  charset: "utf8",
  legalComments: "none",
  target: ["es2022"],
  logLevel: "warning",
  plugins: [withoutAddresses],
};

const widgets = readdirSync(here, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !["common", "host"].includes(entry.name) && existsSync(join(here, entry.name, "index.js")))
  .map((entry) => entry.name)
  .sort();

for (const name of widgets) {
  await build({ ...options, entryPoints: [`${name}/index.js`], format: "esm", outfile: join(target, `${name}.js`) });
  await build({ ...options, entryPoints: [`${name}/style.css`], outfile: join(target, `${name}.css`) });
}
// The common part for scripts that are not built here: a constant called `workbench`.
await build({
  ...options,
  entryPoints: ["common/index.js"],
  format: "iife",
  globalName: "workbench",
  outfile: join(target, "common.js"),
});
await build({ ...options, entryPoints: ["common/style.css"], outfile: join(target, "common.css") });
// The page that runs widgets without a notebook: a constant called `workbenchHost`.
await build({
  ...options,
  entryPoints: ["host/index.js"],
  format: "iife",
  globalName: "workbenchHost",
  outfile: join(target, "host.js"),
});
await build({ ...options, entryPoints: ["host/style.css"], outfile: join(target, "host.css") });
