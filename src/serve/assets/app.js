/*
 * What pages do beyond links and forms: they keep themselves up to date, listen to the keyboard, and copy ids.
 * Everything works without this file; nothing here holds state that the address does not hold.
 *
 * Elements ask for it by attributes:
 *   main[data-live]      names, apart by blanks; a change of one of them makes the page fetch itself again
 *   [data-rows]          a table whose rows j and k walk through; [data-open] in a row is what Enter opens
 *   [data-search]        the box that / goes to
 *   [data-error]         a row or element that e goes to; [data-low] one that l goes to; where these are links with
 *                        data-jump they are followed instead (the next trace with a low score)
 *   [data-next], [data-previous]   links that n and p follow
 *   [data-copy]          a button that copies the attribute's text
 *   form[data-post]      a form that is sent by POST with our header; its answer's `url` is shown in [data-result]
 * After the content of main was replaced, main gets the event `spanscore:swap`.
 */

const root = document.documentElement;
const main = document.getElementById('main');
root.classList.add('js');

/* ---------------------------------------------------------------- live refresh */

const LEAST_PAUSE = 1000; // ms between two fetches of the page
const live = { source: null, timer: 0, last: 0, missed: false, shown: main.innerHTML, busy: false };

function sayLive(text, on) {
  const label = document.getElementById('live');
  if (label && label.textContent !== text) label.textContent = text;
  label?.classList.toggle('on', on);
}

function topics() {
  const shown = main.dataset.live || main.querySelector('[data-live]')?.dataset.live;
  return (shown ?? '').split(' ').filter(Boolean);
}

function connect() {
  if (live.source || !topics().length || !('EventSource' in window)) return;
  const source = new EventSource('/live');
  live.source = source;
  source.addEventListener('open', () => sayLive('live', true));
  source.addEventListener('change', (event) => {
    if (topics().includes(event.data) || event.data === 'all') schedule();
  });
  source.addEventListener('error', () => {
    sayLive('not connected', false);
    // The browser tries again by itself unless the server refused.
    if (source.readyState === EventSource.CLOSED) {
      live.source = null;
      setTimeout(connect, 10000);
    }
  });
}

function disconnect() {
  live.source?.close();
  live.source = null;
}

function schedule() {
  if (document.hidden) {
    live.missed = true;
    return;
  }
  if (live.timer) return;
  const wait = Math.max(150, live.last + LEAST_PAUSE - Date.now());
  live.timer = setTimeout(() => {
    live.timer = 0;
    refresh();
  }, wait);
}

/** Somebody is selecting text or reads a dialog: not now. */
function occupied() {
  const selection = getSelection();
  return (selection && !selection.isCollapsed && main.contains(selection.anchorNode)) ||
    document.querySelector('dialog[open]') !== null;
}

async function refresh() {
  if (live.busy || occupied()) {
    setTimeout(schedule, LEAST_PAUSE);
    return;
  }
  live.busy = true;
  live.last = Date.now();
  const address = location.href;
  try {
    const response = await fetch(address, { headers: { accept: 'text/html' }, cache: 'no-store' });
    const text = await response.text();
    const page = new DOMParser().parseFromString(text, 'text/html');
    const fresh = page.getElementById('main');
    // Meanwhile the user may have gone elsewhere, or begun to select.
    if (!fresh || location.href !== address || occupied()) return;
    if (fresh.innerHTML !== live.shown) {
      live.shown = fresh.innerHTML;
      swap(fresh);
      document.title = page.title;
    }
  } catch {
    sayLive('not connected', false);
  } finally {
    live.busy = false;
  }
}

/** Replaces the content of main and keeps what the user has done to it. */
function swap(fresh) {
  const kept = remember();
  main.dataset.live = fresh.dataset.live ?? '';
  main.replaceChildren(...fresh.childNodes);
  restore(kept);
  decorate();
  main.dispatchEvent(new CustomEvent('spanscore:swap', { bubbles: true }));
}

/** A name for an element that finds it again in a newer version of the page. */
function nameOf(element) {
  if (element.id) return `#${element.id}`;
  const mark = element.getAttribute('href') ?? element.getAttribute('name') ?? element.dataset.copy ??
    element.querySelector?.('summary')?.textContent ?? '';
  const same = [...main.querySelectorAll(element.localName)].filter((other) => {
    const theirs = other.getAttribute('href') ?? other.getAttribute('name') ?? other.dataset.copy ??
      other.querySelector?.('summary')?.textContent ?? '';
    return theirs === mark;
  });
  return `${element.localName}\n${mark}\n${same.indexOf(element)}`;
}

function find(name) {
  if (name.startsWith('#')) return document.getElementById(name.slice(1));
  for (const element of main.querySelectorAll(name.split('\n')[0])) {
    if (nameOf(element) === name) return element;
  }
  return null;
}

function remember() {
  const focused = main.contains(document.activeElement) && document.activeElement !== main ? document.activeElement : null;
  const typed = [...main.querySelectorAll('input, textarea, select')].filter((field) => field.value !== initial(field));
  const current = main.querySelector('tr.current [data-open]');
  return {
    focus: focused && nameOf(focused),
    caret: focused && 'selectionStart' in focused ? [focused.selectionStart, focused.selectionEnd] : null,
    typed: typed.map((field) => [nameOf(field), field.value]),
    details: [...main.querySelectorAll('details')].map((part) => [nameOf(part), part.open]),
    current: current && nameOf(current),
    scroll: [...main.querySelectorAll('.scroll')].map((box) => [box.scrollLeft, box.scrollTop]),
    page: [scrollX, scrollY],
  };
}

/** What a field held when the page came. */
function initial(field) {
  if (field.localName === 'select') return [...field.options].find((option) => option.defaultSelected)?.value ?? field.options[0]?.value;
  return field.defaultValue;
}

function restore(kept) {
  for (const [name, open] of kept.details) {
    const part = find(name);
    if (part) part.open = open;
  }
  for (const [name, value] of kept.typed) {
    const field = find(name);
    if (field) field.value = value;
  }
  main.querySelectorAll('.scroll').forEach((box, i) => {
    if (kept.scroll[i]) [box.scrollLeft, box.scrollTop] = kept.scroll[i];
  });
  if (kept.current) find(kept.current)?.closest('tr')?.classList.add('current');
  const focus = kept.focus && find(kept.focus);
  if (focus) {
    focus.focus({ preventScroll: true });
    if (kept.caret && kept.caret[0] !== null) {
      try {
        focus.setSelectionRange(...kept.caret);
      } catch { /* not every field has a caret */ }
    }
  }
  scrollTo(...kept.page);
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    // A hidden page holds no connection: browsers allow few of them to one server.
    disconnect();
    if (topics().length) sayLive('paused', false);
    live.missed = true;
  } else {
    connect();
    if (live.missed && topics().length) schedule();
    live.missed = false;
  }
});

/* ---------------------------------------------------------------- keyboard */

const KEYS = [
  ['j', 'next row'],
  ['k', 'previous row'],
  ['Enter', 'open the row'],
  ['/', 'search or filter'],
  ['e', 'next error'],
  ['l', 'next low score'],
  ['n', 'next in the list, next page'],
  ['p', 'previous in the list, previous page'],
  ['g', 'then l, r, t, s or h: latest run, runs, traces, setup, health'],
  ['?', 'this help'],
  ['Esc', 'close, leave the box'],
];
const PLACES = { l: '/', r: '/runs', t: '/traces', s: '/setup', h: '/health' };
let going = 0; // until when (ms) a letter after g means a place

function rows() {
  return [...main.querySelectorAll('[data-rows] > tbody > tr')].filter((row) => row.offsetParent !== null);
}

function mark(row) {
  main.querySelectorAll('tr.current').forEach((other) => other.classList.remove('current'));
  row.classList.add('current');
  const link = row.querySelector('[data-open]') ?? row.querySelector('a[href]');
  link?.focus({ preventScroll: true });
  row.scrollIntoView({ block: 'nearest' });
}

function step(by) {
  const all = rows();
  if (!all.length) return false;
  const at = all.findIndex((row) => row.classList.contains('current') || row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  mark(all[next]);
  return true;
}

/** Goes to the next element with that mark, from the current one on and round. */
function jump(attribute) {
  const link = main.querySelector(`a[${attribute}][data-jump]`);
  if (link) {
    link.click();
    return true;
  }
  const all = [...main.querySelectorAll(`[${attribute}]`)].filter((element) => element.getClientRects().length > 0);
  if (!all.length) return false;
  const here = main.querySelector('tr.current, [aria-selected="true"]') ?? document.activeElement;
  const behind = all.find((element) => here && here !== document.body && element !== here && !element.contains(here) &&
    (here.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING));
  const target = behind ?? all[0];
  if (target.localName === 'tr') mark(target);
  else {
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: 'center' });
  }
  return true;
}

function follow(selector) {
  const link = main.querySelector(selector);
  link?.click();
  return Boolean(link);
}

function search() {
  const box = main.querySelector('[data-search]');
  box?.focus();
  box?.select();
  return Boolean(box);
}

const typing = (element) => element?.isContentEditable || /^(input|textarea|select)$/.test(element?.localName ?? '');

document.addEventListener('keydown', (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing(event.target)) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  if (document.querySelector('dialog[open]')) return;
  const soon = going > Date.now();
  going = 0;
  let done = true;
  if (soon && PLACES[event.key]) location.assign(PLACES[event.key]);
  else {
    switch (event.key) {
      case 'j': done = step(1); break;
      case 'k': done = step(-1); break;
      case 'Enter': done = event.target === document.body || event.target === main ? follow('tr.current [data-open]') : false; break;
      case '/': done = search(); break;
      case 'e': done = jump('data-error'); break;
      case 'l': done = jump('data-low'); break;
      case 'n': done = follow('[data-next]'); break;
      case 'p': done = follow('[data-previous]'); break;
      case 'g': going = Date.now() + 1500; break;
      case '?': help(); break;
      default: done = false;
    }
  }
  if (done) event.preventDefault();
});

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function help() {
  let dialog = document.getElementById('help');
  if (!dialog) {
    const lines = KEYS.flatMap(([key, what]) => [make('dt', {}, make('kbd', {}, key)), make('dd', {}, what)]);
    dialog = make('dialog', { id: 'help' },
      make('h2', { id: 'help-title' }, 'Keyboard'),
      make('dl', { className: 'facts' }, ...lines),
      make('form', { method: 'dialog', className: 'actions' }, make('button', { autofocus: true }, 'Close')));
    dialog.setAttribute('aria-labelledby', 'help-title');
    document.body.append(dialog);
  }
  dialog.showModal();
}

/* ---------------------------------------------------------------- buttons */

document.addEventListener('click', async (event) => {
  const button = event.target.closest?.('[data-copy]');
  if (!button) return;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed';
  }
  setTimeout(() => { button.textContent = before; }, 1500);
});

document.addEventListener('submit', async (event) => {
  const form = event.target.closest?.('form[data-post]');
  if (!form) return;
  event.preventDefault();
  const result = form.querySelector('[data-result]');
  const button = form.querySelector('button');
  button.disabled = true;
  result.textContent = 'Sending …';
  try {
    const response = await fetch(form.action, { method: 'POST', headers: { 'x-spanscore': '1', accept: 'application/json' } });
    const answer = await response.json();
    if (response.ok) result.replaceChildren(`${answer.message} `, make('a', { href: answer.url }, 'Open its trace'));
    else result.textContent = answer.error ?? `The server answered ${response.status}.`;
  } catch (error) {
    result.textContent = `The server cannot be reached: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});

/* ---------------------------------------------------------------- start */

/** What the script adds to the content of main. */
function decorate() {
  for (const time of main.querySelectorAll('time[datetime]')) {
    const date = new Date(time.dateTime);
    if (!Number.isNaN(date.getTime())) time.title = `${date.toLocaleString()} (local time)`;
  }
}

decorate();
if (!document.hidden) connect();

const hint = document.getElementById('keys');
hint?.removeAttribute('hidden');
hint?.addEventListener('click', help);
