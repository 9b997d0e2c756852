// Builds the page into `dist`: bundled, minified, compressed, and with a hash of its sources.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = import.meta.dirname;
const settings = ["build.mjs", "package-lock.json", "package.json", "tsconfig.json"];

function files(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : [path];
  });
}

/** Returns the hash of names and contents; `crates/server/src/console/assets.rs` computes it too. */
function sourcesHash() {
  const hash = createHash("sha256");
  for (const path of [...settings, ...files("src")].sort()) {
    hash.update(path).update("\0").update(readFileSync(join(root, path))).update("\0");
  }
  return hash.digest("hex");
}

const version = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 12);

async function bundle(entry) {
  const result = await build({
    entryPoints: [join(root, entry)],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    absWorkingDir: root,
    logLevel: "warning",
  });
  return Buffer.from(result.outputFiles[0].contents);
}

function write(name, bytes) {
  const compressed = gzipSync(bytes, { level: 9 });
  // The tenth byte names the operating system; it must not differ between builds.
  compressed[9] = 255;
  writeFileSync(join(root, "dist", `${name}.gz`), compressed);
  return `${name} ${(bytes.length / 1024).toFixed(0)} KiB, compressed ${(
    compressed.length / 1024
  ).toFixed(0)} KiB`;
}

const built = {
  "app.js": await bundle("src/main.tsx"),
  "app.css": await bundle("src/style.css"),
  "icon.svg": readFileSync(join(root, "src/icon.svg")),
};
let page = readFileSync(join(root, "src/index.html"), "utf8");
for (const [name, bytes] of Object.entries(built)) {
  page = page.replaceAll(`/console/${name}`, `/console/${name}?v=${version(bytes)}`);
}
built["index.html"] = Buffer.from(page);
mkdirSync(join(root, "dist"), { recursive: true });
for (const [name, bytes] of Object.entries(built)) console.log(write(name, bytes));
writeFileSync(join(root, "dist/sources.sha256"), `${sourcesHash()}\n`);
console.log(relative(process.cwd(), join(root, "dist")) || ".");
