// First paint of pages in fresh contexts, and when they were there whole, in milliseconds since the navigation began, as
// JSON on stdout.
"use strict";

const { config, launch } = require("./watched.cjs");

async function firstPaint(browser, where) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  await page.goto(config.ui + where, { waitUntil: "load" });
  const paint = await page.evaluate(() => new Promise((resolve) => {
    const look = () => {
      const entry = performance.getEntriesByName("first-paint")[0];
      const { loadEventEnd } = performance.getEntriesByType("navigation")[0];
      if (entry && loadEventEnd) resolve({ paint: entry.startTime, whole: loadEventEnd });
      else setTimeout(look, 5);
    };
    look();
  }));
  await context.close();
  return paint;
}

async function main() {
  const browser = await launch();
  const times = Object.fromEntries(Object.keys(config.paths).map((name) => [name, []]));
  for (let i = 0; i < config.rounds + 2; i++) {
    for (const [name, where] of Object.entries(config.paths)) {
      const paint = await firstPaint(browser, where);
      // The first two warm the browser up.
      if (i >= 2) times[name].push(paint);
    }
  }
  await browser.close();
  console.log(JSON.stringify(times));
}

main();
