// ModelTree: the layers, what is stored of them, and sweeps of those that are checked.
import { address, array, bytes, eachFrame, grouped, h, icon, percent, plural, replace, searchbox, set, shell } from "../common/index.js";
import { Rows } from "./rows.js";
import { sweepOf } from "./sweep.js";

const KEYS = [
  ["up, down", "go from layer to layer"], ["right, left", "unfold or go in, fold or go out"], ["Home, End", "first, last"],
  ["letters", "next layer that begins so"], ["Space, click the box", "check, with all below"], ["Shift+Space", "check this one alone"],
  ["Enter, click", "choose the layer"], ["Enter again, double click", "open the card of its first component"], ["*", "unfold all beside it"], ["Tab", "next control"],
];
const KINDS = [["activations", "act"], ["relevances", "rel"], ["references", "ref"]];

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "tree", label: "Layers", keys: KEYS });
  const { state, body, tools, note } = frame;

  const search = searchbox("Filter layers", "Filter layers", (value) => state.put({ query: value }));
  const fold = h("button", { type: "button", class: "wb-button", onclick: foldAll }, "Unfold all");
  tools.append(fold, search.node);

  const tree = h("div", { class: "wb-tree-rows", role: "tree", "aria-label": "Layers of the model", "aria-multiselectable": "false", onkeydown: key, onfocusin: follow });
  const heads = h("div", { class: "wb-tree-line wb-tree-heads", "aria-hidden": "true" }, ["Layer", "Components", "Output", "Stored", "Coverage"].map((word, i) => h("span", { class: `wb-t${i}` }, word)));
  const nothing = h("p", { class: "wb-tree-none", hidden: true });
  const detail = h("section", { class: "wb-tree-detail", "aria-label": "Chosen layer" });
  const sweep = sweepOf({ state, frame, rows: () => rows });
  replace(body, h("div", { class: "wb-tree-scroll" }, heads, tree), nothing, detail, sweep.node);

  let peek = -1; // a layer that cannot be chosen, whose reason is told
  let rows, stored = {}, shown = [], current = 0, nodes = new Map(), typed = "", typedAt = 0;

  function load() {
    const given = state.get("tree") || {};
    rows = new Rows(given, array(given.components) || [], array(given.parents) || []);
    rows.labels[0] = given.model || "the model";
    rows.filter(state.get("query") || "");
    nodes = new Map();
    peek = -1;
    frame.title("Layers", `${given.model ? `${given.model}, ` : ""}${plural(rows.count, "layer")}`);
    arrange();
  }

  function read() {
    const given = state.get("stored") || {};
    stored = Object.fromEntries(["activations", "relevances", "references", "bytes", "unfinished"].map((name) => [name, array(given[name])]));
  }

  const opened = () => state.get("expanded") ?? rows.easy();

  // Which rows are on show; their elements are made once and kept.
  function arrange() {
    const hadFocus = tree.contains(document.activeElement), open = new Set(opened());
    shown = rows.shown(open);
    if (!shown.includes(current)) {
      while (current > 0 && !shown.includes(current)) current = rows.parents[current];
      if (current < 0 || !shown.includes(current)) current = 0;
    }
    const siblings = new Map();
    for (const i of shown) siblings.set(rows.parents[i], [...(siblings.get(rows.parents[i]) || []), i]);
    for (const group of siblings.values()) group.forEach((i, at) => set(nodeOf(i), { "aria-posinset": at + 1, "aria-setsize": group.length }));
    for (const i of shown) {
      const isParent = rows.below[i].length > 0;
      set(nodeOf(i), { "aria-expanded": isParent ? String(rows.isFiltered || open.has(rows.names[i])) : null });
    }
    tree.replaceChildren(...shown.map(nodeOf));
    nothing.hidden = rows.count > 0;
    tree.parentNode.hidden = !rows.count;
    replace(nothing, `No layer with “${state.get("query")}”.`);
    const isAll = rows.names.every((name, i) => !rows.below[i].length || open.has(name));
    fold.textContent = isAll ? "Fold all" : "Unfold all";
    set(fold, { disabled: rows.isFiltered });
    mark();
    focusOn(current, hadFocus);
  }

  function nodeOf(i) {
    if (nodes.has(i)) return nodes.get(i);
    const box = h("span", { class: "wb-box", "aria-hidden": "true", onclick: (event) => (event.stopPropagation(), focusOn(i, true), check(i, event.shiftKey)) }, icon("check"), icon("minus"));
    const twist = h("span", { class: "wb-twist", "aria-hidden": "true", onclick: (event) => (event.stopPropagation(), focusOn(i, true), toggle(i)) }, rows.below[i].length ? icon("right") : null);
    const name = h("span", { class: "wb-t0" }, twist, box, h("span", { class: "wb-tree-label" }, rows.labels[i]), rows.kinds[i] ? h("span", { class: "wb-tree-kind" }, rows.kinds[i]) : null);
    name.style.setProperty("--depth", rows.depth[i]);
    const isLayer = rows.isLayer(i), reason = rows.reasons[i];
    const node = h("div", { class: "wb-tree-line wb-tree-row", role: "treeitem", tabIndex: -1, "aria-level": rows.depth[i] + 1, title: rows.names[i], onclick: () => (focusOn(i, true), choose(i)), ondblclick: () => open(i) },
      name,
      h("span", { class: "wb-t1" }, isLayer ? grouped(rows.components[i]) : ""),
      h("span", { class: "wb-t2" }, rows.shapes[i]),
      reason ? h("span", { class: "wb-tree-reason" }, `not usable: it ${reason}`) : [h("span", { class: "wb-t3" }), h("span", { class: "wb-t4" })]);
    node.wb = { box };
    nodes.set(i, node);
    return node;
  }

  // What changes without new rows: checks, what is stored, the chosen layer.
  const mark = () => {
    const checked = new Set(state.get("checked") || []), layer = state.get("layer");
    const { total, inside } = rows.counts(checked), held = heldBelow();
    const selected = state.get("component") ? address(state.get("component")).layer : "";
    for (const i of shown) {
      const node = nodeOf(i), name = rows.names[i];
      const check = total[i] === 0 ? null : inside[i] === 0 ? "false" : inside[i] === total[i] ? "true" : "mixed";
      node.wb.box.hidden = check === null;
      const isUsable = rows.isUsable(i), isMarked = name !== "" && name === selected;
      set(node, {
        "aria-checked": check, "aria-selected": isUsable ? String(name === layer) : null,
        "aria-disabled": rows.reasons[i] ? "true" : null, "aria-label": labelOf(i, held, isMarked),
      });
      node.classList.toggle("wb-current", isUsable && name === layer);
      node.classList.toggle("wb-marked", isMarked);
      fill(i, node, held);
    }
    describe();
    sweep.draw();
  };
  const markSoon = eachFrame(mark);
  state.later(markSoon.stop);

  // For modules that are no layers: how many of the usable layers below have something stored.
  function heldBelow() {
    const have = new Set(rows.names.filter((_, i) => coverage(i) > 0));
    const query = rows.fits;
    rows.fits = rows.fits.map(() => true);
    const found = rows.counts(have);
    rows.fits = query;
    return found;
  }

  function coverage(i) {
    if (!stored.activations) return NaN;
    return Math.max(...KINDS.map(([kind]) => stored[kind][i] || 0));
  }

  function fill(i, node, held) {
    if (rows.reasons[i]) return;
    const [chips, cover] = [node.children[3], node.children[4]];
    if (!stored.activations) {
      replace(chips);
      return replace(cover);
    }
    if (!rows.isLayer(i)) {
      replace(chips);
      return replace(cover, held.total[i] ? h("span", { class: "wb-tree-sum" }, `${grouped(held.inside[i])} of ${grouped(held.total[i])}`, h("span", { class: "wb-tree-word" }, " layers")) : null);
    }
    const share = coverage(i);
    replace(chips, KINDS.map(([kind, short]) => {
      const part = stored[kind][i];
      return h("span", { class: `wb-chip${part >= 1 ? " wb-whole" : part > 0 ? " wb-part" : ""}`, title: `${kind}: ${part > 0 ? percent(part) : "not stored"}` }, short);
    }));
    replace(cover, h("span", { class: "wb-cover" }, h("i", { style: { width: `${100 * share}%` } })), h("span", {}, share > 0 ? percent(share) : "–"));
  }

  function labelOf(i, held, isMarked) {
    const name = i === 0 ? rows.labels[0] : rows.labels[i];
    if (!rows.isLayer(i)) return `${name}, ${stored.activations ? `${held.inside[i]} of ${plural(held.total[i], "layer")} stored` : plural(held.total[i], "layer")}`;
    const parts = [name, rows.kinds[i], plural(rows.components[i], "component"), rows.shapes[i] ? `output ${rows.shapes[i]}` : ""];
    if (rows.reasons[i]) parts.push(`cannot be used: it ${rows.reasons[i]}`);
    else if (stored.activations) parts.push(coverage(i) > 0 ? KINDS.filter(([kind]) => stored[kind][i] > 0).map(([kind]) => `${kind} ${percent(stored[kind][i])}`).join(", ") : "nothing stored");
    if (isMarked) parts.push("has the selected component");
    return parts.filter(Boolean).join(", ");
  }

  // The chosen layer in words, and what to do with it.
  function describe() {
    const layer = state.get("layer"), at = rows.place.get(layer);
    const selected = state.get("component");
    replace(note, selected ? `Selected: ${selected}` : "");
    if (peek >= 0) return replace(detail, h("div", { class: "wb-tree-detail-text" }, h("p", {}, h("strong", {}, rows.names[peek]), " cannot be used"), h("p", { class: "wb-hint" }, `It ${rows.reasons[peek]}. Choose the layers before and after it.`)));
    if (!layer || at === undefined) return replace(detail, h("p", {}, "Choose a layer with Enter or a click; others can follow it."));
    const facts = [rows.kinds[at], plural(rows.components[at], "component"), rows.shapes[at] ? `output ${rows.shapes[at]}` : ""];
    const has = stored.activations && coverage(at) > 0;
    const kept = !stored.activations ? "" : has
      ? `Stored: ${KINDS.filter(([kind]) => stored[kind][at] > 0).map(([kind]) => `${kind} over ${percent(stored[kind][at])}`).join(", ")}; about ${bytes(stored.bytes[at])} on disk.${stored.unfinished[at] ? " The sweep has not ended: check the same layers and resume it." : ""}`
      : "Nothing is stored: check it and plan a sweep.";
    const isFirst = selected === `${layer}/unit/0`;
    replace(detail,
      h("div", { class: "wb-tree-detail-text" }, h("p", {}, h("strong", {}, layer), ` · ${facts.filter(Boolean).join(" · ")}`), kept ? h("p", { class: "wb-hint" }, kept) : null),
      h("button", { type: "button", class: "wb-button", disabled: isFirst, onclick: () => first(layer) }, "First component"));
  }

  function first(layer) {
    state.put({ component: `${layer}/unit/0` });
    mark();
    frame.say(`${layer}, unit 0 selected`);
  }

  // Acting ----------------------------------------------------------------------------------------------------------

  function choose(i) {
    peek = rows.reasons[i] ? i : -1;
    if (peek >= 0) {
      describe();
      return frame.say(`${rows.labels[i]} cannot be used: it ${rows.reasons[i]}`);
    }
    if (!rows.isLayer(i)) return toggle(i);
    state.put({ layer: rows.names[i] });
    mark();
    frame.say(`${rows.names[i]} chosen`);
  }

  // The card of the selected component, if it is of this layer, else of the layer's first.
  function open(i) {
    if (!rows.isLayer(i) || rows.reasons[i]) return;
    if (!String(state.get("component") || "").startsWith(`${rows.names[i]}/`)) first(rows.names[i]);
    state.open("card");
  }

  function check(i, alone = false) {
    const wanted = alone && rows.isUsable(i) ? [i] : rows.under(i);
    if (!wanted.length) return frame.say(rows.reasons[i] ? `Cannot be checked: it ${rows.reasons[i]}` : "There is nothing to check here");
    const checked = new Set(state.get("checked") || []), isOn = wanted.every((at) => checked.has(rows.names[at]));
    for (const at of wanted) isOn ? checked.delete(rows.names[at]) : checked.add(rows.names[at]);
    state.put({ checked: rows.names.filter((name) => checked.has(name)) });
    mark();
    frame.say(`${grouped(checked.size)} checked`);
  }

  function toggle(i, open) {
    if (!rows.below[i].length || rows.isFiltered) return;
    const names = new Set(opened()), name = rows.names[i];
    (open ?? !names.has(name)) ? names.add(name) : names.delete(name);
    expand(names);
  }

  function expand(names) {
    state.put({ expanded: rows.names.filter((name, i) => rows.below[i].length && names.has(name)) });
    arrange();
  }

  function foldAll() {
    const parents = rows.names.filter((_, i) => rows.below[i].length), open = new Set(opened());
    expand(parents.every((name) => open.has(name)) ? new Set([""]) : new Set(parents));
  }

  function focusOn(i, take) {
    for (const node of tree.querySelectorAll('[tabindex="0"]')) node.tabIndex = -1;
    current = i;
    const node = shown.length ? nodeOf(i) : null;
    if (!node) return;
    node.tabIndex = 0;
    if (take) node.focus();
  }

  // However the focus came to a row, it is there that the keys act.
  function follow(event) {
    const i = shown.find((at) => nodeOf(at) === event.target);
    if (i !== undefined && i !== current) focusOn(i, false);
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "?") return;
    const at = shown.indexOf(current), isOpen = nodeOf(current).getAttribute("aria-expanded") === "true";
    let to = null;
    if (event.key === "ArrowDown") to = at + 1;
    else if (event.key === "ArrowUp") to = at - 1;
    else if (event.key === "PageDown" || event.key === "PageUp") to = at + (event.key === "PageDown" ? 10 : -10);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = shown.length - 1;
    else if (event.key === "ArrowRight") isOpen ? (to = at + 1) : toggle(current, true);
    else if (event.key === "ArrowLeft") {
      if (isOpen && !rows.isFiltered) toggle(current, false);
      else if (rows.parents[current] >= 0) to = shown.indexOf(rows.parents[current]);
    } else if (event.key === "Enter") rows.names[current] === state.get("layer") ? open(current) : choose(current);
    else if (event.key === " ") check(current, event.shiftKey);
    else if (event.key === "*") expand(new Set([...opened(), ...(rows.below[rows.parents[current]] || [0]).map((i) => rows.names[i])]));
    else if (event.key.length === 1) to = typeahead(event);
    else return;
    event.preventDefault();
    if (to !== null && shown.length) focusOn(shown[Math.max(0, Math.min(shown.length - 1, to))], true);
  }

  // The next row whose name begins with the letters typed within a moment.
  function typeahead(event) {
    typed = event.timeStamp - typedAt < 700 ? typed + event.key.toLowerCase() : event.key.toLowerCase();
    typedAt = event.timeStamp;
    const from = shown.indexOf(current) + (typed.length > 1 ? 0 : 1);
    const order = [...shown.slice(from), ...shown.slice(0, from)];
    const found = order.find((i) => rows.labels[i].toLowerCase().startsWith(typed));
    return found === undefined ? null : shown.indexOf(found);
  }

  // In step with the state ------------------------------------------------------------------------------------------

  state.on("tree", load);
  state.on("stored", () => (read(), markSoon()));
  state.on(["checked", "layer", "component", "status"], markSoon);
  state.on("expanded", arrange);
  state.on("query", () => {
    search.update(state.get("query"));
    rows.filter(state.get("query") || "");
    arrange();
    if (rows.isFiltered) frame.say(`${plural(rows.count, "layer")} with ${state.get("query")}`);
  });
  search.update(state.get("query"));
  read();
  load();
  return () => frame.close();
}

export default { render };
