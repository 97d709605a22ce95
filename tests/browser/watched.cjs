// A browser page under watch: whatever goes wrong on it is kept, and hostile text that runs is counted.
"use strict";

const { createRequire } = require("node:module");
const fs = require("node:fs");
const path = require("node:path");

const config = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const need = createRequire(path.join(config.modules, "package.json"));
const { chromium } = need("playwright-core");
const axeSource = fs.readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");

let failures = 0;

/** Prints a check and remembers whether it failed. */
function check(holds, line) {
  if (!holds) failures += 1;
  console.log(`${holds ? "ok  " : "FAIL"}  ${line}`);
  return holds;
}

const note = (line) => console.log(`      ${line}`);

let browser = null;

async function launch() {
  browser = await chromium.launch({
    executablePath: config.chromium,
    // Containers have no user namespaces, and nothing but the server under test is visited.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--disable-lcd-text"],
  });
  return browser;
}

/**
 * A page of its own context with a list of what went wrong on it. `expected` is a list of HTTP statuses that are no fault.
 * `__pwned` counts what hostile text got to run; a dialog counts as well.
 */
async function watched(options = {}) {
  const { scheme = "light", javaScript = true, width = 1280, height = 900, expected = [] } = options;
  const context = await browser.newContext({
    colorScheme: scheme, javaScriptEnabled: javaScript, viewport: { width, height }, reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const faults = [];
  const pwned = [];
  page.setDefaultTimeout(15_000);
  await context.exposeBinding("__pwned", (source, what) => pwned.push(`${source.frame.url()} ${what ?? ""}`));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) =>
      console.error(`CSP ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile ?? ""}`));
  });
  page.on("dialog", (dialog) => { pwned.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    // The browser reports the status of the page itself, which is looked at where the page is opened.
    const status = /status of (\d+)/.exec(message.text());
    if (status && expected.includes(Number(status[1]))) return;
    faults.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText ?? "";
    // A page that is left cuts its live connection.
    if (why === "net::ERR_ABORTED") return;
    faults.push(`request: ${request.url()} ${why}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(config.ui) && !request.url().startsWith("data:")) {
      if (!(options.others ?? []).some((other) => request.url().startsWith(other))) faults.push(`foreign request: ${request.url()}`);
    }
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && !expected.includes(response.status())) faults.push(`${response.status()} ${response.url()}`);
  });
  return { page, faults, pwned, close: () => context.close() };
}

/** Opens a path of the server. */
async function open(page, where, server = config.ui) {
  return page.goto(server + where, { waitUntil: "load" });
}

/** Serious and critical findings of axe, one line each. */
async function axe(page) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const results = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return results.violations.map((v) => ({
      id: v.id, impact: v.impact, help: v.help, count: v.nodes.length,
      first: v.nodes[0].html.slice(0, 160), why: (v.nodes[0].failureSummary ?? "").replace(/\s+/g, " ").slice(0, 200),
    }));
  });
  const line = (v) => `${v.impact} ${v.id} ×${v.count}: ${v.first} (${v.why})`;
  return {
    grave: found.filter((v) => v.impact === "serious" || v.impact === "critical").map(line),
    minor: found.filter((v) => v.impact !== "serious" && v.impact !== "critical").map(line),
  };
}

/** What hostile text could have become: elements and attributes that no page of ours has. */
async function foreignMarkup(page) {
  return page.evaluate(() => {
    const found = [];
    const own = (script) => script.src && new URL(script.src).origin === location.origin && new URL(script.src).pathname.startsWith("/assets/");
    for (const script of document.querySelectorAll("script")) if (!own(script)) found.push(`script ${script.outerHTML.slice(0, 80)}`);
    for (const tag of ["iframe", "object", "embed", "base", "math", "style", "body body", "img"]) {
      for (const element of document.querySelectorAll(tag)) found.push(element.outerHTML.slice(0, 80));
    }
    for (const element of document.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        if (name.startsWith("on") || name === "style" || name === "srcdoc") found.push(`${element.tagName} ${name}=${value.slice(0, 60)}`);
        if (["href", "src", "action", "formaction", "xlink:href"].includes(name) && /^\s*(javascript|vbscript|data:text)/i.test(value)) {
          found.push(`${element.tagName} ${name}=${value.slice(0, 60)}`);
        }
      }
    }
    if (document.querySelector('meta[http-equiv="refresh" i]')) found.push("meta refresh");
    return found;
  });
}

const failed = () => failures;

module.exports = { axe, check, config, failed, foreignMarkup, launch, note, open, watched };
