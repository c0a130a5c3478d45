// NeuronMap: points on a plane, their legend, their list, their neighbours, and how all follow the traits.
import { array, button, choice, empty, grouped, h, inks, number, paced, plural, replace, segmented, set, settled, shell, slider, uid } from "../common/index.js";
import { gestures, rows as rowsOf } from "../common/gestures.js";
import { List } from "../common/list.js";
import { Data } from "./data.js";
import { Legend, titled, words } from "./legend.js";
import { PointMap } from "./map.js";
import { Panels } from "./panels.js";
import { Thumbs } from "./thumbs.js";

const KEYS = [
  ["drag", "move the map, or draw with lasso, box or brush"], ["wheel, + −", "zoom"], ["0", "show all"],
  ["click, Enter", "select a point"], ["Ctrl-click, Space", "add to or take from the set"], ["Shift", "extend the set"],
  ["Alt", "take from the set"], ["Shift-drag", "draw a box whatever the tool"], ["double click", "come close and open the card"], ["Enter on the selected", "open the card"],
  ["arrows", "go to the next point in a direction"], ["Shift-arrows", "move the map"], ["Esc", "clear the set"],
];
const SYMBOLS_UP_TO = 20_000;
const TOOLS = [
  { value: "move", text: "Move", title: "Drag to move the map" }, { value: "lasso", text: "Lasso", title: "Drag around points" },
  { value: "box", text: "Box", title: "Drag a box over points" }, { value: "brush", text: "Brush", title: "Paint over points" },
];

function render({ model, el }) {
  let map = null;
  const frame = shell({ model, el }, { kind: "map", label: "Neuron map", keys: KEYS, onTheme: () => map && retheme() });
  const { state, root, body, tools, note } = frame;
  const [ONE, SET] = state.get("_follows")?.[0] === "sample" ? ["sample", "samples"] : ["component", "components"];
  const data = new Data();
  let colour = { column: null, codes: null, colours: [], scale: null }, size = null, symbol = null, given = null;
  let draft = null; // the filter while it is being dragged
  let near = { row: -1, rows: [], distances: [] };

  // Parts --------------------------------------------------------------------------------------------------------------
  const below = h("canvas", { class: "wb-canvas wb-points", "aria-hidden": "true" });
  const canvas = h("canvas", { class: "wb-canvas", tabIndex: 0, role: "application", "aria-label": "Map of points. Arrows go to the next point in a direction, Enter selects, Space adds to the set." });
  const tip = h("div", { class: "wb-tip", hidden: true, "aria-hidden": "true" });
  const zoom = h("div", { class: "wb-zoom wb-group", role: "group", "aria-label": "Zoom" },
    button("minus", "Zoom out", () => map.zoomAt(1 / 1.6, map.selected)), button("plus", "Zoom in", () => map.zoomAt(1.6, map.selected)), button("fit", "Show all", () => map.glideFit()));
  const caption = h("div", { class: "wb-map-caption" });
  const stage = h("div", { class: "wb-stage wb-dimmable" }, below, canvas, caption, zoom, tip);
  const legend = new Legend({ onfilter: setFilter });
  const list = new List({ label: "List of points", onselect: (i, event) => fromList(i, event), onopen: (i) => open(i), onhover: (i) => point(i), row: listRow });
  list.onsight = (items) => { if (thumbs.isAvailable) thumbs.wantLoose(items); drawThumbs(); };
  const orderWord = h("span", { class: "wb-order" });
  const panels = new Panels({ list, order: orderWord, onopen: (name) => name === "points" && list.draw() });
  const layout = h("div", { class: "wb-map-body" }, stage, panels.node);
  const start = empty("The map is on its way", "Points appear here once their layer has been swept; first by PCA, then by UMAP.");

  const colourBy = choice("Colour", (name) => state.put({ color_by: name }));
  const classBy = choice("Class", (number) => state.put({ relevance_class: number === "" ? null : Number(number) }));
  const sizeBy = choice("Size", (name) => state.put({ size_by: name }));
  const symbolBy = choice("Symbol", (name) => state.put({ symbol_by: name }));
  const tool = segmented("Tool", TOOLS, (value) => state.put({ tool: value }));
  const projection = segmented("Layout", [{ value: "umap", text: "UMAP" }, { value: "pca", text: "PCA" }], (value) => state.put({ projection: value }));
  const lines = slider("Neighbours", { min: 0, max: 30, step: 1, format: (v) => (v ? String(v) : "none"), oninput: (v) => { drawnNeighbours = v; showNear(); }, onchange: (v) => { drawnNeighbours = null; state.put({ neighbours: v }); } });
  const pictures = tick("Thumbnails", (on) => state.put({ thumbnails: on }));
  const linked = tick("Only linked", (on) => state.put({ only_linked: on }), "Show the selected set alone");
  const options = h("div", { class: "wb-map-options", role: "group", "aria-label": "Options", hidden: true }, sizeBy.node, symbolBy.node, lines.node, projection.node, pictures.node, linked.node);
  const more = h("button", { type: "button", class: "wb-button", "aria-expanded": "false", onclick: () => showOptions(options.hidden) }, "Options");
  const toggle = button("list", "List", () => state.put({ show_list: !isListOpen() }), { "aria-pressed": "false" });
  tools.append(colourBy.node, classBy.node, tool.node, more, toggle);
  let drawnNeighbours = null;

  function tick(text, onchange, title = text) {
    const id = uid("tick");
    const input = h("input", { id, type: "checkbox", title, onchange: () => onchange(input.checked) });
    return { node: h("div", { class: "wb-field" }, input, h("label", { htmlFor: id, class: "wb-label" }, text)), input, update: (on) => (input.checked = on) };
  }

  function showOptions(show) {
    options.hidden = !show;
    set(more, { "aria-expanded": String(show) });
  }

  const thumbs = new Thumbs((kind, question) => frame.ask(kind, question), () => { map.draw(); drawThumbs(); refreshTip(); });
  let saved = "";
  const saveView = settled(400, () => {
    const view_box = map.isFitted ? [] : map.box.map((v) => Math.round(v * 1e5) / 1e5);
    saved = JSON.stringify(view_box);
    state.put({ view_box });
  });
  function showBox() {
    const box = state.get("view_box") || [];
    if (!data.n || JSON.stringify(box) === saved) return;
    saved = JSON.stringify(box);
    saveView.stop();
    if (box.length === 4) map.box = box;
    else map.glideFit();
  }
  map = new PointMap(below, canvas, {
    data, thumbs, onview: (isGiven) => { hideTip(); if (data.n && !isGiven) saveView(); }, oncontext: () => (root.dataset.drawn = map.webgl ? "webgl" : "canvas"),
    // In an exported page the policy forbids what shaders are compiled with.
    renderer: () => (state.get("status") === "still" ? "canvas" : state.get("_renderer")),
  });
  root.dataset.drawn = "canvas";

  // From the traits ----------------------------------------------------------------------------------------------------
  function load() {
    const next = state.get("points") || {};
    if (next.n === undefined) {
      frame.title(state.get("layer") ? `Map of ${state.get("layer")}` : "Map");
      return replace(body, start);
    }
    if (!layout.isConnected) replace(body, options, layout, h("div", { class: "wb-strip" }, legend.node));
    const isSame = given && next.same === given.same && next.n === data.n;
    const before = isSame ? map.passing || data.position : null;
    given = next;
    data.load(next, state.get("values"));
    thumbs.load({ digest: next.digest, block: data.block, n: next.n, isAvailable: next.has_tiles, isRecorded: next.is_recorded });
    measure();
    map.load({ keepView: isSame });
    saved = "[]";
    if (!isSame) showBox();
    const what = next.of === "components" ? "component" : next.layer ? "sample" : "point";
    frame.title(next.layer ? `Map of ${next.layer}` : "Map", [plural(next.n, what), data.names.length ? `in ${plural(data.names.length, "group")}` : "", next.apart_count ? `${grouped(next.apart_count)} apart` : ""].filter(Boolean).join(", ").replace(", in", " in"));
    replace(caption, next.layout);
    const listed = data.columns.map((c) => ({ value: c.name, text: words(c.name) }));
    colourBy.update(listed.length ? listed : [{ value: "", text: "none" }], state.get("color_by"));
    classBy.update([{ value: "", text: "largest of all" }, ...(next.classes || []).map(([value, text]) => ({ value, text }))], state.get("relevance_class") ?? "");
    sizeBy.update([{ value: "", text: "all alike" }, ...listed], state.get("size_by"));
    symbolBy.update([{ value: "", text: "all alike" }, ...listed], state.get("symbol_by"));
    projection.node.hidden = !next.can_refit;
    lines.node.hidden = !next.k;
    pictures.node.hidden = !next.has_tiles;
    map.names = groupNames();
    near = { row: -1, rows: [], distances: [] };
    encode();
    follow();
    if (before && !map.isStill && before.length === data.position.length && !sameArray(before, data.position)) map.move(before, () => {});
  }

  const sameArray = (a, b) => a.every((v, i) => v === b[i]);

  function groupNames() {
    const cluster = data.values.cluster;
    if (!cluster || !data.names.length) return [];
    const sums = data.names.map(() => [0, 0, 0, 0]);
    for (let i = 0; i < data.n; i++) {
      const sum = sums[cluster[i]];
      if (!sum || data.apart?.[i]) continue;
      sum[0] += data.position[2 * i];
      sum[1] += data.position[2 * i + 1];
      sum[3] += data.position[2 * i + 1] ** 2;
      sum[2]++;
    }
    // Above most of its points, so as not to cover them
    const above = ([, y, n, squares]) => y / n + 1.3 * Math.sqrt(Math.max(0, squares / n - (y / n) ** 2));
    return data.names.map((name, k) => ({ name, at: [sums[k][0] / sums[k][2], above(sums[k])], count: sums[k][2] })).filter((one) => one.count && one.name).sort((a, b) => b.count - a.count);
  }

  // Colour, size, symbol and filter; then all that shows them
  function encode() {
    if (!data.n) return;
    data.take(state.get("values"));
    data.takeClass(state.get("of_class"));
    classBy.select.value = state.get("relevance_class") ?? "";
    classBy.node.hidden = !given.classes?.length || ![state.get("color_by"), state.get("size_by"), state.get("symbol_by"), ...Object.keys(state.get("filter") || {})].includes("class_relevance");
    const dark = root.dataset.theme === "dark";
    colour = data.colour(state.get("color_by"), state.get("palette"), dark);
    size = data.size(state.get("size_by"));
    // Groups are told apart by symbols too, unless another column has them, or points are so many that only the graphics
    // card draws them, which has none.
    const isByGroups = !state.get("symbol_by") && colour.column?.kind === "category" && data.n <= SYMBOLS_UP_TO && state.get("_renderer") !== "webgl";
    symbol = data.symbol(isByGroups ? colour.column.name : state.get("symbol_by"));
    const [first] = symbolBy.select.options;
    if (first) first.text = isByGroups ? "as the groups" : "all alike";
    colourBy.select.value = state.get("color_by");
    sizeBy.select.value = state.get("size_by");
    symbolBy.select.value = state.get("symbol_by");
    filter();
  }

  function filter() {
    if (!data.n) return;
    const wanted = draft || state.get("filter") || {}, only = state.get("only_linked") && map.nMembers ? map.members : null;
    data.filter(wanted, only);
    map.recolour({ codes: colour.codes, colours: colour.colours, steps: size?.steps || null, symbols: symbol?.symbols || null });
    legend.load(colour, size, symbol, wanted, map.inks);
    if (draft) return;
    const items = data.sorted(colour.column?.name);
    data.rank = null;
    list.load(items);
    const by = colour.column ? `by ${titled(colour.column)}` : "by number";
    replace(panels.count, data.nShown === data.n ? `All ${grouped(data.n)}` : `${grouped(data.nShown)} of ${grouped(data.n)}`);
    replace(orderWord, by);
    list.select(map.selected, { scroll: false });
    showGroups();
  }

  function setFilter(name, wanted, done) {
    const next = { ...(state.get("filter") || {}) };
    if (wanted) next[name] = wanted;
    else delete next[name];
    draft = done ? null : next;
    if (!done) return filter();
    state.put({ filter: next });
    filter();
    frame.say(`${grouped(data.nShown)} of ${grouped(data.n)} shown`);
  }

  function rank(i) {
    if (!data.rank) {
      data.rank = new Uint32Array(data.n);
      list.items.forEach((row, at) => (data.rank[row] = at + 1));
    }
    return data.rank[i] || Infinity;
  }

  function follow() {
    if (!data.n) return;
    const i = data.row(state.get(ONE)), moved = i !== map.selected;
    map.selected = i;
    if (i >= 0 && moved) {
      map.focus = i;
      if (!byPointer) map.reveal(i);
    }
    byPointer = false;
    const ids = state.get(SET) || [];
    if (ids !== followed) {
      followed = ids;
      map.setMembers(data.rowsOf(ids));
      list.members = new Set(rowsOf(map.members));
      if (state.get("only_linked")) filter();
      else showGroups();
    }
    list.select(i);
    const parts = [map.nMembers ? `${grouped(map.nMembers)} of ${grouped(data.n)} in the set` : "", i >= 0 ? `selected ${data.labels ? data.name(i) : [data.id(i), data.label(i)].filter(Boolean).join(" · ")}` : ""];
    replace(note, parts.filter(Boolean).join(" · ") || "Click a point to see what it stands for");
    findNear();
    map.draw();
  }
  let followed = null, byPointer = false;

  // Neighbours in the full space: from what came with the points, else asked for
  async function findNear() {
    const row = map.selected;
    if (row === near.row) return showNear();
    const packed = state.get("near") || {}, most = given.k;
    if (row < 0 || !most) near = { row, rows: [], distances: [] };
    else if (packed.ids && packed.digest === data.digest) {
      const ids = array(packed.ids), distances = array(packed.distances), k = packed.ids.shape[1];
      near = { row, rows: Array.from(ids.subarray(row * k, (row + 1) * k)), distances: Array.from(distances.subarray(row * k, (row + 1) * k)) };
      near.rows = near.rows.filter((one) => one < data.n && one >= 0);
    } else {
      near = { row, rows: [], distances: [], isWaiting: true };
      const answer = await frame.ask("neighbours", { digest: data.digest, row, k: most }, { topic: "neighbours" });
      if (map.selected !== row || near.row !== row) return;
      near = answer ? { row, rows: Array.from(array(answer.result.rows, answer.buffers)), distances: Array.from(array(answer.result.distances, answer.buffers)) } : { row, rows: [], distances: [], isMissing: true };
    }
    showNear();
  }

  function showNear() {
    const k = drawnNeighbours ?? state.get("neighbours");
    map.near = near.row >= 0 && near.row === map.selected ? near.rows.slice(0, k) : null;
    map.draw();
    if (!data.n) return;
    const i = map.selected;
    const title = i < 0 ? "Nearest in the full space" : `Nearest to ${data.name(i)} in the full space${given.distance ? `, by ${given.distance}` : ""}`;
    const why = !given.k ? "This map keeps no neighbours." : i < 0 ? "Select a point to see what lies nearest to it." : near.isWaiting ? "They are being looked up." : near.isMissing ? "They are not in this page." : !k ? "No neighbours are asked for: see Options." : "Nothing is near: the distance says nothing about this point.";
    const shown = (map.near || []).map((row, at) => ({ row, name: data.name(row), detail: data.cluster(row), distance: near.distances[at] }));
    panels.near(title, shown, why, { onpick: (row) => pick(row), onhover: (row) => point(row) });
  }

  function showGroups() {
    const column = colour.column?.kind === "category" ? colour.column : data.column("cluster") || data.columns.find((c) => c.kind === "category");
    const values = column && data.values[column.name];
    if (!values) return panels.groups("", []);
    const order = data.order(column), chosen = new Map();
    for (const i of list.members) chosen.set(values[i], (chosen.get(values[i]) || 0) + 1);
    panels.groups(`By ${words(column.name)}: click to select`, order.slice(0, 200).map((code) => ({
      name: column.names?.[code] || String(code), count: column.sizes.get(code), chosen: chosen.get(code) || 0,
      colour: colour.column === column ? colour.scale.of(code) : null,
      onpick: (event) => {
        const inside = rowsOf(Uint8Array.from(values, (v) => v === code)), old = map.members;
        if (event.altKey) choose(rowsOf(old).filter((i) => values[i] !== code));
        else if (event.ctrlKey || event.metaKey || event.shiftKey) choose([...new Set([...rowsOf(old), ...inside])].sort((a, b) => a - b));
        else choose(inside, { opens: true });
      },
    })));
  }

  function retheme() {
    readInks();
    encode();
  }

  function readInks() {
    const probe = h("span", { class: "wb-map-probe" });
    map.inks = inks(root);
    root.append(probe);
    for (const [name, variable] of [["ground", "--wb-softer"], ["rimInk", "--wb-map-rim"], ["dimInk", "--wb-map-dim"], ["edgeInk", "--wb-edge"]]) {
      probe.style.color = `var(${variable})`;
      map.inks[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  const sentence = (i) => [data.name(i), data.cluster(i), colour.column && colour.column.name !== "cluster" ? `${titled(colour.column)} ${data.reading(i, colour.column.name)}` : "", Number.isFinite(rank(i)) ? `rank ${rank(i)} of ${grouped(data.nShown)}` : "filtered out"].filter(Boolean).join(", ");

  function pick(i) {
    byPointer = true;
    map.focus = i;
    state.put({ [ONE]: data.id(i) });
    follow();
    frame.say(sentence(i));
  }

  // The first of a new set, by the colour, is opened.
  function choose(rows, { opens = false } = {}) {
    const ids = rows.map((i) => data.id(i)), first = opens && rows.length ? rows.reduce((a, b) => (rank(b) < rank(a) ? b : a)) : -1;
    byPointer = true;
    state.put(first < 0 ? { [SET]: ids } : { [ONE]: data.id(first), [SET]: ids });
    follow();
    frame.say(`${grouped(rows.length)} of ${grouped(data.n)} selected`);
  }

  function toggleMember(i) {
    const marks = Uint8Array.from(map.members);
    marks[i] = 1 - marks[i];
    choose(rowsOf(marks));
  }

  function extend(i) {
    if (!map.members[i]) toggleMember(i);
  }

  // In the list Shift takes all between, as lists do.
  function fromList(i, event) {
    if (event?.ctrlKey || event?.metaKey) return toggleMember(i);
    if (event?.shiftKey && event.type === "click" && map.selected >= 0) {
      const [a, b] = [list.place.get(map.selected) ?? list.place.get(i), list.place.get(i)].sort((x, y) => x - y);
      const marks = Uint8Array.from(map.members);
      for (const row of list.items.slice(a, b + 1)) marks[row] = 1;
      return choose(rowsOf(marks));
    }
    map.focus = i;
    state.put({ [ONE]: data.id(i) });
    follow();
    frame.say(sentence(i));
  }

  gestures(map, canvas, {
    tool: () => state.get("tool"), pick, toggle: toggleMember, extend, choose, members: () => map.members, hover,
    leave: () => hideTip(), say: (i) => frame.say(sentence(i)), open,
  });

  function open(i, comesClose = true) {
    pick(i);
    state.open(ONE === "sample" ? "heatmap" : "card");
    if (comesClose) map.glideTo(i, Math.max(map.view.s * 2.5, map.fitting * 4));
  }

  // A point is pointed at from beside the map
  function point(i) {
    map.hover = i;
    state.hover(i < 0 ? null : data.id(i));
    map.draw();
  }

  const showTip = settled(60, (i, px, py) => {
    if (i !== map.hover || i < 0) return;
    const thumb = h("canvas", { class: "wb-tip-picture", width: 192, height: 192 });
    tip.dataset.i = i;
    const listed = data.columns.filter((c) => c.name !== "cluster" && data.values[c.name]).slice(0, 8).map((c) => [h("dt", {}, titled(c)), h("dd", {}, data.reading(i, c.name))]);
    const title = data.labels || data.of !== "components" ? data.name(i) : data.id(i);
    replace(tip, thumbs.isAvailable ? thumb : null, h("div", {}, h("strong", {}, title), data.label(i) ? h("div", {}, data.label(i)) : null, data.cluster(i) ? h("div", { class: "wb-tip-cluster" }, data.cluster(i)) : null, h("dl", {}, listed)));
    tip.hidden = false;
    const [width, height] = [tip.offsetWidth, tip.offsetHeight], left = px + 18 + width > map.width ? px - 18 - width : px + 18;
    tip.style.left = `${Math.max(4, Math.min(map.width - width - 4, left))}px`;
    tip.style.top = `${Math.max(4, Math.min(map.height - height - 4, py - height / 2))}px`;
    if (thumbs.isAvailable) thumbs.wantLoose([i]);
    refreshTip();
  });

  function hover(i, px, py) {
    if (i === map.hover) return;
    point(i);
    canvas.classList.toggle("wb-pointing", i >= 0);
    if (i < 0) tip.hidden = true;
    else showTip(i, px, py);
  }

  function hideTip() {
    if (map?.hover >= 0) point(-1);
    canvas.classList.remove("wb-pointing");
    tip.hidden = true;
  }

  function refreshTip() {
    const picture = !tip.hidden && tip.querySelector("canvas");
    if (picture) thumbs.draw(picture.getContext("2d"), Number(tip.dataset.i), 0, 0, 192, 192);
  }

  function listRow(i) {
    const rgb = colour.colours[colour.codes[i]];
    return [
      thumbs.isAvailable ? h("canvas", { class: "wb-thumb", width: 72, height: 72, "data-i": i, "aria-hidden": "true" }) : h("span", {}),
      h("div", { class: "wb-row-text" }, h("span", { class: "wb-row-name" }, data.name(i)), h("span", { class: "wb-row-cluster" }, data.cluster(i))),
      h("div", { class: "wb-row-value" }, colour.column && colour.column.name !== "cluster" ? h("span", { class: "wb-row-number" }, data.reading(i, colour.column.name)) : "", h("i", { style: { background: `rgb(${rgb})` } })),
    ];
  }

  const drawThumbs = paced(60, () => {
    for (const row of list.rows.values()) {
      const thumb = row.querySelector("canvas");
      if (thumb && !thumb.dataset.done && thumbs.draw(thumb.getContext("2d"), Number(thumb.dataset.i), 0, 0, 72, 72)) thumb.dataset.done = "1";
    }
  });

  // Size ---------------------------------------------------------------------------------------------------------------
  const isListOpen = () => state.get("show_list") ?? root.clientWidth >= 820;
  function measure() {
    const open = isListOpen();
    panels.node.hidden = !open;
    layout.classList.toggle("wb-with-list", open);
    layout.classList.toggle("wb-without-pictures", !thumbs.isAvailable);
    set(toggle, { "aria-pressed": String(open) });
    const before = map.inks.ink2;
    readInks();
    if (map.inks.ink2 !== before && data.columns.length) encode(); // a view has no colours before it is in the document
    map.resize(stage.clientWidth, stage.clientHeight);
    map.draw();
    list.draw();
  }
  const watch = new ResizeObserver(() => measure());
  watch.observe(root);
  watch.observe(stage);
  // What leaves the screen gives its context back, and has its picture meanwhile.
  const sight = new IntersectionObserver((entries) => (entries.at(-1).isIntersecting ? map.wake() : map.webgl && map.sleep()));
  sight.observe(root);

  state.watch("labels", () => {
    data.written = state.get("labels") || {};
    if (!data.n) return;
    list.refresh();
    follow();
  });
  state.on("points", load);
  state.on(["color_by", "size_by", "symbol_by", "palette", "values", "of_class"], encode);
  state.on("relevance_class", () => (classBy.select.value = state.get("relevance_class") ?? ""));
  state.on(["filter", "only_linked"], () => { linked.update(Boolean(state.get("only_linked"))); filter(); });
  state.on([ONE, SET], follow);
  state.on("near", () => { near.row = -1; if (data.n) findNear(); });
  state.on("neighbours", () => { lines.update(state.get("neighbours")); showNear(); });
  state.on("hover", (origin) => {
    if (origin === state || !data.n) return;
    map.hover = data.row(state.get("hover"));
    map.draw();
  });
  state.on("show_list", measure);
  state.on("view_box", showBox);
  state.watch("tool", () => { tool.update(state.get("tool")); canvas.dataset.tool = state.get("tool"); });
  state.watch("projection", () => projection.update(state.get("projection")));
  state.watch("thumbnails", () => { pictures.update(state.get("thumbnails")); map.showsThumbs = state.get("thumbnails"); map.draw(); });
  linked.update(Boolean(state.get("only_linked")));
  lines.update(state.get("neighbours"));
  load();

  return () => {
    watch.disconnect();
    sight.disconnect();
    [saveView, showTip, drawThumbs].forEach((timer) => timer.stop());
    map.close();
    thumbs.close();
    frame.close();
  };
}

export default { render };
