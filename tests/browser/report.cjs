// The report in one file, opened from the disk as from a mail. Started by ../report_check.py with the path of a JSON file.
"use strict";

const path = require("node:path");
const { axe, check, config, failed, launch, note, watched } = require("./watched.cjs");

/** Types a filter and waits until the table shows its answer; milliseconds. */
async function filter(page, words) {
  return page.evaluate((words) => new Promise((done) => {
    const input = document.getElementById("q");
    const body = document.querySelector("#cases-table tbody");
    const begun = performance.now();
    const observer = new MutationObserver(() => {
      observer.disconnect();
      // After the frame in which it is drawn.
      requestAnimationFrame(() => setTimeout(() => done({ ms: performance.now() - begun, rows: body.rows.length, found: document.getElementById("found").textContent })));
    });
    observer.observe(body, { childList: true });
    input.value = words;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }), words);
}

async function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
}

async function main() {
  const browser = await launch();
  note(`Chromium ${browser.version()}`);
  for (const [name, options] of Object.entries({
    light: {}, dark: { scheme: "dark" }, narrow: { width: 390, height: 844 }, "without-scripts": { javaScript: false },
  })) {
    const requests = [];
    const { page, faults, pwned, close } = await watched(options);
    page.on("request", (request) => { if (request.url() !== config.report) requests.push(request.url()); });
    await page.goto(config.report, { waitUntil: "load" });
    await page.screenshot({ path: path.join(config.screens, `report-${name}.png`), fullPage: true });
    check(await overflow(page) <= 0, `report ${name}: nothing sticks out (${await overflow(page)} px)`);
    check((await page.textContent("#verdict")).includes("FAIL"), `report ${name}: the verdict is there`);
    if (options.javaScript === false) {
      check((await page.$$("#cases-table tbody tr")).length > 10, `report ${name}: the first cases stand there`);
    } else {
      const found = await axe(page);
      check(found.grave.length === 0, `report ${name}: accessible ${found.grave.slice(0, 3).join(" | ")}`);
      const times = [];
      for (const words of ["kinase", "kinase insulin", "case-00042", "nothing has this", ""]) {
        const answer = await filter(page, words);
        times.push(answer.ms);
        note(`${JSON.stringify(words)}: ${answer.found}, ${answer.ms.toFixed(0)} ms`);
      }
      check(Math.max(...times) < 100, `report ${name}: filter answers in at most ${Math.max(...times).toFixed(0)} ms`);
      await page.goto(`${config.report}#change=regressed`);
      await page.waitForFunction(() => /of/.test(document.getElementById("found").textContent));
      const shown = await page.$$eval("#cases-table tbody tr td:nth-child(6)", (cells) => cells.map((cell) => cell.textContent));
      check(shown.length > 0 && shown.every((text) => text.includes("regressed")), `report ${name}: a count leads to its cases (${shown.length} shown)`);
      await page.click("#cases-table .fold");
      check((await page.textContent("tr.opened")).includes("spanscore trace"), `report ${name}: a case opens`);
      await page.screenshot({ path: path.join(config.screens, `report-${name}-filtered.png`) });
    }
    const foreign = await page.evaluate(() => [...document.querySelectorAll("img, iframe, object, embed, base, link, b b, [onerror], [onload]")].map((e) => e.outerHTML.slice(0, 80)));
    check(foreign.length === 0, `report ${name}: no markup of the dataset's ${foreign.slice(0, 3).join(" | ")}`);
    check(requests.length === 0, `report ${name}: fetches nothing ${requests.slice(0, 3).join(" ")}`);
    check(faults.length === 0 && pwned.length === 0, `report ${name}: no fault ${[...faults, ...pwned].slice(0, 3).join(" | ")}`);
    await close();
  }
  const { page, close } = await watched({ scheme: "dark" });
  await page.goto(config.report, { waitUntil: "load" });
  const printed = await page.pdf({ path: path.join(config.screens, "report.pdf"), format: "A4" });
  await page.emulateMedia({ media: "print", colorScheme: "dark" });
  const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  check(printed.length > 10_000 && paper === "rgb(255, 255, 255)", `report printed: ${printed.length} bytes on ${paper}`);
  await page.screenshot({ path: path.join(config.screens, "report-printed.png"), fullPage: true });
  await close();
  await browser.close();
  process.exitCode = failed() ? 1 : 0;
}

main();
