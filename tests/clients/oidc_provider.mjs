// An OpenID provider, and logins of people at it.
//
//     oidc_provider.mjs FOLDER serve             prints the issuer, and serves until it is ended
//     oidc_provider.mjs FOLDER confirm URL NAME  confirms the login of a device as a person
//     oidc_provider.mjs FOLDER token ISSUER NAME prints an ID token of a person
//     oidc_provider.mjs FOLDER return URL NAME   logs in as a person at the page of a browser's login,
//                                                and prints the address to which it returns
//
// FOLDER has `node_modules` with `oidc-provider`. Ana is in the groups `analysts` and `staff`, every
// other person in none.

import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const [folder, command, ...rest] = process.argv.slice(2);
const CLIENT = "lake";
const GROUPS = { ana: ["analysts", "staff"] };

/** Returns a person with its claims. */
function account(_, id) {
  const claims = () => ({
    sub: id,
    email: `${id}@example.com`,
    email_verified: id !== "eve",
    groups: GROUPS[id] ?? [],
  });
  return { accountId: id, claims };
}

async function serve() {
  const module = pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`);
  const { Provider } = await import(module);
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const client = {
    client_id: CLIENT,
    // A native client may return to any port of this machine.
    application_type: "native",
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
    response_types: ["code"],
    redirect_uris: ["http://127.0.0.1/"],
  };
  const provider = new Provider(issuer, {
    clients: [client],
    findAccount: account,
    claims: { openid: ["sub"], profile: ["groups"], email: ["email", "email_verified"] },
    conformIdTokenClaims: false,
    cookies: { keys: ["a key of a test"] },
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
  });
  server.on("request", provider.callback());
  console.log(issuer);
}

/** Requests pages as a browser does: with cookies, and following redirects. */
class Browser {
  cookies = new Map();

  /** Returns a page, or only its address if `ends` is true for that. */
  async load(url, form, ends = () => false) {
    for (let hops = 0; hops < 20; hops += 1) {
      const headers = { cookie: [...this.cookies].map((pair) => pair.join("=")).join("; ") };
      const sent = form ? { method: "POST", body: new URLSearchParams(form) } : {};
      const response = await fetch(url, { ...sent, headers, redirect: "manual" });
      for (const cookie of response.headers.getSetCookie()) {
        const [name, value] = cookie.split(";")[0].split("=");
        this.cookies.set(name, value);
      }
      const next = response.headers.get("location");
      if (!next) return { url, text: await response.text() };
      [url, form] = [new URL(next, url).href, undefined];
      if (ends(url)) return { url, text: "" };
    }
    throw new Error("too many redirects");
  }
}

/** Returns the address and the fields of a page's form; none if it has no form. */
function formOf(page) {
  const form = /<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/.exec(page.text);
  if (!form) return null;
  const fields = {};
  for (const [tag] of form[2].matchAll(/<(input|button)[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(tag)?.[1];
    if (name) fields[name] = /value="([^"]*)"/.exec(tag)?.[1] ?? "";
  }
  return { url: new URL(form[1] || page.url, page.url).href, fields };
}

/** Opens the page of a login, and fills in each form. Returns the last page. */
async function fillIn(url, name, ends) {
  const browser = new Browser();
  let page = await browser.load(url, undefined, ends);
  for (let form = formOf(page), steps = 0; form && steps < 6; form = formOf(page), steps += 1) {
    if ("abort" in form.fields) delete form.fields.abort;
    if ("login" in form.fields) form.fields.login = name;
    if ("password" in form.fields) form.fields.password = "any";
    page = await browser.load(form.url, form.fields, ends);
  }
  return page;
}

/** Confirms the login of a device. */
async function confirm(url, name) {
  const page = await fillIn(url, name);
  if (!/success/i.test(page.text)) throw new Error(page.text);
}

/** Logs in for a browser. */
async function returned(url, name) {
  const redirect = new URL(url).searchParams.get("redirect_uri");
  const page = await fillIn(url, name, (next) => next.startsWith(redirect));
  if (!page.url.startsWith(redirect)) throw new Error(page.text);
  console.log(page.url);
}

async function token(issuer, name) {
  const ask = async (path, form) => {
    const body = new URLSearchParams({ client_id: CLIENT, ...form });
    const response = await fetch(issuer + path, { method: "POST", body });
    return response.json();
  };
  const code = await ask("/device/auth", { scope: "openid profile email" });
  await confirm(code.verification_uri_complete, name);
  const grant_type = "urn:ietf:params:oauth:grant-type:device_code";
  const tokens = await ask("/token", { grant_type, device_code: code.device_code });
  if (!tokens.id_token) throw new Error(JSON.stringify(tokens));
  console.log(tokens.id_token);
}

const commands = { serve, confirm, token, return: returned };
await commands[command](...rest);
