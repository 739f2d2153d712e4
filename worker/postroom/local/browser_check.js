// Compares pages in frames of one empty page: which elements, which computed styles. Called by
// browser_check.py through the DevTools protocol; it never runs in a letter. The pages' own scripts do not run:
// their frames are sandboxed.
(() => {
  const MARKER = "data-postroom-tag";
  const LIMIT = 40; // differences that are reported of one pair in one pass; the elements are all counted
  const UNSHOWN = new Set(["HEAD", "STYLE", "SCRIPT", "META", "TITLE", "LINK", "BASE", "TEMPLATE"]);
  // What can change though no rule names it: sizes that follow from layout, what follows from the font, and
  // colors that follow from `color`.
  const DEPENDENT = ["display", "color", "background-color", "font-family", "font-size", "font-weight", "line-height",
    "width", "height", "margin-top", "margin-right", "margin-bottom", "margin-left", "padding-top", "padding-right",
    "padding-bottom", "padding-left", "border-top-color", "border-right-color", "border-bottom-color",
    "border-left-color", "border-top-width", "border-left-width", "text-align", "vertical-align", "direction",
    "white-space-collapse", "text-decoration-line", "text-decoration-color", "list-style-type", "float", "position",
    "visibility", "border-collapse", "table-layout", "max-width", "min-width"];
  // Their values come out of layout, which elements that are left out of a check take part in.
  const FROM_LAYOUT = /^(width|height|inline-size|block-size|margin|padding|inset|top|left|right|bottom|perspective-origin|transform-origin|grid-template)/;
  const PSEUDO_ELEMENTS = ["before", "after", "first-line", "first-letter", "marker", "placeholder", "selection"];
  const STATES = {
    hover: [/:(hover|focus-within|focus-visible|focus|active|target)(?![\w-])/g, "[data-postroom-state]"],
    visited: [/:(visited)(?![\w-])/g, "[data-postroom-state]", /:link(?![\w-])/g, "[data-postroom-never]"],
    checked: [/:(checked)(?![\w-])/g, ":checked"],
  };
  const DYNAMIC = new RegExp("::|:(before|after|first-line|first-letter|hover|focus|focus-within|focus-visible|active" +
    "|target|visited|checked|disabled|enabled|default|indeterminate|valid|invalid|required|optional|read-only" +
    "|read-write|placeholder-shown|autofill|in-range|out-of-range|fullscreen|popover-open|open|defined|playing" +
    "|-webkit-[\\w-]+|-moz-[\\w-]+|-ms-[\\w-]+)(?![\\w-])", "i");
  const PLAIN = /^[^:[\]&|]*$/;

  const HOOKS = {
    outlook: /\[data-ogs|\[owa|#outlook|ExternalClass|ReadMsgBody/i,
    gmail: /\bu\s*[+~]/,
    apple: /x-apple-data-detectors/i,
  };

  let pairs = [];

  // --- pages into frames -----------------------------------------------------------------------------

  async function frameOf(page) {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-same-origin";
    frame.style.width = "600px";
    frame.style.height = "800px";
    document.body.append(frame);
    const doc = frame.contentDocument;
    const loaded = new Promise((resolve) => {
      frame.addEventListener("load", resolve, { once: true });
      setTimeout(resolve, 5000);
    });
    doc.open();
    doc.write(page);
    doc.close();
    await loaded;
    // a sheet's own text is no part of the page, though a rule such as `* { display: block }` would show it
    for (const each of frame.contentDocument.querySelectorAll("style")) each.style.setProperty("display", "none", "important");
    return { frame, doc: frame.contentDocument, win: frame.contentWindow };
  }

  async function load(pages) {
    unload();
    pairs = await Promise.all(pages.map(async ([source, delivered]) => {
      const [a, b] = await Promise.all([frameOf(source), frameOf(delivered)]);
      return prepared(a, b);
    }));
    return pairs.map((pair) => pair.facts);
  }

  function unload() {
    document.body.replaceChildren();
    pairs = [];
  }

  const elements = (doc) => [...doc.querySelectorAll("*")].filter((each) => each.localName !== "style");
  const shown = (each) => !UNSHOWN.has(each.tagName.toUpperCase()) && !each.closest("head, title");
  const label = (each) => `${each.tagName} ${each.getAttribute(MARKER) ?? "(implied)"}`;

  function prepared(a, b) {
    const left = elements(a.doc), right = elements(b.doc);
    const pair = { a, b, differing: new Set(), records: [], indexes: [], paths: new Map() };
    const count = Math.max(left.length, right.length);
    for (let i = 0; i < count; i++) {
      if (!left[i] || !right[i] || label(left[i]) !== label(right[i])) {
        const [is, was] = [right[i], left[i]].map((each) => each ? label(each) : "nothing");
        pair.records.push({ check: "elements", index: i, property: "element", source: was, delivered: is });
        pair.differing.add(i);
        break;
      }
    }
    if (a.doc.compatMode !== b.doc.compatMode)
      pair.records.push({ check: "elements", index: 0, property: "compatMode", source: a.doc.compatMode,
        delivered: b.doc.compatMode });
    pair.left = left;
    pair.right = right;
    pair.broken = pair.records.length > 0;
    pair.indexes = pair.broken ? [] : left.map((_, i) => i).filter((i) => shown(left[i]));
    const sheets = [rulesOf(a.doc), rulesOf(b.doc)];
    const text = sheets.map((rules) => rules.map((rule) => rule.cssText).join("\n")).join("\n");
    const inline = [a.doc, b.doc].flatMap((doc) => [...doc.querySelectorAll("[style]")].map((each) => each.style));
    const styles = [...sheets.flatMap((rules) => rules.flatMap(declarations)), ...inline];
    const names = new Set(DEPENDENT);
    pair.custom = new Set();
    for (const style of styles) for (const name of style) (name.startsWith("--") ? pair.custom : names).add(name);
    pair.names = [...names];
    pair.pseudo = PSEUDO_ELEMENTS.filter((name) => new RegExp(`:${name}`, "i").test(text)).map((name) => "::" + name);
    const source = pair.text = sheets[0].map((rule) => rule.cssText).join("\n");
    pair.facts = {
      elements: pair.indexes.length,
      conditional: /@(media|container|supports)|\d(vw|vh|vmin|vmax|vi|vb|cqw|cqi)\b/i.test(text) || hasMedia(a.doc) ||
        hasMedia(b.doc),
      dark: /prefers-color-scheme|light-dark|color-scheme/i.test(text) ||
        inline.some((style) => /color-scheme|light-dark/.test(style.cssText)) ||
        !!a.doc.querySelector("meta[name=color-scheme]"),
      states: Object.keys(STATES).filter((state) => source.search(STATES[state][0]) >= 0),
      clients: Object.keys(HOOKS).filter((client) => HOOKS[client].test(source)),
    };
    return pair;
  }

  const hasMedia = (doc) => [...doc.styleSheets].some((sheet) => sheet.media.length > 0);
  function rulesOf(doc) {
    const found = [];
    const walk = (rules) => {
      for (const rule of rules) {
        found.push(rule);
        if (rule.cssRules) walk(rule.cssRules);
      }
    };
    for (const sheet of doc.styleSheets) {
      try {
        walk(sheet.cssRules);
      } catch {
        // a linked sheet, which the policy does not load
      }
    }
    return found;
  }

  const declarations = (rule) => (rule.style ? [rule.style] : []);

  // --- comparison ------------------------------------------------------------------------------------

  function settle(doc) {
    for (const animation of doc.getAnimations()) {
      if (animation.constructor.name === "CSSTransition") {
        animation.finish();
      } else {
        animation.cancel();
      }
    }
  }

  // Layout of the frame and then of its page; media queries are read anew by that.
  function resize(pair, width) {
    for (const each of [pair.a, pair.b]) each.frame.style.width = `${width}px`;
    for (const each of [pair.a, pair.b]) {
      void each.frame.offsetWidth;
      void each.doc.documentElement.offsetWidth;
      settle(each.doc);
    }
  }

  function* differences(a, b, left, right, names, custom, pseudo) {
    for (const which of ["", ...pseudo]) {
      const was = a.win.getComputedStyle(left, which), is = b.win.getComputedStyle(right, which);
      const absent = (which === "::before" || which === "::after") && ["none", "normal"].includes(was.content) &&
        was.content === is.content;
      if (absent) continue;
      for (const name of names) if (was[name] !== is[name]) yield [which + name, was[name], is[name]];
      for (const name of custom) {
        const [x, y] = [was.getPropertyValue(name).trim(), is.getPropertyValue(name).trim()];
        if (x !== y) yield [which + name, x, y];
      }
    }
  }

  function record(pair, check, index, [property, source, delivered], context) {
    pair.differing.add(index);
    const already = pair.records.filter((each) => each.check === check && each.pass === context.pass).length;
    if (already < LIMIT) {
      pair.records.push({ check, index, property, source, delivered, ...context });
      if (!pair.paths.has(index)) pair.paths.set(index, path(pair.left[index]));
    }
  }

  function compareAll(pair, check, whole, context) {
    const names = whole ? [...pair.a.win.getComputedStyle(pair.a.doc.documentElement)].filter((n) => n[0] !== "-" ||
      n[1] !== "-") : pair.names;
    for (const i of pair.indexes) {
      const [left, right] = [pair.left[i], pair.right[i]];
      for (const found of differences(pair.a, pair.b, left, right, names, pair.custom, pair.pseudo))
        record(pair, check, i, found, context);
    }
    return pair.indexes.length;
  }

  // The links that a client has made; a difference is reported at the element around it.
  function compareMade(pair, check) {
    const made = (doc) => [...doc.querySelectorAll("a[x-apple-data-detectors][href='tel:1']")];
    const [lefts, rights] = [made(pair.a.doc), made(pair.b.doc)];
    // what other rules say of links is no hook: an inliner moves it onto the links that are there
    const names = [...rulesOf(pair.a.doc)].filter((rule) => /x-apple/i.test(rule.selectorText ?? "")).flatMap((rule) =>
      [...rule.style]).filter((name) => !name.startsWith("--"));
    lefts.forEach((left, i) => {
      const index = pair.left.indexOf(left.parentElement);
      for (const found of differences(pair.a, pair.b, left, rights[i], names, [], []))
        record(pair, check, index, found, { width: 600, scheme: "light", pass: check });
    });
    return lefts.length;
  }

  function path(element) {
    const parts = [];
    for (let each = element; each; each = each.parentElement) {
      let part = each.localName;
      if (each.id) part += `#${each.id}`;
      else if (each.classList.length) part += `.${[...each.classList].join(".")}`;
      const alike = each.parentElement ? [...each.parentElement.children].filter((other) =>
        other.localName === each.localName) : [];
      if (alike.length > 1) part += `:nth-of-type(${alike.indexOf(each) + 1})`;
      parts.unshift(part);
    }
    return parts.join(" > ");
  }

  // One pass over all pairs that need it. The first pass compares every property of every element.
  function compare(scheme, width, first) {
    return pairs.map((pair) => {
      if (pair.broken) return 0;
      if (!first && !pair.facts.conditional && !(scheme === "dark" && pair.facts.dark)) return 0;
      if (scheme === "dark" && !pair.facts.dark) return 0;
      resize(pair, width);
      return compareAll(pair, "styles", first, { width, scheme, pass: `${scheme}${width}` });
    });
  }

  // --- states and clients' hooks ---------------------------------------------------------------------

  function rewrite(doc, replacements) {
    const undo = [];
    for (const rule of rulesOf(doc)) {
      if (!rule.selectorText) continue;
      const before = rule.selectorText;
      let text = before;
      for (let i = 0; i < replacements.length; i += 2) text = text.replace(replacements[i], replacements[i + 1]);
      if (text !== before) {
        rule.selectorText = text;
        undo.push(() => { rule.selectorText = before; });
      }
    }
    return undo;
  }

  // A state is an attribute that every element has: an attribute weighs as much as a pseudo-class.
  function enter(doc, state) {
    const undo = rewrite(doc, STATES[state]);
    for (const each of doc.querySelectorAll("*")) {
      each.setAttribute("data-postroom-state", "");
      undo.push(() => each.removeAttribute("data-postroom-state"));
      if (state === "checked" && "checked" in each) each.checked = true;
    }
    return undo;
  }

  // What mail clients put into a page, one after the other: Outlook's dark mode and wrappers, Gmail's sibling of the
  // body, Apple's links. Outlook's id and classes are left out where a rule asks whether there is one.
  const CLIENTS = {
    outlook(doc, set, text) {
      const root = doc.documentElement;
      for (const name of ["data-ogsc", "data-ogsb", "owa"]) set(root, name, root.getAttribute(name) ?? "");
      if (/\[(id|class)/i.test(text)) return;
      set(root, "id", root.id || "outlook");
      set(root, "class", `${root.className} ExternalClass ReadMsgBody`);
    },
    gmail(doc, set, text, undo) {
      const sibling = doc.createElement("u");
      doc.body?.before(sibling);
      undo.push(() => sibling.remove());
    },
    // Apple Mail makes links of its own of dates and addresses; it writes the attribute on no other element.
    apple(doc, set, text, undo) {
      for (const block of [...doc.querySelectorAll("p, td, th, li, div")]) {
        const link = doc.createElement("a");
        link.setAttribute("x-apple-data-detectors", "true");
        link.setAttribute("href", "tel:1");
        link.textContent = "1";
        block.append(link);
        undo.push(() => link.remove());
      }
    },
  };

  function hook(doc, client, text) {
    const undo = [];
    const set = (element, name, value) => {
      const before = element.getAttribute(name);
      element.setAttribute(name, value);
      undo.push(() => before === null ? element.removeAttribute(name) : element.setAttribute(name, before));
    };
    CLIENTS[client](doc, set, text, undo);
    return undo;
  }

  function compareStates() {
    return pairs.map((pair) => {
      if (pair.broken) return 0;
      resize(pair, 600);
      let compared = 0;
      for (const state of pair.facts.states) {
        const undo = [pair.a, pair.b].flatMap((each) => enter(each.doc, state));
        for (const each of [pair.a, pair.b]) settle(each.doc);
        compared += compareAll(pair, state, false, { width: 600, scheme: "light", pass: state });
        undo.reverse().forEach((each) => each());
      }
      for (const client of pair.facts.clients) {
        const undo = [pair.a, pair.b].flatMap((each) => hook(each.doc, client, pair.text));
        for (const each of [pair.a, pair.b]) settle(each.doc);
        compared += client === "apple" ? compareMade(pair, client) : compareAll(pair, client, false,
          { width: 600, scheme: "light", pass: client });
        undo.reverse().forEach((each) => each());
      }
      return compared;
    });
  }

  // --- without <style> -------------------------------------------------------------------------------

  // A comma at the top level separates selectors.
  function split(selectors) {
    const parts = [""];
    let depth = 0, quote = "";
    for (const sign of selectors) {
      if (quote) quote = sign === quote ? "" : quote;
      else if (sign === '"' || sign === "'") quote = sign;
      else if ("([".includes(sign)) depth++;
      else if (")]".includes(sign)) depth--;
      if (sign === "," && !depth && !quote) parts.push("");
      else parts[parts.length - 1] += sign;
    }
    return parts.map((part) => part.trim());
  }

  const named = (sheet) => [...(sheet.ownerNode?.attributes ?? [])].some((each) => each.name.startsWith("data-"));

  // Reduce a page to what can be inlined. `level` 0: what every inliner must inline. 1: also what an inliner may
  // either inline or keep (attribute selectors, structural pseudo-classes, @layer, @supports that holds, media that
  // always hold, nested rules). 2: as 0, with the declarations of rules that have nested ones. 3: as 0, without
  // important declarations that compete with important ones of a rule that has to be kept: inline, they would
  // always win. 4: as 0, without any declaration of a property that a rule sets which has to be kept. Gives whether
  // the page has anything of the levels 1 to 3.
  function reduce(doc, level) {
    let doubtful = false;
    const before = rulesOf(doc).filter((rule) => rule.style)
      .map((rule) => [rule, importantNames(rule.style), [...rule.style]]);
    const walk = (owner, sure) => {
      for (let i = owner.cssRules.length - 1; i >= 0; i--) {
        const rule = owner.cssRules[i], kind = rule.constructor.name;
        let keep = false;
        if (kind === "CSSStyleRule") {
          const nested = rule.cssRules.length > 0;
          const inlinable = split(rule.selectorText).filter((each) => !DYNAMIC.test(each));
          const plain = sure && !nested ? inlinable.filter((each) => PLAIN.test(each)) : [];
          if (plain.length !== inlinable.length) doubtful = true;
          let chosen = level === 1 ? inlinable : plain;
          if (level === 2 && sure && nested) chosen = inlinable.filter((each) => PLAIN.test(each));
          keep = chosen.length > 0;
          if (keep && chosen.length < split(rule.selectorText).length) rule.selectorText = chosen.join(", ");
          if (keep && nested) {
            if (level === 1) walk(rule, false);
            else while (rule.cssRules.length) rule.deleteRule(0);
          }
        } else if (kind === "CSSNestedDeclarations") {
          keep = level === 1;
        } else if (kind === "CSSLayerBlockRule" || kind === "CSSSupportsRule" ||
          (kind === "CSSMediaRule" && /^(all|(only )?screen)?$/i.test(rule.media.mediaText.trim()))) {
          doubtful = true;
          keep = level === 1;
          if (keep) walk(rule, false);
        } else {
          keep = kind === "CSSNamespaceRule" || (kind === "CSSLayerStatementRule" && level === 1);
        }
        if (!keep) owner.deleteRule(i);
      }
    };
    for (const sheet of [...doc.styleSheets]) {
      const media = sheet.media.mediaText.trim().toLowerCase();
      if (media !== "" && !/^(all|(only )?screen)$/.test(media)) {
        sheet.ownerNode.remove();
        continue;
      }
      const sure = media === "" && !named(sheet);
      if (!sure) doubtful = true;
      try {
        walk(sheet, sure);
      } catch (error) {
        if (error.name !== "SecurityError") throw error;
      }
    }
    const left = new Set(rulesOf(doc));
    const removed = before.filter(([rule]) => !left.has(rule));
    const kept = new Set(removed.flatMap(([, important]) => important));
    const set = new Set(removed.flatMap(([, , all]) => all));
    for (const rule of left) {
      const competing = rule.style ? importantNames(rule.style).filter((name) => kept.has(name)) : [];
      if (competing.length) doubtful = true;
      if (level === 3) for (const name of competing) rule.style.removeProperty(name);
      if (level === 4 && rule.style) for (const name of [...rule.style]) if (set.has(name)) rule.style.removeProperty(name);
    }
    return doubtful;
  }

  const importantNames = (style) => [...style].filter((name) => style.getPropertyPriority(name) === "important");

  // An element without a tag in the source (an implied body or tbody) can have no `style` attribute, so no rule is
  // expected to reach it.
  function neutralize(doc, custom) {
    for (const each of elements(doc)) {
      if (each.hasAttribute(MARKER)) continue;
      let text = "all: revert !important; direction: revert !important; unicode-bidi: revert !important;";
      for (const name of custom) text += `${name}: revert !important;`;
      each.setAttribute("style", text);
    }
  }

  // Elements that the parser made twice of one tag (misnested formatting), and what is in them: one `style`
  // attribute serves both.
  function cloned(list) {
    const seen = new Map();
    for (const each of list) {
      const tag = each.getAttribute(MARKER);
      if (tag !== null) seen.set(tag, (seen.get(tag) ?? 0) + 1);
    }
    const twice = new Set();
    for (const each of list)
      if (seen.get(each.getAttribute(MARKER)) > 1 || twice.has(each.parentElement)) twice.add(each);
    return twice;
  }

  // The last check of a pair: it uses up the frames.
  async function compareBare(pages) {
    const done = [];
    for (const [at, [source]] of pages.entries()) done.push(await bareOf(pairs[at], source));
    return done;
  }

  async function bareOf(pair, source) {
    if (pair.broken) return { compared: 0, excluded: 0, kept: 0 };
    resize(pair, 600);
    const { b } = pair;
    b.doc.querySelectorAll("style").forEach((each) => each.remove());
    const twice = cloned(pair.right);
    const chosen = pair.indexes.filter((i) => pair.right[i].hasAttribute(MARKER) && !twice.has(pair.right[i]));
    const doubtful = reduce(pair.a.doc, 0);
    const names = pair.names.filter((name) => !(twice.size || doubtful) || !FROM_LAYOUT.test(name));
    const against = (page, list) => {
      neutralize(page.doc, pair.custom);
      for (const each of [page, b]) settle(each.doc);
      const found = new Map();
      for (const i of chosen)
        for (const each of differences(page, b, list[i], pair.right[i], names, pair.custom, []))
          found.set(`${i} ${each[0]}`, [i, each]);
      return found;
    };
    let found = against(pair.a, pair.left);
    const also = async (level) => {
      const page = await frameOf(source);
      reduce(page.doc, level);
      const other = against(page, elements(page.doc));
      page.frame.remove();
      return [...found].filter(([key]) => other.has(key));
    };
    for (const level of doubtful ? [1, 2, 3] : []) if (found.size) found = new Map(await also(level));
    // Raised to !important, a kept rule can beat others that it must not beat; then what it competes with is kept too.
    let kept = 0;
    if (found.size) {
      const wrong = new Map(await also(4));
      kept = new Set([...found].filter(([key]) => !wrong.has(key)).map(([, [i]]) => i)).size;
      found = wrong;
    }
    for (const [i, each] of found.values())
      record(pair, "inlined", i, each, { width: 600, scheme: "light", pass: "inlined" });
    return { compared: chosen.length, excluded: pair.indexes.length - chosen.length, kept };
  }

  function results() {
    return pairs.map((pair) => ({
      differing: [...pair.differing],
      records: pair.records.map((each) => ({
        ...each,
        path: pair.paths.get(each.index) ?? "",
        tag: Number(pair.left[each.index]?.getAttribute(MARKER) ?? -1),
      })),
    }));
  }

  // --- pictures --------------------------------------------------------------------------------------

  // Show one pair alone, each page at its whole height. Gives the two places, or nothing where the heights differ.
  function pose(at, width) {
    const pair = pairs[at];
    resize(pair, width);
    const heights = [pair.a, pair.b].map((each) => each.doc.documentElement.scrollHeight);
    if (heights[0] !== heights[1]) return [];
    const height = Math.min(8000, heights[0]);
    for (const other of document.querySelectorAll("iframe")) other.style.display = "none";
    for (const each of [pair.a, pair.b]) {
      each.frame.style.display = "block";
      each.frame.style.height = `${height}px`;
    }
    const boxes = [pair.a, pair.b].map((each) => each.frame.getBoundingClientRect());
    return boxes.map((box) => ({ x: box.x, y: box.y + scrollY, width: box.width, height: box.height, scale: 1 }));
  }

  async function pixels(base64) {
    const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  }

  // The share of pixels of which one channel differs by more than `tolerance` of 255.
  async function comparePictures(first, second, tolerance) {
    const [a, b] = await Promise.all([pixels(first), pixels(second)]);
    if (a.width !== b.width || a.height !== b.height) return 1;
    let differing = 0;
    for (let i = 0; i < a.data.length; i += 4)
      if ([0, 1, 2].some((channel) => Math.abs(a.data[i + channel] - b.data[i + channel]) > tolerance)) differing++;
    return differing / (a.data.length / 4);
  }

  globalThis.postroom = { load, unload, compare, compareStates, compareBare, results, pose, comparePictures };
})();
