// The console in headless Chromium, by a person's steps.
//
// Usage: node console.mjs PLAYWRIGHT CHROMIUM ADDRESS TOKEN SCREENSHOTS
// The server has the tables `orders` and `customers` on `main`, and the branches `ours` and
// `theirs`, which changed the same row of `orders`; `added` has a further row. A run of the project
// `shop` has ended.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [playwright, executablePath, address, token, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(join(playwright, "package.json"))("playwright-core");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const requests = [];
const violations = [];
const errors = [];

async function logIn(page) {
  await page.goto(address);
  await page.getByLabel("Token").fill("0000");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("the token is invalid").waitFor();
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Query" }).waitFor();
  const [cookie] = await page.context().cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, "Strict");
  const stored = await page.evaluate(() => JSON.stringify(localStorage) + document.cookie);
  assert(!stored.includes(token) && !stored.includes(cookie.value));
  assert(!page.url().includes(token));
}

/** The cookie alone, as a page of another port would send it, is not a session. */
async function needsKey(page) {
  const status = await page.evaluate(() => fetch("/v1/branches").then(({ status }) => status));
  assert.equal(status, 401);
}

async function write(page, sql) {
  await page.getByTestId("editor").locator(".cm-content").click();
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.insertText(sql);
}

async function run(page, sql) {
  await write(page, sql);
  await page.keyboard.press("Control+Enter");
  await page.getByTestId("facts").waitFor();
}

const cells = (page) => page.getByRole("gridcell").allInnerTexts();

async function completes(page) {
  await write(page, "");
  await page.keyboard.type("SELECT * FROM cust");
  const choice = page.getByRole("option", { name: /customers/ });
  await choice.first().waitFor();
  await choice.first().click();
  await page.keyboard.type(" ORDER BY i");
  await page.getByRole("option", { name: /^id/ }).first().waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.type("d");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+Enter");
  await page.getByTestId("facts").filter({ hasText: "2 rows" }).waitFor();
  assert.deepEqual(await cells(page), ["1", "Ada", "2", "NULL"]);
  await page.getByText("BIGINT").first().waitFor();
}

async function marksErrors(page) {
  await write(page, "SELECT id,\n  nam\nFROM customers");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Run" }).click();
  const problem = page.getByRole("alert");
  await problem.getByText("Did you mean `name`?").waitFor();
  const marked = page.getByTestId("editor").locator(".cm-lintRange-error");
  assert.equal(await marked.innerText(), "nam");
}

/** A pause in typing shows what the statement reads, or its error. */
async function checksWhileTyping(page) {
  await write(page, "SELECT id FROM orders");
  const check = page.getByTestId("check");
  await check.getByText(/reads at most \d+ B in 1 file of orders/).waitFor();
  await page.keyboard.insertText("x");
  await check.getByText("`ordersx`").waitFor();
  await page.keyboard.press("Backspace");
  await check.getByText(/reads at most/).waitFor();
}

async function downloads(page) {
  for (const [format, start] of [["CSV", "id,amount"], ["Parquet", "PAR1"]]) {
    await run(page, "SELECT id, amount FROM orders ORDER BY id");
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByLabel("Download").selectOption(format),
    ]);
    const bytes = readFileSync(await download.path());
    assert.equal(bytes.subarray(0, start.length).toString(), start);
  }
}

async function goesByKeys(page) {
  await page.keyboard.press("Control+k");
  await page.getByRole("textbox", { name: "Go to" }).fill("custo");
  await page.getByRole("option", { name: /customers/ }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "customers" }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("g");
  await page.keyboard.press("q");
  await page.getByRole("heading", { name: "Query" }).waitFor();
}

async function cancels(page) {
  await write(
    page,
    "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b " +
      "WHERE a.value + b.value < 0",
  );
  await page.keyboard.press("Control+Enter");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("The statement was cancelled").waitFor();
  await until(async () => {
    const jobs = await api(page, "/v1/jobs?kind=query&limit=1");
    return jobs[0].status === "cancelled";
  });
}

async function showsManyRows(page) {
  await run(page, "SELECT value, value % 3 AS third FROM generate_series(1, 1000000)");
  await page.getByTestId("facts").filter({ hasText: "1,000,000 rows" }).waitFor();
  await page.getByRole("grid").focus();
  await page.keyboard.press("Control+End");
  await page.getByRole("rowheader", { name: "1,000,000", exact: true }).waitFor();
  assert((await page.getByRole("gridcell").count()) < 400);
  await page.getByTitle(/^third: /).click();
  await page.getByRole("complementary", { name: "Statistics of third" }).getByText("333,334").waitFor();
  await page.getByRole("button", { name: "Close", exact: true }).click();
}

async function drawsAndExplains(page) {
  await run(page, "SELECT name, id FROM customers WHERE name IS NOT NULL");
  await page.getByRole("tab", { name: "Chart" }).click();
  await page.locator("svg.plot rect").first().waitFor();
  await page.getByRole("tab", { name: "Plan" }).click();
  await page.getByText("DataSourceExec").first().waitFor();
  await page.getByRole("tab", { name: "Rows" }).click();
  await page.getByRole("tab", { name: "History" }).click();
  await page.getByTitle("SELECT name, id FROM customers WHERE name IS NOT NULL").waitFor();
  await page.getByRole("tab", { name: "Tables" }).click();
}

async function opensSharedText(page) {
  const sql = "SELECT 'shared' AS text";
  await page.goto(`${address}/#/query?ref=main&sql=${encodeURIComponent(sql)}`);
  await page.getByTestId("editor").getByText("'shared'").waitFor();
  assert(!page.url().includes("sql="));
  // The active tab is empty, so it opens the text, although it is not the last tab.
  const queries = page.getByRole("tablist", { name: "Queries" }).getByRole("tab");
  assert((await queries.count()) > 1);
  await queries.first().click();
  await write(page, "");
  await page.goto(`${address}/#/query?sql=${encodeURIComponent("SELECT 'first' AS text")}`);
  await page.getByTestId("editor").getByText("'first'").waitFor();
  assert.equal(await queries.first().getAttribute("aria-selected"), "true");
}

async function browsesBranches(page) {
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: "Query" }).click();
  await page.keyboard.press("g");
  await page.keyboard.press("c");
  await page.getByRole("link", { name: "orders" }).click();
  await page.getByText(/^2 rows/).waitFor();
  await page.getByRole("button", { name: "Ref: main" }).click();
  await page.getByLabel("Find a ref").fill("add");
  await page.getByRole("option", { name: /added/ }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByText(/^3 rows/).waitFor();
  await page.getByRole("tab", { name: "Rows" }).click();
  await page.getByRole("gridcell", { name: "30" }).waitFor();
  await page.getByRole("tab", { name: "Files" }).click();
  await page.getByRole("gridcell", { name: "parquet" }).first().waitFor();
  await page.getByRole("link", { name: "Branches" }).click();
  await page.locator(".commit-graph circle").first().waitFor();
  await page.getByRole("button", { name: "main", exact: true }).click();
}

async function merges(page) {
  await page.getByRole("row", { name: /added/ }).getByText("Compare and merge").click();
  await page.getByText("The merge is possible").waitFor();
  await page.getByRole("button", { name: /orders/ }).click();
  await page.locator(".row-added").getByText("30").waitFor();
  await page.getByRole("button", { name: "Merge into main" }).click();
  await page.getByText("Merged added into main.").waitFor();
}

async function seesConflicts(page) {
  await page.getByRole("row", { name: /theirs/ }).getByText("Compare and merge").click();
  await page.getByLabel("Target").selectOption("ours");
  await page.getByText("One table conflicts").waitFor();
  const merge = page.getByRole("button", { name: "Merge into ours" });
  assert.equal(await merge.isDisabled(), true);
  const conflict = page.getByRole("region", { name: "Conflict in orders" });
  const row = await conflict.getByRole("row").last().getByRole("cell").allInnerTexts();
  assert.deepEqual(row.slice(1), ["amount", "10", "11", "12"]);
  await conflict.getByLabel("take theirs").check();
  await page.getByText("The merge is possible").waitFor();
  await merge.click();
  await page.getByText("Merged theirs into ours.").waitFor();
}

async function importsFile(page) {
  await page.getByRole("link", { name: "Tables" }).click();
  await page.getByLabel("Import files").setInputFiles({
    name: "Big cities.csv",
    mimeType: "text/csv",
    buffer: Buffer.from("city,people\nOslo,709037\nRome,2748109\n"),
  });
  const dialog = page.getByRole("dialog", { name: "Import into main" });
  await dialog.getByText("people").waitFor();
  assert.equal(await dialog.getByLabel("Table").inputValue(), "big_cities");
  await dialog.getByRole("button", { name: "Create table" }).click();
  await page.getByRole("heading", { name: "big_cities" }).waitFor();
  await page.getByText(/^2 rows/).waitFor();
}

async function readsRuns(page) {
  await page.getByRole("link", { name: "Runs" }).click();
  await page.getByRole("link", { name: "shop" }).click();
  await page.getByRole("button", { name: "total: succeeded" }).waitFor();
  assert.equal(await page.locator(".dag-edge").count(), 1);
  await page.getByRole("row", { name: /doubled sql/ }).waitFor();
}

const SLOW = `import time

import headwater


@headwater.model(materialization="replace")
def slow(orders=headwater.Model("orders")):
    for number in range(4):
        print(f"line {number}", flush=True)
        time.sleep(0.5)
    return orders


@headwater.expectation()
def slow_has_rows(slow=headwater.Model("slow")):
    return slow.num_rows > 0
`;

/** Follows a run from its start to its end without a reload, and starts it again. */
async function watchesRun(page) {
  const files = { "headwater.toml": '[project]\nname = "watched"\n', "models/slow.py": SLOW };
  const job = await api(page, "/v1/runs", { files });
  await page.goto(`${address}/#/runs/${job.id}`);
  await page.getByRole("button", { name: "slow: running" }).waitFor();
  await page.locator(".log").getByText("line 0").waitFor();
  await page.getByRole("button", { name: "slow: succeeded" }).waitFor();
  await page.getByRole("button", { name: "slow_has_rows: succeeded" }).waitFor();
  await page.locator(".log").getByText("line 3").waitFor();
  await page.getByRole("button", { name: "Run again" }).click();
  await page.getByRole("button", { name: "slow: unchanged" }).waitFor();
  assert(!page.url().includes(job.id));
  await page.goto(`${address}/#/catalog/table/public.slow`);
  await page.getByRole("tab", { name: "Lineage" }).click();
  await page.getByRole("button", { name: /^orders:/ }).waitFor();
}

async function readsJobsAndUsage(page) {
  await page.getByRole("link", { name: "Functions" }).click();
  await page.getByText("No function is deployed").waitFor();
  await page.getByRole("link", { name: "Jobs" }).click();
  await page.getByLabel("Kind").selectOption("import");
  await page.getByRole("link", { name: /big_cities from/ }).click();
  await page.getByRole("heading", { name: /big_cities from/ }).waitFor();
  await page.getByRole("link", { name: "Usage" }).click();
  await page.getByRole("cell", { name: "import" }).waitFor();
  await page.getByLabel(/^By/).selectOption("branch");
  await page.getByRole("cell", { name: "ours" }).waitFor();
}

async function setsSecret(page) {
  await page.goto(`${address}/#/access/secrets`);
  await page.getByRole("button", { name: "New secret" }).click();
  const dialog = page.getByRole("dialog", { name: "New secret" });
  await dialog.getByLabel("Name").fill("API_KEY");
  await dialog.getByLabel("Value").fill("not shown");
  await dialog.getByRole("button", { name: "Set" }).click();
  await page.getByRole("cell", { name: "API_KEY" }).waitFor();
  assert.equal(await page.getByText("not shown").count(), 0);
}

/** A failed event is shown with its error, delivered again, and removed. */
async function handlesEvents(page) {
  const manifest = `[project]
name = "events"

[[trigger]]
name = "arrivals"
tables = { names = ["arrived"], debounce = "10ms" }
run = true
retries = 0

[[trigger]]
name = "nightly"
schedule = { cron = "0 3 * * *", timezone = "Europe/Paris" }
run = true

[[trigger]]
name = "landing"
bucket = { name = "uploads", suffix = ".csv" }
run = true
`;
  const files = { "headwater.toml": manifest, "models/late.sql": "SELECT missing FROM arrived" };
  await api(page, "/v1/deployments", { files });
  await api(page, "/v1/query", { sql: "CREATE TABLE arrived AS SELECT 1 AS id" });
  await page.goto(`${address}/#/functions/triggers`);
  await page.getByRole("row", { name: /nightly schedule 0 3 \* \* \* Europe\/Paris run \d{4}-/ }).waitFor();
  await page.getByRole("row", { name: /landing bucket uploads\/\*\.csv/ }).waitFor();
  await page.getByRole("link", { name: "arrivals" }).click();
  const event = page.getByRole("row", { name: /failed arrivals public\.arrived .*missing/ });
  await event.waitFor();
  await event.getByRole("button", { name: "Replay" }).click();
  await page.getByText("The event is delivered again").waitFor();
  page.once("dialog", (dialog) => dialog.accept());
  await event.getByRole("button", { name: "Remove" }).click();
  await page.getByText("No event matches").waitFor();
}

async function fitsPhone(page) {
  await page.setViewportSize({ width: 390, height: 800 });
  for (const screen of ["query", "catalog", "catalog/branches", "runs", "functions", "functions/triggers", "functions/events", "usage", "access"]) {
    await page.goto(`${address}/#/${screen}`);
    await page.locator("main").waitFor();
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert(width <= 390, `${screen} is ${width} pixels wide`);
  }
  await page.goto(`${address}/#/query`);
  await write(page, "SELECT id, amount FROM orders ORDER BY id, amount");
  await page.getByTestId("check").waitFor();
  const share = await page.getByRole("button", { name: "Share" }).boundingBox();
  assert(share.x + share.width <= 390, "the toolbar does not fit");
  await page.setViewportSize({ width: 1280, height: 800 });
}

async function logsOut(page) {
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.deepEqual(await page.context().cookies(), []);
  await page.reload();
  await page.getByLabel("Token").waitFor();
}

/** The link of `headwater console` opens the page logged in. */
async function logsInByCode(page) {
  const headers = { authorization: `Bearer ${token}` };
  const answer = await fetch(`${address}/v1/session/codes`, { method: "POST", headers });
  const { code } = await answer.json();
  await page.goto("about:blank");
  await page.goto(`${address}/#code=${code}`);
  await page.getByRole("heading", { name: "Query" }).waitFor();
  await page.getByTestId("editor").waitFor();
  assert.equal(page.url(), `${address}/`, "no code stays in the address");
}

/** A user with a row filter does not see in how many files the hidden rows are. */
async function hidesFilesOfFilteredTables(page) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const post = async (path, body) => {
    const answer = await fetch(address + path, { method: "POST", headers, body: JSON.stringify(body) });
    const text = await answer.text();
    assert(answer.ok, `${path}: ${text}`);
    return text && JSON.parse(text);
  };
  await post("/v1/users", { name: "eve" });
  const grants = [["select", "table:orders"], ["select", "table:customers"], ["read", "branch:main"]];
  for (const [action, object] of grants) {
    await post("/v1/grants", { grantee: "eve", actions: [action], object });
  }
  await post("/v1/query", { sql: "CREATE ROW FILTER few ON orders USING (id > 1) TO eve" });
  const { secret } = await post("/v1/tokens", { user: "eve", label: "page" });
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Token").fill(secret);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Query" }).waitFor();
  const check = page.getByTestId("check");
  await write(page, "SELECT id FROM customers");
  await check.getByText(/reads at most \d+ B in 1 file of customers/).waitFor();
  await write(page, "SELECT id FROM orders");
  await check.getByText(/reads at most \d+ B in orders, /).waitFor();
}

/** Sends a request as the page does. */
function api(page, path, body) {
  return page.evaluate(
    async ([path, body]) => {
      const key = localStorage.getItem("headwater.session");
      const headers = { "x-headwater-session": key, "content-type": "application/json" };
      const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
      return (await fetch(path, options)).json();
    },
    [path, body],
  );
}

async function until(holds) {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not within 30 seconds: ${holds}`);
}

const STEPS = [
  logIn,
  needsKey,
  completes,
  marksErrors,
  checksWhileTyping,
  downloads,
  goesByKeys,
  cancels,
  showsManyRows,
  drawsAndExplains,
  opensSharedText,
  browsesBranches,
  merges,
  seesConflicts,
  importsFile,
  readsRuns,
  watchesRun,
  readsJobsAndUsage,
  setsSecret,
  handlesEvents,
  fitsPhone,
  logsOut,
  logsInByCode,
  hidesFilesOfFilteredTables,
];

const profile = mkdtempSync(join(tmpdir(), "console-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  args: FLAGS,
  headless: true,
  viewport: { width: 1280, height: 800 },
});
try {
  const page = context.pages()[0];
  page.setDefaultTimeout(60_000);
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) {
      violations.push(`${page.url()}: ${message.text()} ${JSON.stringify(message.location())}`);
    }
  });
  for (const step of STEPS) {
    try {
      await step(page);
      console.log(`passed: ${step.name}`);
    } catch (error) {
      await page.screenshot({ path: join(screenshots, `${step.name}.png`) });
      throw new Error(`${step.name} at ${page.url()}`, { cause: error });
    }
  }
  const foreign = requests.filter((url) => !url.startsWith(address) && !/^(blob|data):/.test(url));
  assert.deepEqual(foreign, []);
  assert.deepEqual(errors, []);
  assert.deepEqual(violations, []);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
