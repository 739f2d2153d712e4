// The inbox's little script. Every page works as links and forms without it; with it they are live:
// letters arrive by themselves, a click swaps the letter's pane only, and keys work.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;
const desk = $('#layout');

for (const control of $$('.needs-script')) control.hidden = false;

// ---------- talking to the reader

function say(text) {
  const said = $('#announcement');
  if (said) said.textContent = text;
}

function toast(text) {
  $('.toast')?.remove();
  const box = Object.assign(document.createElement('div'), { className: 'toast', textContent: text });
  box.setAttribute('role', 'status');
  document.body.append(box);
  setTimeout(() => box.remove(), 2500);
}

// ---------- one letter's pane, swapped in place

async function fetchPage(url) {
  const answer = await fetch(url, { headers: { accept: 'text/html' } });
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

function replace(selector, page) {
  const now = $(selector), next = $(selector, page);
  if (!now || !next) return false;
  now.replaceWith(document.adoptNode(next));
  for (const control of $$(`${selector} .needs-script`)) control.hidden = false;
  return true;
}

// While the rack lies open over the list it stays as it is: a new one would not be the fragment's target.
function replaceRack(page) {
  if (location.hash !== '#sidebar') replace('#sidebar', page);
}

let asked = 0;

async function show(url, { push = true, focus } = {}) {
  const turn = ++asked;
  let page;
  try { page = await fetchPage(url); } catch { location.href = url; return; }
  if (turn !== asked) return;
  if (!desk?.dataset.view || !replace('#letter', page)) { location.href = url; return; }
  if (push) history.pushState(null, '', url);
  here = location.pathname + location.search;
  document.title = page.title;
  desk.dataset.view = $('#layout', page).dataset.view;
  replaceRack(page);
  markOpen(new URL(url, location.href).pathname);
  if (focus) $(focus)?.focus();
  if (innerWidth <= 720) scrollTo(0, 0);
}

function markOpen(path) {
  for (const slip of $$('.letter-row')) {
    const open = new URL(slip.href).pathname === path;
    slip.toggleAttribute('aria-current', open);
    if (!open) continue;
    slip.setAttribute('aria-current', 'true');
    slip.classList.remove('is-new', 'just-in');
    $('.dot', slip).replaceChildren();
  }
}

// A change of the fragment alone (the rack opens by one) is no other page.
let here = location.pathname + location.search;
addEventListener('popstate', () => {
  if (here !== location.pathname + location.search) show(location.href, { push: false });
});

// ---------- live arrival

const newest = () => Number(desk.dataset.newest);
let waiting = [];
let settling = null;

function refresh() {
  settling ??= setTimeout(async () => {
    settling = null;
    try { update(await fetchPage(desk.dataset.list)); } catch { /* the stream says when the inbox is back */ }
  }, 200);
}

function update(page) {
  const next = $('#layout', page);
  if (!next || !desk.dataset.view !== !next.dataset.view) { location.reload(); return; }
  const last = newest();
  desk.dataset.newest = next.dataset.newest;
  replaceRack(page);
  const came = $('#last-received', page);
  if (came) $('#last-received').textContent = came.textContent;
  const list = $('#letter-rows'), fresh = $('#letter-rows', page);
  if (!list !== !fresh) { location.reload(); return; }
  if (!list) return;
  const arrived = $$('li[data-letter]', fresh).filter(item => Number(item.dataset.letter) > last);
  const reading = $('#list').scrollTop > 8 || list.contains(document.activeElement);
  if (reading) { keep(list, fresh); hold(arrived); } else renew(fresh, arrived);
  if (arrived.length) say(arrived.length === 1 ? `New letter: ${$('.subj', arrived[0]).textContent}` : `${arrived.length} new letters`);
}

function renew(fresh, arrived) {
  const open = $('.letter-row[aria-current]');
  for (const item of arrived) $('.letter-row', item).classList.add('just-in');
  $('#letter-rows').replaceWith(document.adoptNode(fresh));
  if (open) markOpen(new URL(open.href).pathname);
  waiting = [];
  $('#new-letters').hidden = true;
}

// Marks and deletions show at once, since they move nothing that comes before them.
function keep(list, fresh) {
  const known = new Map($$('li[data-letter]', fresh).map(item => [item.dataset.letter, item]));
  const oldest = Math.min(...[...known.keys()].map(Number));
  for (const item of $$('li[data-letter]', list)) {
    const now = known.get(item.dataset.letter);
    if (now) $('.letter-row', item).classList.toggle('is-new', $('.letter-row', now).classList.contains('is-new'));
    else if (Number(item.dataset.letter) > oldest) item.remove();
  }
}

// Somebody is reading the list: what has come waits behind a button instead of moving it.
function hold(arrived) {
  waiting.push(...arrived);
  const button = $('#new-letters');
  button.textContent = `Show ${waiting.length === 1 ? 'the new letter' : `${waiting.length} new letters`}`;
  button.hidden = waiting.length === 0;
}

function showNewLetters() {
  if ($('#new-letters')?.hidden !== false) return;
  $('#list').scrollTop = 0;
  document.activeElement?.blur();
  waiting = [];
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

function setLive(live, word = 'Live.') {
  $('#pulse')?.classList.toggle('is-paused', !live);
  const said = $('#live-status');
  if (said) said.textContent = desk.dataset.view ? word : live ? 'Listening' : 'Not connected';
}

function pause(button) {
  const paused = button.getAttribute('aria-pressed') !== 'true';
  button.setAttribute('aria-pressed', String(paused));
  button.lastChild.textContent = paused ? 'Go on' : 'Pause';
  if (paused) { stream.close(); setLive(false, 'Paused.'); } else { listen(); refresh(); }
}

if (desk) listen();

// ---------- what clicks do

function turnTheme() {
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

const deeds = {
  theme: turnTheme,
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
  deeds[control?.dataset.do]?.(control);
});

// ---------- keys: never while somebody writes, never with a modifier, and not when switched off

const keysOn = $('#keys-on');
keysOn.checked = localStorage.getItem('keys') !== 'off';
keysOn.addEventListener('change', () => localStorage.setItem('keys', keysOn.checked ? 'on' : 'off'));

function step(by) {
  const slips = $$('.letter-row');
  const from = slips.findIndex(slip => slip === document.activeElement);
  const open = slips.findIndex(slip => slip.hasAttribute('aria-current'));
  slips[Math.max(0, Math.min(slips.length - 1, (from < 0 ? open : from) + by))]?.focus();
}

function back() {
  if (desk?.dataset.view !== 'letter') return;
  if (innerWidth <= 720) location.href = desk.dataset.list;
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
  const deed = keys[event.key] ?? (/^[1-7]$/.test(event.key) && (() => $$('.tab')[event.key - 1]?.click()));
  if (!deed) return;
  event.preventDefault();
  deed();
});
