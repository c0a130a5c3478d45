// AtlasBrowser: the board, its list, its legend, and how they follow the traits.
import { array, button, choice, empty, grouped, h, inks, nameOf as nameOfComponent, number, paced, plural, replace, scaleOf, searchbox, segmented, set, settled, shell } from "../common/index.js";
import { Board } from "./board.js";
import { Legend } from "./legend.js";
import { gestures } from "../common/gestures.js";
import { List } from "../common/list.js";
import { Tiles } from "../common/tiles.js";

const KEYS = [
  ["drag", "move the board"], ["wheel, + −", "zoom"], ["0", "show all"],
  ["click, Enter", "select a component"], ["Ctrl-click, Space", "add to or take from the set"], ["Shift", "extend the set"], ["Alt", "take from the set"],
  ["Shift-drag, Alt-drag", "draw a box"], ["double click", "come close and open the card"], ["Enter on the selected", "open the card"],
  ["arrows", "go to the neighbour"], ["Shift-arrows", "move the board"], ["Esc", "clear the set"],
];

function render({ model, el }) {
  let board = null;
  const frame = shell({ model, el }, { kind: "atlas", label: "Concept atlas", keys: KEYS, onTheme: () => board && retheme() });
  const { state, root, body, tools, note } = frame;
  const data = { columns: [], values: {}, ids: [], names: [], cluster: null, n: 0 };

  // Parts --------------------------------------------------------------------------------------------------------------
  const canvas = h("canvas", { class: "wb-canvas", tabIndex: 0, role: "application", "aria-label": "Board of components. Arrows go to the neighbour, Enter selects." });
  const tip = h("div", { class: "wb-tip", hidden: true, "aria-hidden": "true" });
  const zoom = h("div", { class: "wb-zoom wb-group", role: "group", "aria-label": "Zoom" },
    button("minus", "Zoom out", () => board.zoom(1 / 1.6)), button("plus", "Zoom in", () => board.zoom(1.6)), button("fit", "Show all", () => board.glideFit()));
  const stage = h("div", { class: "wb-stage wb-dimmable" }, canvas, zoom, tip);
  const legend = new Legend({ onfilter: (value, done) => (done ? state.put({ min_score: value }) : filter({ min_score: value })), onpick: (query) => state.put({ query }) });
  const count = h("div", { class: "wb-count" });
  const order = choice("Order", (sort) => state.put({ sort }));
  const list = new List({
    onselect: (i, event) => fromList(i, event),
    onopen: (i, comesClose) => open(i, comesClose),
    onhover: (i) => { board.hover = i; state.hover(i < 0 ? null : id(i)); board.draw(); },
    row: (i) => listRow(i),
  });
  list.onsight = (items) => { tiles.wantLoose(items); drawThumbs(); };
  const aside = h("aside", { class: "wb-aside", "aria-label": "List of components" }, h("div", { class: "wb-aside-head" }, count, order.node), list.node);
  const layout = h("div", { class: "wb-atlas-body" }, stage, aside);
  const basis = h("p", { class: "wb-basis", hidden: true });
  const start = empty("The atlas is on its way", "Components appear here once their layer has been swept and laid out.");

  const overlay = choice("Colour", (name) => state.put({ overlay: name, min_score: null }));
  // Names of the outputs; "" for all samples, whatever was explained on them.
  const target = choice("For", (value) => state.put({ target: value || null, min_score: null }));
  const less = choice("minus", (value) => state.put({ compare_target: value, min_score: null }));
  const targets = h("div", { class: "wb-targets wb-group", role: "group", "aria-label": "Relevance for", hidden: true }, target.node, less.node);
  const search = searchbox("Find a component or cluster", "Find…", settled(150, (query) => state.put({ query })));
  const level = segmented("Show", [
    { value: "auto", text: "Auto", title: "Depending on the zoom" }, { value: "dots", text: "Dots" }, { value: "tiles", text: "Crops" }, { value: "cards", text: "Cards" },
  ], (value) => changeLevel(value));
  const linked = h("button", { type: "button", class: "wb-button", title: "Show the selected set alone", "aria-pressed": "false", onclick: () => state.put({ only_linked: !state.get("only_linked") }) }, "Only linked");
  const toggle = button("list", "List", () => state.put({ show_list: !isListOpen() }), { "aria-pressed": "false" });
  tools.append(overlay.node, targets, search.node, level.node, linked, toggle);

  const tiles = new Tiles((kind, question) => frame.ask(kind, question), () => { board.draw(); drawThumbs(); refreshTip(); });
  const saveView = settled(400, () => {
    const { x, y, s } = board.view;
    state.put({ view_box: board.isFitted ? [] : [x, y, x + board.width / s, y + board.height / s].map((v) => Math.round(v * 1000) / 1000) });
  });
  board = new Board(canvas, { tiles, onview: () => { hideTip(); saveView(); } });

  // From the traits ----------------------------------------------------------------------------------------------------
  function load() {
    const given = state.get("board") || {};
    const ready = given.n !== undefined;
    if (!ready) {
      frame.title(state.get("layer") ? `Concepts of ${state.get("layer")}` : "Concepts");
      return replace(body, start);
    }
    if (!layout.isConnected) replace(body, layout, h("div", { class: "wb-strip" }, legend.node, basis));
    data.n = given.n;
    data.columns = given.columns;
    data.names = given.cluster_names;
    data.prefix = `${given.layer}/${given.basis}/`;
    data.basis = given.basis;
    data.layer = given.layer;
    data.values = Object.fromEntries(Object.entries(state.get("values") || {}).map(([name, packed]) => [name, array(packed)]));
    data.cluster = data.values.cluster || null;
    const cells = array(given.cells), places = array(given.cluster_at);
    const sizes = new Map();
    if (data.cluster) for (const c of data.cluster) sizes.set(c, (sizes.get(c) || 0) + 1);
    const largest = Math.max(1, ...sizes.values());
    const names = data.names
      .map((name, k) => ({ name, at: [places[2 * k], places[2 * k + 1]], weight: (sizes.get(k) || 0) / largest }))
      .filter(({ at, weight, name }) => weight > 0 && name && Number.isFinite(at[0]))
      .sort((a, b) => b.weight - a.weight);
    tiles.load({ digest: given.digest, cells, grid: given.grid, n: given.n, isAvailable: given.has_tiles, isRecorded: given.is_recorded });
    measure();
    board.load({ cells, grid: given.grid, n: given.n, names });
    const box = state.get("view_box");
    if (box?.length === 4 && box[2] > box[0]) board.look({ s: board.width / (box[2] - box[0]), x: box[0], y: box[1] });
    const originals = given.n_originals ? `, references from ${plural(given.n_originals, "original")}` : "";
    const coverage = given.coverage < 1 ? `, ${Math.round(100 * given.coverage)} % of the data` : "";
    frame.title(`Concepts of ${given.layer}`, `${plural(given.n, "component")}${data.names.length ? ` in ${plural(data.names.length, "cluster")}` : ""}${originals}${coverage}`);
    chooseTargets();
    order.update([{ value: "overlay", text: "by colour" }, { value: "address", text: "by number" }, ...(data.cluster ? [{ value: "cluster", text: "by cluster" }] : [])], state.get("sort"));
    recolour();
    follow();
  }

  const isOfTarget = () => state.get("overlay") === "target";
  const given = () => (state.get("target_values")?.column ? state.get("target_values") : null);
  const blank = { name: "target", kind: "number", low: 0, high: 0, title: "relevance" };
  const column = () => (isOfTarget() ? given()?.column ?? blank : data.columns.find((c) => c.name === state.get("overlay")) || data.columns[0]);
  const valuesOf = (chosen) => (chosen.name !== "target" || data.columns.includes(chosen) ? data.values[chosen.name] : data.target ?? new Float32Array(data.n).fill(NaN));
  const titleOf = (chosen) => chosen.title ?? chosen.name.replaceAll("_", " ");

  // What there is to colour by, and the outputs
  function chooseTargets() {
    const known = state.get("targets") || [];
    const columns = data.columns.map((c) => ({ value: c.name, text: c.name.replaceAll("_", " ") }));
    overlay.update([...columns, ...(known.length || isOfTarget() ? [{ value: "target", text: "relevance for a target" }] : [])], state.get("overlay"));
    const options = known.map(({ value, text, n }) => ({ value, text: n === null ? text : `${text} (${grouped(n)})` }));
    const chosen = state.get("target") === "top" ? "" : state.get("target") || "", other = state.get("compare_target") || "";
    const own = (value) => (value && !known.some((one) => one.value === value) ? [{ value, text: value }] : []);
    target.update([{ value: "", text: "all samples" }, ...own(chosen), ...options], chosen);
    less.update([{ value: "", text: "nothing" }, ...own(other), ...options], other);
    targets.hidden = !isOfTarget();
  }

  function takeTarget(isNews) {
    const found = given();
    data.target = found ? array(found.values) : null;
    if (!data.n) return;
    chooseTargets();
    if (!isOfTarget()) return;
    recolour();
    if (isNews && found) announce(found);
  }

  function announce(found) {
    if (found.why) return frame.say(found.why);
    const order = [...data.target.keys()].filter((i) => Number.isFinite(data.target[i])).sort((a, b) => data.target[b] - data.target[a] || a - b);
    if (!order.length) return;
    const [first, last] = [order[0], order[order.length - 1]];
    frame.say(`${found.title}: most for ${nameOf(first)}, ${number(data.target[first])}, least for ${nameOf(last)}, ${number(data.target[last])}`);
  }
  const id = (i) => data.prefix + i;
  const index = (text) => (text && data.prefix && String(text).startsWith(data.prefix) ? Number(String(text).slice(data.prefix.length)) : -1);
  const clusterOf = (i) => (data.cluster ? data.names[data.cluster[i]] || "" : "");

  function recolour() {
    if (!data.n) return;
    const chosen = column();
    board.values = chosen ? valuesOf(chosen) : new Float32Array(data.n);
    const found = isOfTarget() ? given() : null;
    basis.hidden = !found;
    replace(basis, found ? found.why || found.note : "");
    if (chosen?.kind === "category") {
      const sizes = new Map();
      for (const v of board.values) if (v >= 0) sizes.set(v, (sizes.get(v) || 0) + 1);
      chosen.order = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || a - b);
    }
    board.scale = scaleOf(chosen || { kind: "number", low: 0, high: 1 }, state.get("palette"), root.dataset.theme === "dark");
    overlay.select.value = isOfTarget() ? "target" : chosen?.name ?? "";
    targets.hidden = !isOfTarget();
    filter();
  }

  function reading(i) {
    const chosen = column();
    if (!chosen) return "";
    const v = board.values[i];
    return chosen.kind === "category" ? chosen.names?.[v] ?? "" : `${titleOf(chosen)} ${number(v)}`;
  }
  const labelOf = (i) => (state.get("labels") || {})[id(i)] || "";
  const nameOf = (i) => nameOfComponent(id(i), state.get("labels"));
  board.caption = (i) => [nameOf(i), reading(i)];

  // Which are dimmed, and the list of the others in order
  function filter({ min_score = state.get("min_score") } = {}) {
    if (!data.n) return;
    const chosen = column(), values = board.values, query = state.get("query").toLocaleLowerCase();
    const only = state.get("only_linked") && board.members.size ? board.members : null;
    const limited = min_score !== null && chosen && chosen.kind !== "category";
    const shown = new Uint8Array(data.n);
    const items = [];
    const named = data.names.map((name) => name.toLocaleLowerCase().includes(query));
    for (let i = 0; i < data.n; i++) {
      if (only && !only.has(i)) continue;
      if (limited && !(values[i] >= min_score)) continue;
      if (query && !id(i).toLocaleLowerCase().includes(query) && !labelOf(i).toLocaleLowerCase().includes(query) && !(data.cluster && named[data.cluster[i]])) continue;
      shown[i] = 1;
      items.push(i);
    }
    const sort = state.get("sort");
    const worth = (i) => (Number.isFinite(values[i]) ? values[i] : -Infinity);
    if (sort === "overlay" && chosen?.kind !== "category") items.sort((a, b) => worth(b) - worth(a) || a - b);
    else if (sort === "overlay") items.sort((a, b) => values[a] - values[b] || a - b);
    else if (sort === "cluster" && data.cluster) items.sort((a, b) => data.cluster[a] - data.cluster[b] || a - b);
    data.rank = new Map(items.map((i, at) => [i, at + 1]));
    board.shown = items.length === data.n ? null : shown;
    board.draw();
    list.load(items);
    replace(count, items.length === data.n ? `All ${grouped(data.n)}` : `${grouped(items.length)} of ${grouped(data.n)}`);
    order.select.value = sort;
    if (chosen) legend.load(chosen, board.scale, min_score, state.get("query"));
    list.select(board.selected, { scroll: false });
  }

  function follow() {
    const i = index(state.get("component"));
    const moved = i !== board.selected;
    board.selected = i < data.n ? i : -1;
    if (board.selected >= 0 && moved) {
      board.focus = i;
      if (!byPointer) board.reveal(i);
    }
    byPointer = false;
    const members = new Set([...(state.get("components") || [])].map(index).filter((k) => k >= 0));
    const isOther = members.size !== board.members.size || [...members].some((k) => !board.members.has(k));
    board.members = list.members = members;
    if (isOther && state.get("only_linked")) filter();
    list.select(board.selected);
    const parts = [members.size ? `${grouped(members.size)} of ${grouped(data.n)} in the set` : "", board.selected >= 0 ? `selected ${[id(i), labelOf(i)].filter(Boolean).join(" · ")}` : ""];
    replace(note, parts.filter(Boolean).join(" · ") || (data.n ? "Click a component to see what it stands for" : ""));
    board.draw();
  }

  function retheme() {
    board.inks = inks(root);
    recolour();
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  let byPointer = false;

  const sentence = (i) => `${board.caption(i)[0]}, ${clusterOf(i)} ${reading(i)}, rank ${data.rank.get(i) ?? "–"} of ${grouped(data.rank.size)}`;

  function select(i) {
    board.focus = i;
    state.put({ component: id(i) });
    follow();
    frame.say(sentence(i));
  }

  function pick(i) {
    byPointer = true;
    select(i);
  }

  function open(i, comesClose = true) {
    pick(i);
    state.open("card");
    if (comesClose) board.glideTo(i, board.view.s < 100 ? 132 : 220);
  }

  function toggleMember(i) {
    const members = new Set(board.members);
    if (!members.delete(i)) members.add(i);
    choose([...members]);
  }

  function extend(i) {
    if (!board.members.has(i)) toggleMember(i);
  }

  function choose(members) {
    state.put({ components: members.map(id) });
    frame.say(`${grouped(members.length)} of ${grouped(data.n)} selected`);
    follow();
  }

  // In the list Shift takes all between, as lists do.
  function fromList(i, event) {
    if (event?.ctrlKey || event?.metaKey) return toggleMember(i);
    if (!event?.shiftKey || event.type !== "click" || board.selected < 0) return select(i);
    const [a, b] = [list.place.get(board.selected) ?? list.place.get(i), list.place.get(i)].sort((x, y) => x - y);
    choose([...new Set([...board.members, ...list.items.slice(a, b + 1)])]);
  }

  gestures(board, canvas, {
    tool: () => "move", pick, toggle: toggleMember, extend, choose, hover, open, farthest: 0.95,
    members: () => Uint8Array.from({ length: data.n }, (_, i) => Number(board.members.has(i))),
    leave: () => { hover(-1); hideTip(); }, say: (i) => frame.say(sentence(i)),
  });

  function changeLevel(value) {
    state.put({ level: value });
    // A level that would be unreadable at this zoom brings the board nearer.
    const least = { tiles: 30, cards: 116 }[value];
    if (least && board.view.s < least) board.zoom(least / board.view.s);
  }

  // The readout beside the pointer
  const showTip = settled(60, (i, px, py) => {
    if (i !== board.hover || i < 0) return;
    const thumb = h("canvas", { class: "wb-tip-picture", width: 192, height: 192 });
    tip.dataset.i = i;
    const rows = data.columns.filter((c) => c.name !== "cluster").slice(0, 8).map((c) => {
      const v = data.values[c.name][i];
      return [h("dt", {}, c.name.replaceAll("_", " ")), h("dd", {}, c.kind === "category" ? c.names?.[v] ?? "–" : number(v))];
    });
    if (isOfTarget() && given()) rows.unshift([h("dt", {}, titleOf(column())), h("dd", {}, number(board.values[i]))]);
    replace(tip, tiles.isAvailable ? thumb : null, h("div", {}, h("strong", {}, id(i)), labelOf(i) ? h("div", {}, labelOf(i)) : null, clusterOf(i) ? h("div", { class: "wb-tip-cluster" }, clusterOf(i)) : null, h("dl", {}, rows)));
    tip.hidden = false;
    const [width, height] = [tip.offsetWidth, tip.offsetHeight];
    const left = px + 18 + width > board.width ? px - 18 - width : px + 18;
    tip.style.left = `${Math.max(4, Math.min(board.width - width - 4, left))}px`;
    tip.style.top = `${Math.max(4, Math.min(board.height - height - 4, py - height / 2))}px`;
    tiles.wantLoose([i]);
    refreshTip();
  });

  function hover(i, px, py) {
    if (i === board.hover) return;
    board.hover = i;
    state.hover(i < 0 ? null : id(i));
    canvas.classList.toggle("wb-pointing", i >= 0);
    board.draw();
    if (i < 0 || board.mode === "cards") hideTip(false);
    if (i >= 0 && board.mode !== "cards") showTip(i, px, py);
  }

  function hideTip(forget = true) {
    if (forget && board) {
      board.hover = -1;
      state.hover(null);
    }
    tip.hidden = true;
  }

  function refreshTip() {
    const picture = !tip.hidden && tip.querySelector("canvas");
    if (picture) tiles.draw(picture.getContext("2d"), Number(tip.dataset.i), 0, 0, 192, 192);
  }

  function listRow(i) {
    const colour = board.scale.of(board.values[i]), chosen = column();
    const v = board.values[i];
    return [
      h("canvas", { class: "wb-thumb", width: 72, height: 72, "data-i": i, "aria-hidden": "true" }),
      h("div", { class: "wb-row-text" }, h("span", { class: "wb-row-name" }, nameOf(i)), h("span", { class: "wb-row-cluster" }, clusterOf(i))),
      h("div", { class: "wb-row-value" }, chosen && chosen.kind !== "category" ? number(v) : "", h("i", { style: { background: colour ? `rgb(${colour})` : "none" } })),
    ];
  }

  const drawThumbs = paced(60, () => {
    for (const row of list.rows.values()) {
      const thumb = row.querySelector("canvas");
      if (thumb && !thumb.dataset.done && tiles.draw(thumb.getContext("2d"), Number(thumb.dataset.i), 0, 0, 72, 72)) thumb.dataset.done = "1";
    }
  });

  // Size ---------------------------------------------------------------------------------------------------------------
  const isListOpen = () => state.get("show_list") ?? root.clientWidth >= 860;
  function measure() {
    const open = isListOpen();
    aside.hidden = !open;
    layout.classList.toggle("wb-with-list", open);
    set(toggle, { "aria-pressed": String(open) });
    // A view is made before it is in the document, where it has neither colours nor size.
    board.inks = inks(root);
    board.resize(stage.clientWidth, stage.clientHeight);
    board.draw();
    list.draw();
  }
  const watch = new ResizeObserver(() => measure());
  watch.observe(root);
  watch.observe(stage);

  state.on(["board"], load);
  state.on(["overlay", "palette"], () => { if (data.n) chooseTargets(); recolour(); });
  state.on(["target", "compare_target", "targets"], () => data.n && chooseTargets());
  state.on("target_values", () => takeTarget(true));
  state.on("labels", () => {
    if (!data.n) return;
    filter();
    follow();
  });
  state.on(["min_score", "query", "sort"], () => { search.update(state.get("query")); filter(); });
  state.on(["component", "components"], follow);
  state.on("hover", (origin) => {
    if (origin === state) return;
    board.hover = index(state.get("hover"));
    board.draw();
  });
  state.watch("only_linked", () => { set(linked, { "aria-pressed": String(Boolean(state.get("only_linked"))) }); filter(); });
  state.on("show_list", measure);
  state.watch("level", () => { level.update(state.get("level")); board.level = state.get("level"); board.draw(); });
  search.update(state.get("query"));
  takeTarget(false);
  load();

  return () => {
    watch.disconnect();
    [saveView, showTip, drawThumbs].forEach((timer) => timer.stop());
    board.draw.stop();
    tiles.close();
    frame.close();
  };
}

export default { render };
