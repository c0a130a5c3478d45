// ComponentCard: what one component stands for, or several that are compared.
import { address, button, empty, h, nameOf, paced, percent, replace, segmented, set, settled, shell, slider } from "../common/index.js";
import { Column } from "./column.js";
import { KINDS, Records } from "./records.js";

const KEYS = [
  ["arrows", "go from reference to reference; move the slider"], ["click, Enter", "select the sample, or the related component"],
  ["Home, End", "first and last; strongest and weakest"], ["Tab", "next control"],
];

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "card", label: "Component card", keys: KEYS });
  const { state, body, tools, root, note } = frame;
  const records = new Records();

  const by = segmented("By", [{ value: "activation", text: "Activation" }, { value: "relevance", text: "Relevance" }], (value) => state.put({ by: value }));
  const mode = segmented("Show", [
    { value: "crop", text: "Crop", title: "Cropped around the peak" },
    { value: "whole", text: "Whole", title: "The whole picture" },
    { value: "mask", text: "Masked", title: "Dimmed where the component does not answer" },
  ], (value) => state.put({ mode: value }));

  // From the strongest on the left to the weakest on the right; a page without kernel has a few stops.
  const stops = () => (state.get("status") === "still" && state.get("stops")?.length ? state.get("stops") : null);
  const quantileAt = (value) => (stops() ? stops()[Math.round(value)] : Math.round((1 - value / 100) * 100) / 100);
  const words = (q) => (q === 1 ? "strongest" : q === 0 ? "weakest" : `${percent(q)} quantile`);
  const slide = paced(60, (value) => state.put({ quantile: quantileAt(value) }));
  const rank = slider("From", { min: 0, max: 100, step: 1, format: (value) => words(quantileAt(value)), oninput: slide, onchange: (value) => slide.now(value) });
  set(rank.input, { title: "References from the strongest on the left to the weakest on the right" });
  set(rank.input, { "aria-label": "References from strongest to weakest" });
  function drawSlider() {
    const has = stops(), q = state.get("quantile");
    set(rank.input, { max: has ? has.length - 1 : 100 });
    const nearest = has ? has.reduce((best, stop, i) => (Math.abs(stop - q) < Math.abs(has[best] - q) ? i : best), 0) : (1 - q) * 100;
    if (document.activeElement !== rank.input || quantileAt(Number(rank.input.value)) !== q) rank.update(Math.round(nearest));
  }

  const pin = button("pin", "Stay on this component", () => state.put({ pinned: pinned().length ? [] : [state.get("component")].filter(Boolean) }), { "aria-pressed": "false" });
  const add = h("button", { type: "button", class: "wb-button wb-add", onclick: () => compare() }, "Compare");
  tools.append(by.node, mode.node, rank.node, pin, add);

  const columns = new Map();
  const board = h("div", { class: "wb-card-body" });
  const nothing = empty("No component selected", "Click a cell of the atlas or a component of a heatmap, and see here what it stands for.");
  const pinned = () => state.get("pinned") || [];
  const shown = () => (pinned().length ? pinned() : [state.get("component")].filter(Boolean));

  function compare() {
    const component = state.get("component");
    state.put({ pinned: [...pinned(), component] });
    frame.say(`${nameOf(component, state.get("labels") || {})} added, ${pinned().length} compared`);
  }

  function unpin(component) {
    const left = pinned().filter((one) => one !== component);
    state.put({ pinned: left });
    frame.say(`${nameOf(component, state.get("labels") || {})} no longer compared`);
    pin.focus();
  }

  function take() {
    for (const kind of KINDS) records.take(kind, state.get(kind));
    for (const card of state.get("compared")?.cards || []) {
      for (const kind of KINDS) records.take(kind, card[kind]);
    }
    for (const mark of state.get("marks") || []) records.take("mark", mark);
  }

  function draw() {
    const wanted = shown(), labels = state.get("labels") || {}, component = state.get("component");
    const isPinned = pinned().length > 0, isCompared = wanted.length > 1;
    set(pin, { "aria-pressed": String(isPinned), disabled: !wanted.length, title: isPinned ? "Follow the selection again" : "Stay on this component" });
    set(pin, { "aria-label": pin.title });
    const canAdd = isPinned && component && !wanted.includes(component) && wanted.length < 6;
    add.hidden = !canAdd;
    if (canAdd) replace(add, `Compare with ${address(component).name}`);
    replace(note, isPinned ? `Pinned: ${isCompared ? "do" : "does"} not follow the selection` : "");
    root.classList.toggle("wb-comparing", isCompared);
    if (!wanted.length) {
      frame.title("Component");
      return replace(body, nothing);
    }
    const { layer } = address(wanted[0]);
    if (isCompared) frame.title(`${wanted.length} components`, "side by side");
    else frame.title(nameOf(wanted[0], labels), layer);
    if (!board.isConnected) replace(body, board);
    place(wanted);
    const cards = state.get("compared")?.cards || [];
    wanted.forEach((one, i) => {
      const card = i && state.get("compared")?.first === wanted[0] ? cards.find((c) => c.spread.component === one) : null;
      columns.get(isPinned ? one : "").show(one, isCompared, card);
    });
  }

  // A column for each component; the one that follows is always the same.
  function place(wanted) {
    const keys = pinned().length ? wanted : [""];
    for (const [key, column] of columns) {
      if (keys.includes(key)) continue;
      column.close();
      column.node.remove();
      columns.delete(key);
    }
    keys.forEach((key, i) => {
      if (!columns.has(key)) columns.set(key, new Column({ state, records, ask: (kind, question) => frame.ask(kind, question), say: frame.say, onunpin: unpin }));
      const { node } = columns.get(key);
      if (board.children[i] !== node) board.insertBefore(node, board.children[i] || null);
    });
  }

  const each = (call) => board.isConnected && columns.forEach(call);
  const watch = new ResizeObserver(settled(60, () => each((column) => column.drawValues())));
  watch.observe(root);
  state.on(["component", "pinned", "by", "mode", "n", "quantile"], draw);
  state.on([...KINDS, "marks"], () => (take(), each((column) => column.draw())));
  state.on("compared", () => (take(), draw()));
  state.on(["labels", "notes"], draw);
  state.on("status", () => { drawSlider(); if (["failed", "still"].includes(state.get("status"))) each((column) => column.drawReferences()); });
  state.on("sample", () => each((column) => { column.markSample(); column.drawValues(); }));
  state.watch("by", () => by.update(state.get("by")));
  state.watch("mode", () => mode.update(state.get("mode")));
  state.watch(["quantile", "stops"], drawSlider);
  take();
  draw();
  return () => {
    watch.disconnect();
    slide.stop();
    columns.forEach((column) => column.close());
    frame.close();
  };
}

export default { render };
