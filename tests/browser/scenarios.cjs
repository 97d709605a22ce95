// The scenarios of check.py, which says what they are. Started with the path of a JSON file that describes the servers.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { spawn } = require("node:child_process");
const { axe, check, config, failed, foreignMarkup, launch, note, open, watched } = require("./watched.cjs");

const escape = encodeURIComponent;
const [before, after] = config.runs;

/** Every screen: its name, its path, the server if it is not the demo's, and its status if that is not 200. */
function screens() {
  const { agent, other, odd, deep } = config.traces;
  const all = [
    ["front", "/"],
    ["runs", "/runs"],
    ["run", `/runs/${after}`],
    ["run-before", `/runs/${before}`],
    ["cases", `/runs/${after}/cases`],
    ["cases-filtered", `/runs/${after}/cases?q=${escape("score.label_match < 1 and expected = NEE")}&sort=-latency`],
    ["cases-none", `/runs/${after}/cases?q=${escape('claim ~ "no such claim anywhere"')}`],
    ["cases-bad-query", `/runs/${after}/cases?q=${escape("score.label_match < and")}`, { status: 400 }],
    ["case", `/cases/${escape(config.dataset)}/${escape(config.case)}`],
    ["case-unknown", `/cases/${escape(config.dataset)}/no-such-case`, { status: 404 }],
    ["compare", `/compare?base=${before}&head=${after}`],
    ["compare-parts", `/compare?base=${before}&head=${after}&slice=expected&only=unpaired`],
    ["compare-latest", "/compare"],
    ["compare-unknown", "/compare?base=nothing&head=latest", { status: 404 }],
    ["trends", "/trends"],
    ["trends-parts", "/trends?score=accuracy&by=expected"],
    ["trends-unknown", "/trends?score=nothing", { status: 404 }],
    ["traces", "/traces"],
    ["traces-filtered", `/traces?q=${escape('score."faithfulness" < 0.5')}`],
    ["traces-sorted", "/traces?sort=-duration"],
    ["traces-bad-query", `/traces?q=${escape("durations > 2s")}`, { status: 400 }],
    ["trace-of-run", `/traces/${config.trace}?span=${config.span}`],
    ["trace", `/traces/${agent}`],
    ["trace-span", `/traces/${agent}?span=${config.chat}`],
    ["trace-conversation", `/traces/${agent}?view=conversation`],
    ["trace-critical-path", `/traces/${agent}?view=critical`],
    ["trace-raw", `/traces/${agent}?view=raw`],
    ["trace-search", `/traces/${agent}?q=lookup`],
    ["trace-odd", `/traces/${odd}`],
    ["trace-deep", `/traces/${deep}`],
    ["trace-unknown", "/traces/ffffffffffffffffffffffffffffffff", { status: 404 }],
    ["diff", `/traces/${agent}/diff/${other}`],
    ["setup", "/setup"],
    ["health", "/health"],
    ["nothing", "/no/such/page", { status: 404 }],
    ["empty-front", "/", { server: config.empty }],
    ["empty-runs", "/runs", { server: config.empty }],
    ["empty-compare", "/compare", { server: config.empty }],
    ["empty-trends", "/trends", { server: config.empty }],
    ["empty-traces", "/traces", { server: config.empty }],
    ["empty-health", "/health", { server: config.empty }],
  ];
  return all.map(([name, where, more]) => ({ name, where, status: 200, server: config.ui, ...more }));
}

// --- the way from the front page to the next low score ---------------------------------------------------------------

/** Addresses by which the way goes on, so that the scenarios hold whatever the pages look like. */
const steps = {
  run: (href) => /^\/runs\/[^/?]+$/.test(href),
  cell: (href) => /^\/runs\/[^/]+\/cases\?/.test(href) && /expected/.test(href) && /output/.test(href),
  case: (href) => /^\/cases\/[^/]+\/[^/?]+/.test(href),
  trace: (href) => /^\/traces\/[0-9a-f]{32}/.test(href) && !href.includes("/diff/"),
};

async function hrefs(page, selector = "main a[href]") {
  return page.$$eval(selector, (links) => links.map((a) => ({ href: a.getAttribute("href"), text: a.textContent.trim() })));
}

/** Asks again for a while until there is an answer, for scripts may still be at work on the page. */
async function eventually(ask) {
  const end = Date.now() + 5_000;
  for (;;) {
    const answer = await ask();
    if (answer || Date.now() > end) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function wantLink(page, wanted, what) {
  const link = await eventually(async () => (await hrefs(page)).find(({ href, text }) => wanted(href, text)));
  if (!link) throw new Error(`${new URL(page.url()).pathname} has no link to ${what}`);
  return link.href;
}

/** A link to a model's span in the trace that is open. */
async function chatSpan(page) {
  return wantLink(page, (href, text) => /span=[0-9a-f]{16}/.test(href) && /\b(chat|evaluate)\b/.test(text), "a chat or judge span");
}

const lowScore = (href, text) => /next low|lower score|next low score/i.test(text);

/** A cell of wrong answers if there is one, else any. */
async function cell(page) {
  const cells = (await hrefs(page)).filter(({ href, text }) => steps.cell(href) && /[1-9]/.test(text));
  if (!cells.length) throw new Error(`${new URL(page.url()).pathname} has no confusion matrix with links`);
  const wrong = cells.find(({ href }) => {
    const query = decodeURIComponent(href.replace(/\+/g, " "));
    const [, expected, output] = /expected\s*=\s*"?(\w+)"?.*output\s*=\s*"?(\w+)"?/.exec(query) ?? [];
    return expected && output && expected !== output;
  });
  return (wrong ?? cells[0]).href;
}

/** The way, each step taken by `follow(page, href)`. */
async function way(what, page, follow) {
  await open(page, "/");
  // The matrix stands on the run's page; the front page may have it as well.
  if (!(await hrefs(page)).some(({ href }) => steps.cell(href))) {
    await follow(page, await wantLink(page, (href) => steps.run(href), "the latest run"));
    check(new URL(page.url()).pathname === `/runs/${after}`, `${what}: the front page leads to the latest run (${page.url()})`);
  }
  await follow(page, await cell(page));
  const q = new URL(page.url()).searchParams.get("q");
  const rows = await page.$$eval("main tbody tr", (rows) => rows.length);
  check(page.url().includes("/cases?") && rows > 0, `${what}: a cell of the confusion matrix leads to its ${rows} cases (${q})`);
  await follow(page, await wantLink(page, steps.case, "a case"));
  const body = await page.textContent("main");
  check(/\/cases\/[^/]+\//.test(page.url()) && /context/i.test(body), `${what}: a case with its claim and context (${new URL(page.url()).pathname})`);
  await follow(page, await wantLink(page, steps.trace, "its trace"));
  const first = page.url();
  check(/\/traces\/[0-9a-f]{32}/.test(first), `${what}: the case's trace (${first})`);
  await follow(page, await chatSpan(page));
  const shown = await eventually(async () => /gen_ai\.(request|response)\.model|gen_ai\.operation\.name/.test(await page.textContent("main")));
  check(/span=[0-9a-f]{16}/.test(page.url()) && shown,
    `${what}: the model's span with its attributes`);
  const span = () => new URL(page.url()).searchParams.get("span");
  const [model, trace] = [span(), new URL(page.url()).pathname];
  await follow(page, await wantLink(page, lowScore, "the next low score"));
  check(span() !== model, `${what}: the next low score (${page.url()})`);
  // First those of the same trace, then those of the next.
  for (let i = 0; i < 20 && new URL(page.url()).pathname === trace; i++) {
    await follow(page, await wantLink(page, lowScore, "the next low score"));
  }
  check(new URL(page.url()).pathname !== trace && /^\/traces\/[0-9a-f]{32}/.test(new URL(page.url()).pathname),
    `${what}: after the last low score of a trace comes the next trace (${page.url()})`);
}

async function byMouse(page, href) {
  const was = page.url();
  await page.locator(`main a[href="${href.replace(/"/g, '\\"')}"]`).locator("visible=true").first().click();
  await page.waitForURL((url) => url.href !== was);
  await page.waitForLoadState("load");
  // Within a trace a script puts the new content in place.
  await page.waitForSelector("main:not([aria-busy])");
}

/** Tab until the focus is on the link, then Enter. Checks on the way that the focus can be seen. */
async function byKeyboard(page, href) {
  for (let i = 0; i < 600; i++) {
    await page.keyboard.press("Tab");
    const state = await page.evaluate((wanted) => {
      const active = document.activeElement;
      if (active?.getAttribute("href") !== wanted || !active.closest("main")) return null;
      const style = getComputedStyle(active);
      return { outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0, shadow: style.boxShadow !== "none" };
    }, href);
    if (!state) continue;
    if (!state.outline && !state.shadow) check(false, `keyboard: the focus on ${href} cannot be seen`);
    const was = page.url();
    await page.keyboard.press("Enter");
    await page.waitForURL((url) => url.href !== was);
    await page.waitForLoadState("load");
    return;
  }
  throw new Error(`Tab does not reach ${href} on ${page.url()}`);
}

async function attempt(what, run) {
  try {
    await run();
  } catch (error) {
    check(false, `${what}: ${error.message.split("\n")[0]}`);
  }
}

async function ways() {
  for (const [what, options, follow] of [
    ["mouse", {}, byMouse], ["JavaScript off", { javaScript: false }, byMouse], ["keyboard", {}, byKeyboard],
  ]) {
    const { page, faults, close } = await watched(options);
    await attempt(what, () => way(what, page, follow));
    check(faults.length === 0, `${what}: nothing went wrong on the way ${faults.slice(0, 3).join(" | ")}`);
    await close();
  }
  await attempt("without JavaScript", formWithoutScripts);
  await attempt("keys", keys);
}

/** A query is typed and sent without scripts. */
async function formWithoutScripts() {
  const { page, faults, close } = await watched({ javaScript: false });
  await open(page, "/traces");
  await page.fill('main input[name="q"]', 'score."faithfulness" < 0.5');
  await page.press('main input[name="q"]', "Enter");
  await page.waitForURL(/q=/);
  const links = (await hrefs(page)).filter(({ href }) => steps.trace(href));
  check(links.length > 0 && links.every(({ href }) => href.includes(config.traces.agent)),
    `JavaScript off: a query typed into /traces finds the one trace with that score (${links.length} links)`);
  await open(page, `/traces/${config.traces.deep}`);
  const text = await page.textContent("main");
  check(/step 0/.test(text), "JavaScript off: a large trace shows its first spans");
  check(faults.length === 0, `JavaScript off: nothing went wrong ${faults.slice(0, 3).join(" | ")}`);
  await close();
}

/** The shortcuts `j k Enter / ? e l`. */
async function keys() {
  const { page, faults, close } = await watched();
  await open(page, `/runs/${after}/cases`);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  await page.keyboard.press("j");
  const was = page.url();
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.href !== was);
  check(/\/(cases|traces)\//.test(page.url()), `keys: j, k and Enter open a row of the cases (${page.url()})`);

  await open(page, "/traces");
  await page.keyboard.press("/");
  const focused = await page.evaluate(() => document.activeElement?.getAttribute("name"));
  check(focused === "q", `keys: / goes to the query (${focused})`);
  await page.keyboard.type("jkl?e");
  check((await page.inputValue('main input[name="q"]')).endsWith("jkl?e"), "keys: letters typed into a field stay letters");

  await open(page, `/traces/${config.traces.agent}`);
  await page.keyboard.press("?");
  await page.waitForTimeout(200);
  const help = await page.evaluate(() => {
    const box = [...document.querySelectorAll("dialog[open], [role=dialog], #help, [popover]")].find((e) => e.checkVisibility());
    return box?.textContent ?? "";
  });
  check(/next error/i.test(help) && /low score/i.test(help), `keys: ? shows what the keys do (${help.replace(/\s+/g, " ").slice(0, 80)})`);
  await page.keyboard.press("Escape");
  await page.keyboard.press("e");
  await page.waitForURL(/span=/);
  await page.waitForLoadState("load");
  check(/429|too many requests/.test(await page.textContent("main")), `keys: e goes to the span that failed (${page.url()})`);

  await open(page, `/traces/${config.trace}`);
  const here = page.url();
  await page.keyboard.press("l");
  await page.waitForURL((url) => url.href !== here);
  check(/\/traces\/[0-9a-f]{32}/.test(page.url()), `keys: l goes to the next low score (${page.url()})`);
  check(faults.length === 0, `keys: nothing went wrong ${faults.slice(0, 3).join(" | ")}`);
  await close();
}

// --- live ------------------------------------------------------------------------------------------------------------

async function live() {
  const { page, faults, close } = await watched();
  const front = await watched();
  await open(page, "/runs");
  await open(front.page, "/");
  await page.evaluate(() => { globalThis.__sameDocument = true; });
  await front.page.evaluate(() => { globalThis.__sameDocument = true; });
  const oldFront = await front.page.textContent("main");
  const { command, arguments: args, folder, environment, cases } = config.slow;
  const run = spawn(command, args, { cwd: folder, env: environment, stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => run.on("exit", resolve));
  try {
    await page.waitForFunction(() => document.querySelector("main")?.textContent.includes("slow"), null, { timeout: 20_000 });
    check(await page.evaluate(() => globalThis.__sameDocument === true), "live: the list of runs shows a run that began, without a reload");
    const href = (await hrefs(page)).find(({ href }) => steps.run(href) && !config.runs.some((id) => href.includes(id)))?.href;
    if (!href) throw new Error("the list of runs has no link to the run that goes on");
    await open(page, `${href}/cases`);
    await page.evaluate(() => { globalThis.__sameDocument = true; });
    const field = page.locator('main input[name="q"]');
    await field.click();
    await field.pressSequentially("claim ~ sam");
    await page.keyboard.press("ArrowLeft");
    const state = () => page.evaluate(() => ({
      same: globalThis.__sameDocument === true, focus: document.activeElement?.getAttribute("name"),
      text: document.activeElement?.value, caret: document.activeElement?.selectionStart,
      main: document.querySelector("main").textContent.replace(/\s+/g, " "),
    }));
    const first = await state();
    await page.waitForFunction((old) => document.querySelector("main").textContent.replace(/\s+/g, " ") !== old, first.main, { timeout: 20_000 });
    await page.waitForTimeout(1500);
    const second = await state();
    check(second.same && second.main !== first.main, "live: the cases of a run that goes on change without a reload");
    check(second.focus === "q" && second.text === "claim ~ sam" && second.caret === first.caret,
      `live: focus, typed text and caret stay (${second.focus}, ${second.text}, ${second.caret} of ${first.caret})`);
    await open(page, href);
    await page.evaluate(() => { globalThis.__sameDocument = true; });
    const code = await ended;
    await page.waitForFunction((n) => document.querySelector("main").textContent.includes(String(n)), cases, { timeout: 10_000 });
    await page.waitForTimeout(1000);
    const done = await page.evaluate(() => ({ same: globalThis.__sameDocument === true, main: document.querySelector("main").textContent }));
    check(code === 0 && done.same && /completed/i.test(done.main), `live: the run's page shows its end (exit ${code})`);
    const fresh = await front.page.evaluate(() => ({ same: globalThis.__sameDocument === true, main: document.querySelector("main").textContent }));
    check(fresh.same && fresh.main !== oldFront && fresh.main.includes("slow"), "live: the front page shows the latest run by itself");
  } finally {
    if (run.exitCode === null) run.kill("SIGINT");
    await ended;
  }
  check(faults.length === 0, `live: nothing went wrong ${faults.slice(0, 3).join(" | ")}`);
  await close();
  await front.close();
}

// --- screens ---------------------------------------------------------------------------------------------------------

async function screen(where, scheme, width) {
  const { name, status, server } = where;
  const what = `${name} ${scheme} ${width}`;
  const { page, faults, close } = await watched({ scheme, width, expected: status === 200 ? [] : [status], others: [config.empty] });
  try {
    const response = await open(page, where.where, server);
    if (!check(response.status() === status, `${what}: ${where.where} answers ${response.status()}`)) return;
    const problems = [...faults];
    const look = await page.evaluate(() => ({
      overflow: document.documentElement.scrollWidth - innerWidth,
      background: getComputedStyle(document.body).backgroundColor === "rgba(0, 0, 0, 0)"
        ? getComputedStyle(document.documentElement).backgroundColor : getComputedStyle(document.body).backgroundColor,
      titles: document.querySelectorAll("h1").length, title: document.title,
    }));
    const brightness = look.background.match(/\d+/g)?.slice(0, 3).reduce((sum, x) => sum + Number(x), 0) / 3;
    const dark = look.background !== "rgba(0, 0, 0, 0)" && brightness < 100;
    if (dark !== (scheme === "dark")) problems.push(`the background is ${look.background}`);
    if (look.overflow > 1) problems.push(`wider than the window by ${look.overflow} px`);
    if (look.titles !== 1) problems.push(`${look.titles} main headings`);
    if (!look.title) problems.push("no title");
    await page.screenshot({ path: path.join(config.screens, `${name}-${scheme}-${width}.png`), fullPage: name !== "trace-deep" });
    const found = await axe(page);
    problems.push(...found.grave.map((line) => `axe ${line}`));
    check(problems.length === 0, `${what}: ${problems.length ? problems.join(" | ") : "in order"}`);
    for (const line of found.minor) note(`${what}: axe ${line}`);
  } catch (error) {
    check(false, `${what}: ${error.message.split("\n")[0]}`);
  } finally {
    await close();
  }
}

async function allScreens() {
  for (const where of screens()) {
    for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["light", 390]]) await screen(where, scheme, width);
  }
  note(`screenshots in ${config.screens}`);
}

// --- hostile ---------------------------------------------------------------------------------------------------------

/** That the strings are dangerous and that the trap works: on a page that does not escape them, some run. */
async function control() {
  const { page, pwned, close } = await watched({ others: ["about:"] });
  await page.setContent(`<title>x</title>${config.attacks.filter((a) => !/^<(base|meta|template)|<\/title|-->/.test(a)).join("\n<p>")}`);
  await page.waitForTimeout(500);
  check(pwned.length > 5, `hostile: unescaped and without a policy, ${pwned.length} of them run`);
  await close();
}

async function hostile() {
  await control();
  const { page, faults, pwned, close } = await watched({ expected: [400, 404, 410], others: [config.hostile] });
  const queue = ["/", "/runs", "/traces", "/setup", "/health"];
  // Text that comes back from the address.
  for (const text of config.attacks) {
    queue.push(`/traces?q=${escape(text)}`, `/traces?q=${escape(`text ~ ${JSON.stringify(text)}`)}`, `/no/${escape(text)}`);
  }
  for (const text of config.attacks.slice(0, 12)) {
    queue.push(`/runs/${escape(text)}`, `/runs/latest/cases?q=${escape(text)}`, `/runs/latest/cases?sort=${escape(text)}`,
      `/traces/${escape(text)}`, `/cases/${escape(text)}/${escape(text)}`, `/traces?sort=${escape(text)}&after=${escape(text)}`,
      `/traces?${escape(text)}=${escape(text)}`, `/traces?format=${escape(text)}`);
  }
  const perKind = new Map();
  const seen = new Set(queue);
  const kindOf = (where) => where.split("?")[0].replace(/[0-9a-f]{32}/g, "T").replace(/\/runs\/[^/]+/, "/runs/R").replace(/\/cases\/.*/, "/cases/C")
    + (/[?&](format|view|span|only)=/.exec(where)?.[0] ?? "");
  const markup = [];
  let pages = 0;
  const begun = Date.now();
  while (queue.length && Date.now() - begun < (config.hostileSeconds ?? 240) * 1000) {
    const where = queue.shift();
    const response = await open(page, where, config.hostile).catch((error) => ({ status: () => error.message.split("\n")[0] }));
    if (typeof response.status() === "string") {
      // Downloads are no pages.
      if (!/Download is starting|ERR_ABORTED/.test(response.status())) markup.push(`${where}: ${response.status()}`);
      continue;
    }
    if (response.status() >= 500) markup.push(`${where}: ${response.status()}`);
    pages += 1;
    if (!(response.headers()["content-type"] ?? "").startsWith("text/html")) continue;
    for (const found of await foreignMarkup(page)) markup.push(`${where}: ${found}`);
    await page.evaluate(() => { for (const details of document.querySelectorAll("details")) details.open = true; });
    for (const { href } of await hrefs(page, "a[href]")) {
      const url = new URL(href, page.url());
      if (url.origin !== config.hostile) {
        markup.push(`${where}: a link to ${href.slice(0, 80)}`);
        continue;
      }
      const next = url.pathname + url.search;
      const kind = kindOf(next);
      // A document in JSON is no page; a few of each kind show that they are sent as what they are.
      if (seen.has(next) || (perKind.get(kind) ?? 0) >= (/format=/.test(kind) ? 2 : 25)) continue;
      seen.add(next);
      perKind.set(kind, (perKind.get(kind) ?? 0) + 1);
      queue.push(next);
    }
  }
  note(`hostile: ${pages} pages in ${Math.round((Date.now() - begun) / 1000)} s, ${queue.length} left; ${[...perKind].map(([k, n]) => `${k} ${n}`).join(", ").slice(0, 600)}`);
  check(pages > 250, `hostile: ${pages} pages visited`);
  check(pwned.length === 0, `hostile: ${pwned.length} scripts ran ${pwned.slice(0, 3).join(" | ")}`);
  check(markup.length === 0, `hostile: ${markup.length} elements, attributes or links of no page of ours ${markup.slice(0, 5).join(" | ")}`);
  check(faults.length === 0, `hostile: ${faults.length} faults ${[...new Set(faults)].slice(0, 5).join(" | ")}`);
  await close();
}

async function main() {
  fs.mkdirSync(config.screens, { recursive: true });
  const browser = await launch();
  note(`Chromium ${browser.version()}`);
  const scenarios = { way: ways, live, screens: allScreens, hostile };
  for (const [name, run] of Object.entries(scenarios)) {
    if (config.only.includes(name)) await attempt(name, run);
  }
  await browser.close();
  if (failed()) {
    console.log(`${failed()} checks failed`);
    process.exitCode = 1;
  }
}

main();
