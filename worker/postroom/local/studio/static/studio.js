// The studio's script. Every page works as links and forms without it; with it a save shows at once, a
// click swaps parts of the page only, and the letter is rendered again while the user types.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;
const TYPING_MS = 250;

const desk = $('#layout');

function enhance(within = document) {
  for (const control of $$('.needs-script', within)) control.hidden = false;
  for (const control of $$('.no-script', within)) control.hidden = true;
}
enhance();

function announce(text) { $('#announcement').textContent = text; }

function toast(text) {
  $('.toast')?.remove();
  const box = Object.assign(document.createElement('div'), { className: 'toast', textContent: text });
  box.setAttribute('role', 'status');
  document.body.append(box);
  setTimeout(() => box.remove(), 2500);
}

// ---------- parts of a page, swapped in place

async function fetchPage(url, options = {}) {
  const answer = await fetch(url, { headers: { accept: 'text/html' }, ...options });
  return { page: new DOMParser().parseFromString(await answer.text(), 'text/html'), url: answer.url };
}

// A frame whose address is the same shows the same letter: it stays, and does not blink.
function keepFrames(now, next) {
  const frames = new Map($$('iframe', now).map(frame => [frame.getAttribute('src') + frame.className, frame]));
  return $$('iframe', next).every(frame => frames.has(frame.getAttribute('src') + frame.className))
    && frames.size === $$('iframe', next).length;
}

function swap(selector, page) {
  const now = $(selector), next = $(selector, page);
  if (!now || !next || now.outerHTML === next.outerHTML) return;
  const scrolled = $$('.lines, .scroll, .plain, .dataform, .bench, .trio', now).map(each => [each.scrollTop, each.scrollLeft]);
  const top = now.scrollTop;
  now.replaceWith(document.adoptNode(next));
  enhance(next);
  next.scrollTop = top;
  $$('.lines, .scroll, .plain, .dataform, .bench, .trio', next).forEach((each, index) => {
    [each.scrollTop, each.scrollLeft] = scrolled[index] ?? [0, 0];
  });
}

function swapLeaf(page) {
  const now = $('#panel'), next = $('#panel', page);
  if (!now || !next) return swap('#template', page);
  const parts = ['#tools', '#behind', '#outcome', '#letter-head'];
  if (parts.some(part => !$(part) !== !$(part, page))) return swap('#template', page);
  for (const part of parts) swap(part, page);
  swap('.tabs', page);
  if (now.dataset.view !== next.dataset.view) return swap('#panel', page);
  if (next.dataset.view === 'data') {
    const typing = $('#form').contains(document.activeElement);
    if (!typing) swap('#form', page); else marks(page);
    if (!keepFrames($('#beside'), $('#beside', page)) || !$('iframe', next)) swap('#beside', page);
    return undefined;
  }
  if ($('iframe', next) && keepFrames(now, next)) return swap('.panel > .strip', page);
  return swap('#panel', page);
}

// While the user types, only what is wrong is shown anew; the inputs stay as they are.
function marks(page) {
  const form = $('#form'), fresh = $('#form', page);
  form.action = fresh.action;
  for (const field of $$('.field', form)) {
    const input = $('input:not([type=hidden]), select, textarea', field);
    const other = fresh.querySelector(`[id="${CSS.escape(input.id)}"]`)?.closest('.field');
    for (const mistake of $$('.mistake', field)) mistake.remove();
    input.removeAttribute('aria-invalid');
    if (!other) continue;
    for (const mistake of $$('.mistake', other)) { field.append(document.adoptNode(mistake)); input.setAttribute('aria-invalid', 'true'); }
    for (const mark of $$('input[type=hidden]', field)) mark.remove();
    for (const mark of $$('input[type=hidden]', other)) field.append(document.adoptNode(mark));
  }
}

function swapAll(page) {
  desk.dataset.version = $('#layout', page).dataset.version;
  desk.dataset.view = $('#layout', page).dataset.view;
  document.title = page.title;
  if ($('#template').classList.contains('overview') !== $('#template', page).classList.contains('overview')) {
    swap('.layout > main', page);
    return;
  }
  const typed = $('.find input');
  if (!typed || document.activeElement !== typed) swap('#list', page);
  swapLeaf(page);
  if (!$('#inspect')?.contains(document.activeElement)) swap('#inspect', page);
}

let asked = 0;

async function show(url, { push = true, focus } = {}) {
  const turn = ++asked;
  let answer;
  try { answer = await fetchPage(url); } catch { location.href = url; return; }
  if (turn !== asked) return;
  if (push) history.pushState(null, '', answer.url);
  const other = new URL(answer.url).pathname !== here;
  here = location.pathname;
  if (other) { swap('.layout > main', answer.page); desk.dataset.view = $('#layout', answer.page).dataset.view; document.title = answer.page.title; } else swapAll(answer.page);
  if (focus) $(focus)?.focus({ preventScroll: true });
  if (other && innerWidth <= 720) scrollTo(0, 0);
}

let here = location.pathname;
addEventListener('popstate', () => show(location.href, { push: false }));

// ---------- a save shows at once

async function refresh() {
  const turn = ++asked;
  let answer;
  try { answer = await fetchPage(location.href); } catch { return; }
  if (turn !== asked) return;
  swapAll(answer.page);
  const state = $('#behind') ? 'The last edit is refused.' : 'Shown anew.';
  announce(state);
  root.dataset.shown = String(performance.now());
}

function listen() {
  const stream = new EventSource(`/events?after=${desk.dataset.version}`);
  stream.onopen = () => setLive(true);
  stream.onerror = () => setLive(false);
  stream.addEventListener('changed', refresh);
}

function setLive(live) {
  $('#pulse').classList.toggle('is-paused', !live);
  $('#live-status').textContent = live ? 'Live' : 'Not connected';
}

listen();

// ---------- the form: rendered again while the user types

let typing = null;

async function submit(form, button) {
  const body = new URLSearchParams(new FormData(form, button));
  const turn = ++asked;
  let answer;
  try { answer = await fetchPage(form.action, { method: 'POST', body }); } catch { form.submit(); return; }
  if (turn !== asked) return;
  history.replaceState(null, '', answer.url);
  if (button) document.activeElement?.blur();
  swapAll(answer.page);
  if (button?.name === 'add') $(`[name="add"][value="${CSS.escape(button.value)}"]`)?.focus();
}

document.addEventListener('input', event => {
  const form = event.target.closest('[data-do-submit="data"]');
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => submit(form), TYPING_MS);
});

document.addEventListener('submit', event => {
  const kind = event.target.dataset.doSubmit;
  if (!kind) return;
  event.preventDefault();
  clearTimeout(typing);
  if (kind === 'send') { event.submitter?.setAttribute('disabled', ''); announce('Sending.'); }
  submit(event.target, event.submitter ?? undefined);
});

document.addEventListener('change', event => {
  if (event.target.dataset.doChange !== 'go') return;
  show(`${event.target.form.action}?${new URLSearchParams(new FormData(event.target.form))}`);
});

// ---------- what clicks do

function turnTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
}

function copy(id) {
  const text = (document.getElementById(id)?.innerText ?? '').replace(/^\$ /gm, '');
  navigator.clipboard?.writeText(text).then(() => toast('Copied.'), () => toast('The browser did not allow copying.'));
}

let finding = -1;
function nextFinding() {
  const found = $$('.finding');
  if (!found.length) return;
  finding = (finding + 1) % found.length;
  found[finding].scrollIntoView({ block: 'center' });
}

const deeds = {
  theme: turnTheme,
  help: () => $('#help').showModal(),
  close: button => button.closest('dialog').close(),
  copy: button => copy(button.dataset.copy),
  'next-finding': nextFinding,
};

document.addEventListener('click', event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  const control = event.target.closest('[data-do]');
  if (!control) return;
  if (control.dataset.do === 'open' && control.href) {
    event.preventDefault();
    const focus = control.dataset.tab ? `[data-tab="${control.dataset.tab}"]` : control.classList.contains('letter-row') ? `.letter-row[href="${CSS.escape(control.getAttribute('href'))}"]` : `a[href="${CSS.escape(control.getAttribute('href'))}"]`;
    show(control.href, { focus });
    return;
  }
  deeds[control.dataset.do]?.(control);
});

// ---------- keys: never while the user types, never with a modifier, and not when switched off

const keysOn = $('#keys-on');
keysOn.checked = localStorage.getItem('keys') !== 'off';
keysOn.addEventListener('change', () => localStorage.setItem('keys', keysOn.checked ? 'on' : 'off'));

function step(by) {
  const slips = $$('.letter-row');
  const from = slips.findIndex(slip => slip === document.activeElement);
  const open = slips.findIndex(slip => slip.hasAttribute('aria-current'));
  slips[Math.max(0, Math.min(slips.length - 1, (from < 0 ? open : from) + by))]?.focus();
}

function stepSample(by) {
  const picks = $$('[data-pick="sample"]');
  const now = picks.findIndex(pick => pick.hasAttribute('aria-current'));
  picks[(now + by + picks.length) % picks.length]?.click();
}

function back() {
  if (innerWidth <= 720) location.href = '/templates';
  else ($('.letter-row[aria-current]') ?? $('.letter-row'))?.focus();
}

let going = false;
const keys = {
  '/': () => $('.find input')?.focus(),
  '?': () => $('#help').showModal(),
  j: () => step(1),
  k: () => step(-1),
  u: back,
  p: () => $('[data-tab="proof"]')?.click(),
  '[': () => stepSample(-1),
  ']': () => stepSample(1),
};

document.addEventListener('keydown', event => {
  if (!keysOn.checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest('input, select, textarea, dialog')) return;
  const page = going && $(`.nav [data-key="${CSS.escape(event.key)}"]`);
  going = event.key === 'g';
  const deed = page ? () => page.click() : keys[event.key] ?? (/^[1-6]$/.test(event.key) && (() => $$('.tab')[event.key - 1]?.click()));
  if (!deed) return;
  event.preventDefault();
  deed();
});
