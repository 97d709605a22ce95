// Filters and sorts the table of cases. The rows are data in the document; nothing is fetched.
"use strict";
(() => {
  const { words, traces, evaluators, run, template, queries, columns } = JSON.parse(document.getElementById("data").textContent);
  const { id, claim, expected, output, change, base, latency, trace, span, start } = columns;
  const n = id ? id.length : 0;
  const word = (place) => (place < 0 ? null : words[place]);
  const form = document.getElementById("filter");
  const table = document.getElementById("cases-table");
  const body = table.tBodies[0];
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const PAGE = 60;
  const NONE = "-2";
  const searched = new Array(n);
  for (let i = 0; i < n; i++) searched[i] = (id[i] + " " + claim[i]).toLowerCase();
  let order = Array.from({ length: n }, (_, i) => i);
  let hits = order;
  let shown = PAGE;

  // --- what to show

  const selects = [...form.querySelectorAll("select")];
  for (const select of selects) {
    const counts = new Map();
    for (const place of columns[select.name] ?? []) counts.set(place, (counts.get(place) ?? 0) + 1);
    for (const [place, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      select.append(new Option(`${word(place) ?? "none"} (${count})`, String(place)));
    }
  }

  function filter() {
    const terms = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = selects.filter((select) => select.value !== "").map((select) => [columns[select.name], Number(select.value)]);
    hits = order.filter((i) => wanted.every(([column, place]) => column[i] === place) && terms.every((term) => searched[i].includes(term)));
    shown = PAGE;
    draw();
  }

  // --- drawing

  const element = (name, props, ...children) => {
    const made = Object.assign(document.createElement(name), props);
    made.append(...children);
    return made;
  };
  const cell = (content, className = "") => element("td", { className }, content ?? "–");
  const milliseconds = (ms) => (ms === null ? null : ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : ms < 1 ? `${(ms * 1000).toFixed(0)} µs` : `${ms < 100 ? ms.toFixed(1) : ms.toFixed(0)} ms`);
  const changes = { regressed: ["bad", "▼ regressed"], lost: ["bad", "! lost"], improved: ["good", "▲ improved"] };

  function answer(place, i) {
    const text = word(place);
    if (text === null) return null;
    const right = expected[i] < 0 ? null : place === expected[i];
    return element("span", { className: right === null ? "badge" : right ? "badge ok" : "badge error" }, (right === null ? "" : right ? "✓ " : "✗ ") + text);
  }

  function address(hex, i, spanId) {
    const at = (shift) => (start ? String(Math.max(0, start[i] + shift)) : "");
    const places = {
      trace_id: hex, span_id: spanId ?? "", run_id: run, kql_gzip: queries[hex] ?? "",
      start_unix_ms: at(0), from_unix_ms: at(-3600000), to_unix_ms: at(3600000),
    };
    const fill = (_, name) => (name === "target" ? (spanId ? `spans/${spanId}` : `traces/${hex}`) : encodeURIComponent(places[name]));
    return template.replace(/\{(trace_id|span_id|start_unix_ms|from_unix_ms|to_unix_ms|run_id|kql_gzip|target)\}/g, fill);
  }

  function traceLink(hex, i, spanId, text) {
    const title = `trace ${hex}`;
    return template ? element("a", { href: address(hex, i, spanId), title, className: "mono", rel: "noreferrer" }, text) : element("code", { title }, text);
  }

  function row(i) {
    const open = element("button", { type: "button", className: "fold", title: "All of this case" }, "▸");
    open.setAttribute("aria-expanded", "false");
    const head = element("th", { scope: "row" }, open, element("span", { className: "id" }, id[i] + (columns.repeat ? ` #${columns.repeat[i]}` : "")));
    const cells = [head, cell(element("div", { className: "two" }, claim[i]), "text"), cell(word(expected[i]))];
    if (base) cells.push(cell(answer(base[i], i)));
    cells.push(cell(answer(output[i], i)));
    if (change) {
      const [tone, text] = changes[word(change[i])] ?? ["muted", word(change[i])];
      cells.push(cell(element("span", { className: tone }, text)));
    }
    for (const name of evaluators) {
      const value = columns[`score.${name}`][i];
      cells.push(cell(value === null ? null : String(value), "number"));
    }
    cells.push(cell(milliseconds(latency[i]), "number"));
    const hex = trace[i] < 0 ? null : traces[trace[i]];
    cells.push(cell(hex && traceLink(hex, i, span[i], `${hex.slice(0, 8)}…`)));
    const line = element("tr", {}, ...cells);
    open.addEventListener("click", () => {
      const opened = open.getAttribute("aria-expanded") === "true";
      open.setAttribute("aria-expanded", String(!opened));
      open.textContent = opened ? "▸" : "▾";
      if (opened) line.nextSibling.remove();
      else line.after(element("tr", { className: "opened" }, Object.assign(cell(details(i, hex)), { colSpan: cells.length })));
    });
    return line;
  }

  function details(i, hex) {
    const list = element("dl", { className: "facts" });
    const add = (name, ...value) => list.append(element("dt", {}, name), element("dd", {}, ...value));
    add("Claim", claim[i]);
    if (hex) add("Trace", traceLink(hex, i, span[i], hex), element("span", { className: "muted" }, ` span ${span[i] ?? "–"}`));
    const before = columns.base_trace && columns.base_trace[i] >= 0 ? traces[columns.base_trace[i]] : null;
    if (before) add("Base’s trace", element("code", {}, before));
    if (hex) add("In the terminal", element("code", {}, before ? `spanscore trace ${hex} --diff ${before}` : `spanscore trace ${hex}`));
    return list;
  }

  function draw() {
    const lines = document.createDocumentFragment();
    for (const i of hits.slice(0, shown)) lines.append(row(i));
    body.replaceChildren(lines);
    found.textContent = hits.length === n ? `${n.toLocaleString("en")} trials` : `${hits.length.toLocaleString("en")} of ${n.toLocaleString("en")} trials`;
    if (hits.length === 0) body.append(element("tr", {}, Object.assign(cell("No trial of this table is like that.", "muted"), { colSpan: table.tHead.rows[0].cells.length })));
    more.hidden = hits.length <= shown;
  }

  // --- sorting

  for (const th of table.tHead.rows[0].cells) {
    const column = th.dataset.score ? columns[`score.${th.dataset.score}`] : columns[th.dataset.key];
    if (!column) continue;
    const asText = ["expected", "output", "base", "change"].includes(th.dataset.key);
    const button = element("button", { type: "button", className: "sort" }, ...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const down = th.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (i) => (asText ? word(column[i]) : column[i]);
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        // What is missing stands last either way.
        if (x === null || y === null) return (x === null) - (y === null);
        const by = typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : String(x) > String(y) ? 1 : 0;
        return down ? -by : by;
      };
      order = [...order].sort(compare);
      filter();
    });
  }

  // --- the address: #change=regressed, #expected=NEE&output=True

  function fromAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const names = ["q", ...selects.map((select) => select.name)];
    if (!names.some((name) => asked.has(name))) return false;
    form.reset();
    for (const option of form.querySelectorAll("option.asked")) option.remove();
    form.elements.q.value = asked.get("q") ?? "";
    for (const select of selects) {
      if (!asked.get(select.name)) continue;
      const place = String(words.indexOf(asked.get(select.name)));
      const known = Number(place) >= 0 && [...select.options].some((option) => option.value === place);
      // What no row has is asked for all the same: the answer is no row, not all of them.
      if (!known) select.append(Object.assign(new Option(`${asked.get(select.name)} (0)`, NONE), { className: "asked" }));
      select.value = known ? place : NONE;
    }
    filter();
    document.getElementById("cases").scrollIntoView();
    return true;
  }

  let timer = 0;
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 5); });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  more.querySelector("button").addEventListener("click", () => { shown += 5 * PAGE; draw(); });
  addEventListener("hashchange", fromAddress);
  form.hidden = false;
  if (!fromAddress()) draw();
})();
