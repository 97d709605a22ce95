/*
 * Another operation of the same trace without a jump: where a link leads to the page that is open, only the content of main
 * is fetched and put in place, and the list stays where it was scrolled to. Without this script the same links load the page.
 */

const main = document.getElementById('main');
let shown = location.pathname + location.search;
let wanted = 0; // number of the last way begun; slower answers to earlier ones are dropped

/** The address of a link that selects something on this page, or null. */
function within(link) {
  const to = new URL(link.href, location.href);
  const here = to.origin === location.origin && to.pathname === location.pathname && to.searchParams.has('span');
  // A place on the page that is open is the browser's business.
  if (to.search === location.search && to.hash) return null;
  return here && !to.searchParams.has('format') && !link.hasAttribute('download') ? to : null;
}

async function go(to, push) {
  const mine = ++wanted;
  main.setAttribute('aria-busy', 'true');
  let page;
  try {
    const response = await fetch(to.pathname + to.search, { headers: { accept: 'text/html' }, cache: 'no-store' });
    if (!response.ok) throw new Error(String(response.status));
    page = new DOMParser().parseFromString(await response.text(), 'text/html');
  } catch {
    location.assign(to);
    return;
  }
  const fresh = page.getElementById('main');
  if (mine !== wanted || !fresh) return;
  const scroll = [scrollX, scrollY];
  shown = to.pathname + to.search;
  if (push) history.pushState(null, '', shown);
  main.removeAttribute('aria-busy');
  main.dataset.live = fresh.dataset.live ?? '';
  main.replaceChildren(...fresh.childNodes);
  document.title = page.title;
  scrollTo(...scroll);
  const row = document.getElementById('here');
  row?.scrollIntoView({ block: 'nearest' });
  row?.querySelector('[data-open]')?.focus({ preventScroll: true });
  main.dispatchEvent(new CustomEvent('spanscore:swap', { bubbles: true }));
}

if (main && location.pathname.startsWith('/traces/')) {
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.('#main a[href]');
    const to = link && within(link);
    if (!to) return;
    event.preventDefault();
    go(to, true);
  });
  addEventListener('popstate', () => {
    if (location.pathname + location.search !== shown) go(new URL(location.href), false);
  });
}
