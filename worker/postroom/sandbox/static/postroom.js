// The script of the inbox. Without it every page works with links and forms. It adds live updates,
// replaces only the letter's pane after a click, and handles keyboard shortcuts.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;
const layout = $('#layout');

for (const control of $$('.needs-script')) control.hidden = false;

// ---------- messages to the user

function announce(text) {
  const region = $('#announcement');
  if (region) region.textContent = text;
}

function toast(text) {
  $('.toast')?.remove();
  const box = Object.assign(document.createElement('div'), { className: 'toast', textContent: text });
  box.setAttribute('role', 'status');
  document.body.append(box);
  setTimeout(() => box.remove(), 2500);
}

// ---------- the letter's pane, replaced in place

async function fetchPage(url) {
  const response = await fetch(url, { headers: { accept: 'text/html' } });
  return new DOMParser().parseFromString(await response.text(), 'text/html');
}

function replace(selector, page) {
  const current = $(selector), next = $(selector, page);
  if (!current || !next) return false;
  current.replaceWith(document.adoptNode(next));
  for (const control of $$(`${selector} .needs-script`)) control.hidden = false;
  return true;
}

// While the sidebar is open over the list it is not replaced: a new element would not be the :target of the URL.
function replaceSidebar(page) {
  if (location.hash !== '#sidebar') replace('#sidebar', page);
}

let requests = 0;

async function show(url, { push = true, focus } = {}) {
  const request = ++requests;
  let page;
  try { page = await fetchPage(url); } catch { location.href = url; return; }
  if (request !== requests) return;  // a later click has replaced this request
  if (!layout?.dataset.view || !replace('#letter', page)) { location.href = url; return; }
  if (push) history.pushState(null, '', url);
  currentPath = location.pathname + location.search;
  document.title = page.title;
  layout.dataset.view = $('#layout', page).dataset.view;
  replaceSidebar(page);
  markOpen(new URL(url, location.href).pathname);
  if (focus) $(focus)?.focus();
  if (innerWidth <= 720) scrollTo(0, 0);
}

function markOpen(path) {
  for (const row of $$('.letter-row')) {
    const open = new URL(row.href).pathname === path;
    row.toggleAttribute('aria-current', open);
    if (!open) continue;
    row.setAttribute('aria-current', 'true');
    row.classList.remove('is-new', 'just-in');
    $('.dot', row).replaceChildren();
  }
}

// A change of the fragment alone, which opens the sidebar, does not load another page.
let currentPath = location.pathname + location.search;
addEventListener('popstate', () => {
  if (currentPath !== location.pathname + location.search) show(location.href, { push: false });
});

// ---------- live updates

const newest = () => Number(layout.dataset.newest);
let held = [];
let refreshTimer = null;

function refresh() {
  refreshTimer ??= setTimeout(async () => {
    refreshTimer = null;
    try { update(await fetchPage(layout.dataset.list)); } catch { /* the stream reconnects when the inbox is back */ }
  }, 200);
}

function update(page) {
  const next = $('#layout', page);
  if (!next || !layout.dataset.view !== !next.dataset.view) { location.reload(); return; }
  const last = newest();
  layout.dataset.newest = next.dataset.newest;
  replaceSidebar(page);
  const received = $('#last-received', page);
  if (received) $('#last-received').textContent = received.textContent;
  const list = $('#letter-rows'), fresh = $('#letter-rows', page);
  if (!list !== !fresh) { location.reload(); return; }
  if (!list) return;
  const arrived = $$('li[data-letter]', fresh).filter(item => Number(item.dataset.letter) > last);
  const reading = $('#list').scrollTop > 8 || list.contains(document.activeElement);
  if (reading) { updateRows(list, fresh); hold(arrived); } else replaceList(fresh, arrived);
  if (arrived.length) announce(arrived.length === 1 ? `New letter: ${$('.subj', arrived[0]).textContent}` : `${arrived.length} new letters`);
}

function replaceList(fresh, arrived) {
  const open = $('.letter-row[aria-current]');
  for (const item of arrived) $('.letter-row', item).classList.add('just-in');
  $('#letter-rows').replaceWith(document.adoptNode(fresh));
  if (open) markOpen(new URL(open.href).pathname);
  held = [];
  $('#new-letters').hidden = true;
}

// Show marks and deletions at once, since they move no row above them.
function updateRows(list, fresh) {
  const known = new Map($$('li[data-letter]', fresh).map(item => [item.dataset.letter, item]));
  const oldest = Math.min(...[...known.keys()].map(Number));
  for (const item of $$('li[data-letter]', list)) {
    const next = known.get(item.dataset.letter);
    if (next) $('.letter-row', item).classList.toggle('is-new', $('.letter-row', next).classList.contains('is-new'));
    else if (Number(item.dataset.letter) > oldest) item.remove();
  }
}

// While the user reads the list, new letters are held back behind a button instead of moving the rows.
function hold(arrived) {
  held.push(...arrived);
  const button = $('#new-letters');
  button.textContent = `Show ${held.length === 1 ? 'the new letter' : `${held.length} new letters`}`;
  button.hidden = held.length === 0;
}

function showNewLetters() {
  if ($('#new-letters')?.hidden !== false) return;
  $('#list').scrollTop = 0;
  document.activeElement?.blur();
  held = [];
  $('#new-letters').hidden = true;
  refresh();
}

let stream = null;

function listen() {
  stream = new EventSource(`/api/v1/events?after=${newest()}`);
  stream.onopen = () => setLive(true);
  stream.onerror = () => setLive(false, 'Not connected.');
  for (const kind of ['letter', 'changed', 'lagged']) stream.addEventListener(kind, refresh);
}

function setLive(live, text = 'Live.') {
  $('#pulse')?.classList.toggle('is-paused', !live);
  const status = $('#live-status');
  if (status) status.textContent = layout.dataset.view ? text : live ? 'Listening' : 'Not connected';
}

function pause(button) {
  const paused = button.getAttribute('aria-pressed') !== 'true';
  button.setAttribute('aria-pressed', String(paused));
  button.lastChild.textContent = paused ? 'Resume' : 'Pause';
  if (paused) { stream.close(); setLive(false, 'Paused.'); } else { listen(); refresh(); }
}

if (layout) listen();

// ---------- clicks

function toggleTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
}

function copy(id) {
  const source = document.getElementById(id);
  const text = (source?.innerText ?? '').replace(/^\$ /gm, '');
  navigator.clipboard?.writeText(text).then(() => toast('Copied.'), () => toast('The browser did not allow copying.'));
}

function addHint(button) {
  const field = $('.find input');
  field.value = `${field.value} ${button.textContent}`.trim();
  field.focus();
}

const actions = {
  theme: toggleTheme,
  help: () => $('#help').showModal(),
  close: button => button.closest('dialog').close(),
  copy: button => copy(button.dataset.copy),
  hint: addHint,
  pause,
  'new-letters': showNewLetters,
};

document.addEventListener('click', event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  const link = event.target.closest('.letter-row, a[data-do="open"]');
  if (link?.href) {
    event.preventDefault();
    show(link.href, { focus: link.dataset.tab ? `[data-tab="${link.dataset.tab}"]` : undefined });
    return;
  }
  const control = event.target.closest('[data-do]');
  actions[control?.dataset.do]?.(control);
});

// ---------- keyboard shortcuts: not while the user types, not with a modifier, not when switched off

const keysOn = $('#keys-on');
keysOn.checked = localStorage.getItem('keys') !== 'off';
keysOn.addEventListener('change', () => localStorage.setItem('keys', keysOn.checked ? 'on' : 'off'));

function step(by) {
  const rows = $$('.letter-row');
  const from = rows.findIndex(row => row === document.activeElement);
  const open = rows.findIndex(row => row.hasAttribute('aria-current'));
  rows[Math.max(0, Math.min(rows.length - 1, (from < 0 ? open : from) + by))]?.focus();
}

function back() {
  if (layout?.dataset.view !== 'letter') return;
  if (innerWidth <= 720) location.href = layout.dataset.list;
  else ($('.letter-row[aria-current]') ?? $('.letter-row'))?.focus();
}

const keys = {
  '/': () => $('.find input')?.focus(),
  '?': () => $('#help').showModal(),
  '.': showNewLetters,
  '#': () => $('#delete')?.requestSubmit(),
  j: () => step(1),
  k: () => step(-1),
  u: back,
};

document.addEventListener('keydown', event => {
  if (!keysOn.checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest('input, select, textarea, dialog')) return;
  const action = keys[event.key] ?? (/^[1-7]$/.test(event.key) && (() => $$('.tab')[event.key - 1]?.click()));
  if (!action) return;
  event.preventDefault();
  action();
});
