// The login to the console at an OpenID provider, in headless Chromium.
//
// Usage: node console_login.mjs PLAYWRIGHT CHROMIUM ADDRESS
// The server has a provider, whose pages ask for a name and for consent.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const [playwright, executablePath, address] = process.argv.slice(2);
const { chromium } = createRequire(join(playwright, "package.json"))("playwright-core");
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"];
const browser = await chromium.launch({ executablePath, args });

async function logIn(page) {
  await page.goto(address);
  await page.getByRole("button", { name: /^Log in at 127\.0\.0\.1:/ }).click();
  await page.locator("input[name=login]").fill("ana");
  await page.locator("input[name=password]").fill("any");
  await page.locator("button[type=submit]").click();
  await page.locator("button[type=submit]").click();
  await page.getByRole("heading", { name: "Query" }).waitFor();
  assert.equal(page.url().split("#")[0], `${address}/`, "no code stays in the address");
  const kept = await page.evaluate(() => sessionStorage.getItem("headwater.login"));
  assert.equal(kept, null, "the secrets of the login are not kept");
}

/** A page that sends a browser here with a code of its own cannot log it in. */
async function rejectsCodesOfOthers(page) {
  await page.goto(`${address}/?code=abc&state=def`);
  await page.getByText("this login was not started in this tab").waitFor();
  assert.equal(page.url(), `${address}/`);
}

async function showsRefusals(page) {
  await page.goto(address);
  await page.evaluate(() => sessionStorage.setItem("headwater.login", '{"state":"def"}'));
  await page.goto(`${address}/?error=access_denied&state=def`);
  await page.getByText("the login at the provider failed: access_denied").waitFor();
}

try {
  for (const step of [logIn, rejectsCodesOfOthers, showsRefusals]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    await step(page);
    await context.close();
  }
} finally {
  await browser.close();
}
