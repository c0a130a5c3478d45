// SampleGrid: filter, order and groups of the samples, choosing among them, and tagging what is chosen.
import { array, button, choice, empty, grouped, h, plural, replace, searchbox, segmented, set, settled, shell, uid } from "../common/index.js";
import { Grid } from "./grid.js";
import { Rows } from "./rows.js";
import { Thumbs } from "./thumbs.js";

const KEYS = [
  ["click, Enter", "select a sample"], ["double click, Enter again", "open its heatmap"], ["Ctrl-click, Space", "add to or take from the chosen"], ["Shift-click, Shift-arrows", "choose from here to there"],
  ["drag", "choose what lies in the box"], ["Ctrl-drag, Alt-drag", "add it, take it away"], ["Ctrl+A", "choose all on show"], ["Esc", "choose nothing"],
  ["arrows, Page Up, Page Down", "go about"], ["Ctrl+Home, Ctrl+End", "first, last"],
  ["label:x  label=x", "filter: x in the label, the whole label"], ["origin<9  sample>=5", "filter: numbers"],
  ["tag:x  is:tagged  is:wrong", "filter: tag, any tag, wrong prediction"], ["-word", "filter: without it"],
];
const SHOWN = { label: "Label", prediction: "Prediction", tags: "Tags" };
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "samples", label: "Samples", keys: KEYS });
  const { state, root, body, tools, note } = frame;
  const rows = new Rows();
  const isStill = () => state.get("status") === "still";

  // Parts --------------------------------------------------------------------------------------------------------------
  const thumbs = new Thumbs((kind, question) => frame.ask(kind, question), () => grid.pictures());
  const grid = new Grid({ thumbs, lines, reading, heading, ondraw: () => grid.marks() });
  const none = h("div", { class: "wb-sg-none", hidden: true });
  const stage = h("div", { class: "wb-sg-stage" }, grid.node, grid.top, grid.em, none);
  const chips = h("div", { class: "wb-sg-chips", role: "group", "aria-label": "Filter by tag" });
  const count = h("div", { class: "wb-sg-count" });
  const all = h("button", { type: "button", class: "wb-button wb-small", onclick: () => choose(Array.from(grid.order)) }, "Choose all shown");
  const clear = h("button", { type: "button", class: "wb-button wb-small", onclick: () => choose([]) }, "Clear");
  const known = h("datalist", { id: uid("tags") });
  const name = h("input", { type: "text", class: "wb-sg-name", placeholder: "Tag…", maxLength: 200, "aria-label": "Name of the tag", list: known.id, autocomplete: "off", spellcheck: false, onkeydown: (event) => event.key === "Enter" && tag(true), oninput: () => follow() });
  const add = h("button", { type: "button", class: "wb-button wb-small", onclick: () => tag(true) }, "Tag");
  const take = h("button", { type: "button", class: "wb-button wb-small", onclick: () => tag(false) }, "Untag");
  const why = h("span", { class: "wb-sg-why" });
  const bar = h("div", { class: "wb-sg-tagging", role: "group", "aria-label": "What is chosen, and its tags" }, count, all, clear, h("span", { class: "wb-sg-tagger" }, name, known, add, take), why);
  const layout = h("div", { class: "wb-sg" }, chips, stage, bar);
  const start = empty("The samples are on their way", "Their thumbnails appear here once they have been listed.");

  const search = searchbox("Filter the samples", "Filter…", settled(150, (filter) => state.put({ filter })));
  const sort = choice("Sort", (value) => state.put({ sort: value }));
  const way = h("button", { type: "button", class: "wb-button wb-icon-only", onclick: () => state.put({ ascending: !state.get("ascending") }) });
  const group = choice("Group", (value) => state.put({ group_by: value }));
  const overlay = h("div", { class: "wb-group", role: "group", "aria-label": "Written below the thumbnails" });
  const size = segmented("Size", [{ value: 64, text: "S", title: "Small" }, { value: 96, text: "M", title: "Medium" }], (tile) => state.put({ tile }));
  const only = h("button", { type: "button", class: "wb-button", "aria-pressed": "false", onclick: () => state.put({ only_selected: !state.get("only_selected") }) }, "Only chosen");
  tools.append(h("div", { class: "wb-sg-sort" }, sort.node, way), group.node, search.node, overlay, size.node, only);

  // What tiles say -----------------------------------------------------------------------------------------------------
  function lines(sample) {
    return state.get("overlay").map((column) => {
      const text = rows.text(column, sample);
      if (column === "prediction") {
        if (!text) return { text: "–", kind: "quiet" };
        const label = rows.text("label", sample);
        return label ? { text: `${label === text ? "✓" : "✗"} ${text}`, kind: label === text ? "right" : "wrong" } : { text: `→ ${text}` };
      }
      if (column === "tags") return { text: text ? `# ${text}` : "", kind: "tags" };
      if (column.startsWith("tag:")) return { text: text === "yes" ? `# ${column.slice(4)}` : "", kind: "tags" };
      if (column === "label" || column === "name") return { text: text || "–", kind: text ? "" : "quiet" };
      return { text: text ? `${column.replaceAll("_", " ")} ${text}` : "–", kind: "quiet" };
    });
  }

  function reading(sample) {
    const label = rows.text("label", sample), prediction = rows.text("prediction", sample), tags = rows.text("tags", sample);
    const more = state.get("overlay").filter((column) => !SHOWN[column] && !column.startsWith("tag:") && column !== "sample");
    return [
      `Sample ${sample}`, label && `label ${label}`, prediction && `prediction ${prediction}${rows.isWrong(sample) ? ", wrong" : ""}`, tags && `tags ${tags}`,
      ...more.map((column) => `${column} ${rows.text(column, sample)}`),
    ].filter(Boolean).join(", ");
  }

  function heading({ code, from, to }) {
    const column = state.get("group_by"), text = rows.groups(column).names[code];
    const name = column.startsWith("tag:") ? `# ${column.slice(4)}` : column.replaceAll("_", " ");
    const words = column.startsWith("tag:") ? (text === "yes" ? name : `not ${name}`)
      : !text ? (column === "tags" ? "no tags" : `no ${column === "name" ? "folder" : name}`)
      : ["label", "prediction", "tags", "name"].includes(column) ? text : `${name} ${text}`;
    return [h("strong", {}, words), h("span", {}, grouped(to - from))];
  }

  // From the traits ----------------------------------------------------------------------------------------------------
  function load() {
    const given = state.get("rows") || {};
    if (given.n === undefined) {
      frame.title("Samples");
      return replace(body, start);
    }
    rows.load(given, state.get("values"), () => { arrange({ keep: true }); follow(); });
    rows.loadTags(state.get("marks") || {});
    grid.n = rows.n;
    loadThumbs();
    if (!layout.isConnected) replace(body, layout);
    options();
    arrange({ keep: true });
    follow();
    if (state.get("sample") !== null) reveal(state.get("sample"));
  }

  function loadThumbs() {
    const { digest, recorded } = state.get("rows");
    thumbs.load({ digest, masks: state.get("show_masks"), recorded: recorded && { ...recorded, samples: array(recorded.samples) } });
  }

  function options() {
    const words = (column) => ({ value: column, text: column === "sample" ? "number" : column.replaceAll("_", " ") });
    sort.update(rows.names.map(words), state.get("sort"));
    group.update([{ value: "", text: "none" }, ...rows.names.filter((column) => column !== "sample").map((column) => (column === "name" ? { value: column, text: "folder" } : words(column)))], state.get("group_by"));
    const extra = [...rows.columns.keys()].filter((column) => !["sample", "name", "label", "prediction", "origin"].includes(column)).slice(0, 3);
    const shown = state.get("overlay");
    replace(overlay, [...Object.keys(SHOWN), ...extra].map((column) =>
      h("button", { type: "button", class: "wb-button", "aria-pressed": String(shown.includes(column)), onclick: () => {
        const now = state.get("overlay");
        const next = now.includes(column) ? now.filter((one) => one !== column) : [...now, column].slice(-4);
        state.put({ overlay: next });
      } }, SHOWN[column] || column.replaceAll("_", " "))),
      h("button", { type: "button", class: "wb-button", title: "Outlines of the data set's masks", "aria-pressed": String(state.get("show_masks")), disabled: isStill(), onclick: () => state.put({ show_masks: !state.get("show_masks") }) }, "Masks"));
    set(way, { title: state.get("ascending") ? "Smallest first" : "Largest first", "aria-label": state.get("ascending") ? "Smallest first" : "Largest first", text: state.get("ascending") ? "↑" : "↓" });
    replace(known, rows.tags.map((tag) => h("option", { value: tag.name })));
    const now = raw(state.get("filter"));
    const chip = (word, text, number) => h("button", { type: "button", class: "wb-sg-chip", "aria-pressed": String(now.includes(plain(word))), onclick: () => toggleWord(word) }, h("span", {}, text), h("b", {}, grouped(number)));
    const wrong = rows.keep("wrong", () => {
      let found = 0;
      for (let i = 0; i < rows.n; i++) if (rows.isWrong(i)) found++;
      return found;
    });
    replace(chips, wrong ? chip("is:wrong", "✗ wrong", wrong) : null, rows.tags.map((tag) => chip(`tag:${/\s/.test(tag.name) ? `"${tag.name.replaceAll('"', "")}"` : tag.name}`, `# ${tag.name}`, tag.count)));
    chips.hidden = !chips.childElementCount;
  }

  const plain = (word) => word.toLowerCase().replaceAll('"', "");
  const raw = (filter) => (filter.match(/(?:"[^"]*"?|[^\s"])+/g) || []).map(plain);
  function toggleWord(word) {
    const now = state.get("filter").match(/(?:"[^"]*"?|[^\s"])+/g) || [];
    const left = now.filter((one) => plain(one) !== plain(word));
    const filter = (left.length < now.length ? left : [...now, word]).join(" ");
    search.input.value = filter;
    state.put({ filter });
  }

  // Which samples are on show, in which order
  function arrange({ keep = false } = {}) {
    if (!layout.isConnected) return;
    const view = Object.fromEntries(["filter", "sort", "ascending", "group_by"].map((key) => [key, state.get(key)]));
    const was = grid.order[grid.focus], seen = keep && grid.order.length ? grid.order[grid.placeAt(grid.rowAt(grid.node.scrollTop))] : -1;
    const from = grid.node.scrollTop;
    grid.tile = state.get("tile");
    grid.nLines = state.get("overlay").length;
    const order = rows.order(view, state.get("only_selected") ? memberOf(state.get("samples")) : null);
    grid.load(order, view.group_by ? rows.groups(view.group_by) : null);
    grid.focus = Math.max(0, grid.at(was ?? -1));
    if (!keep) grid.node.scrollTop = 0;
    else if (from > 0 && seen >= 0 && grid.at(seen) >= 0) grid.node.scrollTop = Math.max(0, grid.tops[grid.rowOf(grid.at(seen))] - (view.group_by ? grid.head : 0));
    const isAll = order.length === rows.n;
    const parts = [isAll ? plural(rows.n, "sample") : `${grouped(order.length)} of ${plural(rows.n, "sample")}`];
    if (isAll && !view.filter) {
      const { n_classes: classes, recorded } = state.get("rows");
      if (classes) parts.push(plural(classes, "label"));
      if (recorded && recorded.samples.shape[0] < rows.n) parts.push(`thumbnails of ${grouped(recorded.samples.shape[0])} are in this page`);
    }
    frame.title("Samples", parts.join(" · "));
    set(all, { disabled: !order.length });
    none.hidden = order.length > 0;
    if (!order.length) {
      const text = !rows.n ? ["There are no samples", "The data set is empty."]
        : state.get("only_selected") && !state.get("samples").length ? ["Nothing is chosen", "Choose samples here or in another view, or show all of them."]
        : ["No sample fits", "Take a word out of the filter."];
      replace(none, empty(...text));
    }
    return order.length;
  }

  function rearrange(how) {
    options();
    const left = arrange(how);
    if (left !== undefined) frame.say(`${grouped(left)} of ${grouped(rows.n)} on show`);
  }

  function memberOf(samples) {
    const member = new Uint8Array(rows.n);
    for (const i of samples || []) member[i] = 1;
    return member;
  }

  function follow(preview) {
    const sample = state.get("sample"), samples = state.get("samples") || [];
    grid.member = preview || memberOf(samples);
    grid.current = sample ?? -1;
    grid.marks();
    const chosen = preview ? preview.reduce((sum, one) => sum + one, 0) : samples.length;
    const target = chosen || (sample === null ? 0 : 1);
    replace(count, chosen ? h("strong", {}, `${grouped(chosen)} chosen`) : sample === null ? "Nothing is chosen" : `Sample ${sample}`);
    set(clear, { disabled: !chosen });
    const off = isStill();
    const text = name.value.trim();
    for (const part of [name, add, take]) set(part, { disabled: off || !target });
    set(take, { disabled: off || !target || (text !== "" && !rows.tags.some((one) => one.name === text)) });
    replace(why, off ? "Tagging needs the session: it is not in this page." : "");
    replace(note, sample === null ? (rows.n ? "Click a sample; drag to choose several" : "") : `sample ${sample} · ${rows.text("name", sample) || rows.text("label", sample)}`);
  }

  function reveal(sample) {
    const at = grid.at(sample);
    if (at < 0 || grid.isInSight(at)) return;
    grid.focus = at;
    grid.reveal(at, { middle: true });
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  let anchor = -1, isMine = false;

  // Who chooses here sees it; what others choose, on this page or in Python, is looked up.
  function put(values) {
    isMine = true;
    state.put(values);
    isMine = false;
  }

  function select(at) {
    if (at < 0 || at >= grid.order.length) return;
    const sample = grid.order[at];
    grid.focus = at;
    anchor = sample;
    put({ sample });
    follow();
    frame.say(`${reading(sample)}, ${grouped(at + 1)} of ${grouped(grid.order.length)}`);
  }

  function toggle(at) {
    const sample = grid.order[at], samples = state.get("samples");
    grid.focus = at;
    anchor = sample;
    choose(grid.member[sample] ? samples.filter((one) => one !== sample) : [...samples, sample]);
  }

  function extend(at, isAdded) {
    const from = Math.max(0, grid.at(anchor >= 0 ? anchor : state.get("sample") ?? -1));
    if (anchor < 0) anchor = grid.order[from];
    grid.focus = at;
    const range = Array.from(grid.order.subarray(Math.min(from, at), Math.max(from, at) + 1));
    choose(isAdded ? [...new Set([...state.get("samples"), ...range])] : range);
  }

  function choose(samples) {
    put({ samples });
    follow();
    if (state.get("only_selected")) arrange({ keep: true });
    frame.say(`${grouped(samples.length)} of ${grouped(rows.n)} chosen`);
  }

  async function tag(isOn) {
    const text = name.value.trim();
    if (!text || name.disabled) return name.focus();
    const samples = state.get("samples").length ? state.get("samples") : state.get("sample") === null ? [] : [state.get("sample")];
    if (!samples.length) return;
    const answer = await frame.ask("tag", { digest: rows.digest, name: text, samples, is_on: isOn });
    if (!answer) return;
    frame.say(`${isOn ? "Tagged" : "Untagged"} ${plural(samples.length, "sample")}: ${text} has ${grouped(answer.result.n)}`);
    name.value = isOn ? text : "";
  }

  const cellOf = (event) => event.target.closest?.(".wb-sg-cell");
  let drag = null, isDragged = false, scrolling = 0;

  function spot(event) {
    const area = grid.space.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  }

  grid.node.addEventListener("pointerdown", (event) => {
    isDragged = false;
    const area = grid.node.getBoundingClientRect();
    if (event.button !== 0 || event.pointerType === "touch" || event.clientX - area.left >= grid.node.clientWidth) return;
    const base = event.altKey || event.ctrlKey || event.metaKey ? grid.member.slice() : new Uint8Array(rows.n);
    drag = { from: spot(event), at: spot(event), base, takes: event.altKey, keeps: event.altKey || event.ctrlKey || event.metaKey, last: event };
  });
  grid.node.addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.at = spot(event);
    drag.last = event;
    if (!isDragged && Math.hypot(drag.at[0] - drag.from[0], drag.at[1] - drag.from[1]) < 6) return;
    if (!isDragged) {
      isDragged = true;
      grid.node.setPointerCapture(event.pointerId);
    }
    drawBox();
    cancelAnimationFrame(scrolling);
    creep();
  });

  // A box that is drawn past the edge takes the grid along.
  function creep() {
    const area = grid.node.getBoundingClientRect(), y = drag.last.clientY;
    const past = y < area.top ? y - area.top : y > area.bottom ? y - area.bottom : 0;
    if (!past) return;
    grid.node.scrollTop += clamp(past * 0.4, -40, 40);
    drag.at = spot(drag.last);
    drawBox();
    scrolling = requestAnimationFrame(creep);
  }

  function drawBox() {
    const [x0, y0] = drag.from, [x1, y1] = drag.at;
    const area = { left: Math.min(x0, x1), right: Math.max(x0, x1), top: Math.min(y0, y1), bottom: Math.max(y0, y1) };
    const left = clamp(area.left, 0, grid.space.clientWidth), top = clamp(area.top, 0, grid.space.clientHeight);
    Object.assign(grid.box.style, { left: `${left}px`, top: `${top}px`, width: `${clamp(area.right, 0, grid.space.clientWidth) - left}px`, height: `${clamp(area.bottom, 0, grid.space.clientHeight) - top}px` });
    grid.box.hidden = false;
    drag.inside = grid.within(area).map((at) => grid.order[at]);
    const member = drag.base.slice();
    for (const sample of drag.inside) member[sample] = drag.takes ? 0 : 1;
    follow(member);
  }

  const end = (event) => {
    if (!drag) return;
    const { inside = [], takes, keeps } = drag;
    cancelAnimationFrame(scrolling);
    drag = null;
    grid.box.hidden = true;
    if (!isDragged) return;
    if (event.type !== "pointerup") return follow();
    const old = state.get("samples"), gone = new Set(takes ? inside : []);
    choose(takes ? old.filter((one) => !gone.has(one)) : keeps ? [...new Set([...old, ...inside])] : inside);
  };
  grid.node.addEventListener("pointerup", end);
  grid.node.addEventListener("pointercancel", end);
  grid.node.addEventListener("click", (event) => {
    if (isDragged) return void (isDragged = false);
    const cell = cellOf(event);
    if (!cell) return;
    const at = Number(cell.dataset.at);
    if (event.shiftKey) extend(at, event.ctrlKey || event.metaKey);
    else if (event.ctrlKey || event.metaKey) toggle(at);
    else select(at);
  });
  grid.node.addEventListener("dblclick", (event) => cellOf(event) && !event.ctrlKey && !event.metaKey && !event.shiftKey && state.open("heatmap"));
  grid.node.addEventListener("pointerover", (event) => {
    const cell = drag ? null : cellOf(event);
    const sample = cell ? grid.order[Number(cell.dataset.at)] : -1;
    if (cell) cell.title = [rows.text("name", sample), reading(sample), cell.dataset.picture === "missing" ? (isStill() ? "Its thumbnail is not in this page." : "Its thumbnail could not be fetched.") : ""].filter(Boolean).join("\n");
    hover(sample);
  });
  grid.node.addEventListener("pointerleave", () => hover(-1));
  function hover(sample) {
    if (sample === grid.hover) return;
    grid.hover = sample;
    state.hover(sample < 0 ? null : sample);
    grid.marks();
  }

  grid.node.addEventListener("keydown", (event) => {
    const { order } = grid, last = order.length - 1, control = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") {
      if (!state.get("samples").length) return;
      choose([]);
    } else if (!order.length) return;
    else if (control && event.key.toLowerCase() === "a") choose(Array.from(order));
    else if (event.key === "Enter") grid.order[grid.focus] === state.get("sample") ? state.open("heatmap") : select(grid.focus);
    else if (event.key === " ") toggle(grid.focus);
    else {
      const now = clamp(grid.focus, 0, last), [first, end] = grid.inRow(now);
      const jump = (way) => {
        let at = now;
        for (let k = 0; k < grid.perScreen; k++) at = grid.beside(at, way);
        return at;
      };
      const to = {
        ArrowRight: () => now + 1, ArrowLeft: () => now - 1, ArrowDown: () => grid.beside(now, 1), ArrowUp: () => grid.beside(now, -1),
        PageDown: () => jump(1), PageUp: () => jump(-1), Home: () => (control ? 0 : first), End: () => (control ? last : end),
      }[event.key]?.();
      if (to === undefined) return;
      const at = clamp(to, 0, last);
      if (event.shiftKey && anchor < 0) anchor = order[now];
      grid.focus = at;
      grid.reveal(at);
      if (event.shiftKey) extend(at, false);
      else {
        anchor = -1;
        grid.draw();
        grid.marks();
        frame.say(`${reading(order[at])}${grid.member[order[at]] ? ", chosen" : ""}`);
      }
    }
    event.preventDefault();
    event.stopPropagation();
  });
  grid.node.addEventListener("focus", () => { grid.isActive = true; grid.marks(); });
  grid.node.addEventListener("blur", () => { grid.isActive = false; grid.marks(); });

  // Size ---------------------------------------------------------------------------------------------------------------
  let width = 0, em = 0;
  const watch = new ResizeObserver(() => {
    if (!grid.node.isConnected || (grid.space.clientWidth === width && grid.em.offsetHeight === em)) return grid.draw();
    [width, em] = [grid.space.clientWidth, grid.em.offsetHeight];
    const seen = grid.order.length && grid.starts ? grid.placeAt(grid.rowAt(grid.node.scrollTop)) : 0;
    grid.layout();
    if (seen) grid.node.scrollTop = grid.tops[grid.rowOf(seen)];
    else if (state.get("sample") !== null) reveal(state.get("sample"));
  });
  watch.observe(grid.node);
  watch.observe(grid.em);

  state.on("rows", load);
  state.on("marks", () => {
    if (!layout.isConnected) return;
    rows.loadTags(state.get("marks") || {});
    options();
    arrange({ keep: true });
    follow();
  });
  state.on(["filter", "sort", "ascending", "group_by"], settled(0, () => { search.update(state.get("filter")); rearrange(); }));
  state.on(["overlay", "tile"], () => { options(); arrange({ keep: true }); });
  state.on("show_masks", () => { if (layout.isConnected) { loadThumbs(); options(); grid.refresh(); } });
  state.watch("tile", () => size.update(state.get("tile")));
  state.watch("only_selected", () => { set(only, { "aria-pressed": String(state.get("only_selected")) }); rearrange(); });
  state.on("sample", () => {
    if (isMine) return;
    follow();
    if (state.get("sample") !== null) reveal(state.get("sample"));
  });
  state.on("samples", () => {
    if (isMine) return;
    if (state.get("only_selected")) arrange({ keep: true });
    follow();
    const samples = state.get("samples") || [];
    if (samples.length && !samples.some((one) => grid.isInSight(grid.at(one)))) {
      const first = samples.reduce((least, one) => (grid.at(one) >= 0 ? Math.min(least, grid.at(one)) : least), Infinity);
      if (first < Infinity) grid.reveal(first, { middle: true });
    }
  });
  state.on("hover", (origin) => {
    if (origin === state) return;
    grid.hover = Number.isInteger(state.get("hover")) ? state.get("hover") : -1;
    grid.marks();
  });
  state.on("status", () => follow());
  search.update(state.get("filter"));
  load();

  return () => {
    watch.disconnect();
    cancelAnimationFrame(scrolling);
    grid.draw.stop();
    thumbs.close();
    frame.close();
  };
}

export default { render };
