// ComponentCard: references and numbers of one component.
import { address, array, bitmap, button, empty, grouped, h, number, percent, plural, replace, segmented, set, settled, shell, tileOf } from "../common/index.js";
import { drawSpread } from "./chart.js";

const KEYS = [["arrows", "go from reference to reference"], ["click, Enter", "select the sample"], ["Tab", "next control"]];

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "card", label: "Component card", keys: KEYS });
  const { state, body, tools, root, note } = frame;

  const by = segmented("By", [{ value: "activation", text: "Activation" }, { value: "relevance", text: "Relevance" }], (value) => state.put({ by: value }));
  const mode = segmented("Show", [
    { value: "crop", text: "Crop", title: "Cropped around the peak" },
    { value: "whole", text: "Whole", title: "The whole picture" },
    { value: "mask", text: "Masked", title: "Dimmed where the component does not answer" },
  ], (value) => state.put({ mode: value }));
  const pin = button("pin", "Stay on this component", () => state.put({ pinned: state.get("pinned") ? "" : state.get("component") || "" }), { "aria-pressed": "false" });
  tools.append(by.node, mode.node, pin);

  const grid = h("div", { class: "wb-refs wb-dimmable", role: "listbox", "aria-label": "References, strongest first", onkeydown: move });
  const origin = h("p", { class: "wb-origin" });
  const spread = h("div", { class: "wb-spread" });
  const facts = h("p", { class: "wb-origin" });
  const content = h("div", { class: "wb-card-body" },
    h("section", { "aria-label": "References" }, grid, origin),
    h("section", { "aria-label": "Values", class: "wb-dimmable" }, h("h3", { class: "wb-h" }, "Values over the data"), spread, facts));
  const nothing = empty("No component selected", "Click a cell of the atlas or a component of a heatmap, and see here what it stands for.");

  const shown = () => state.get("pinned") || state.get("component");
  const current = (packed) => packed && packed.component === shown();
  let drawn = null, early = null, preview = 0;

  function draw() {
    const component = shown();
    set(pin, { "aria-pressed": String(Boolean(state.get("pinned"))), disabled: !component });
    replace(note, state.get("pinned") ? "Pinned: does not follow the selection" : "");
    if (!component) {
      frame.title("Component");
      return replace(body, nothing);
    }
    const { layer, name } = address(component);
    frame.title(name, layer);
    if (!content.isConnected) replace(body, content);
    drawReferences();
    drawValues();
  }

  async function drawReferences() {
    const given = state.get("references") || {};
    const wanted = [shown(), state.get("by"), state.get("mode"), state.get("n")];
    const fits = wanted[0] === given.component && wanted[1] === given.by && wanted[2] === given.mode && wanted[3] === given.n;
    grid.classList.toggle("wb-old", !fits);
    if (!given.component || (!fits && given.component !== wanted[0])) return placeholders(wanted[3]);
    if (drawn === given) return markSample();
    // Whole pictures stand in for crops that are being computed; those that are stored come at once, and do not flicker.
    clearTimeout(preview);
    if (given.is_preview && early !== given) {
      preview = setTimeout(() => ((early = given), drawReferences()), 100);
      return drawn?.component === given.component ? undefined : placeholders(wanted[3]);
    }
    drawn = given;
    const values = array(given.values), most = Math.max(...values, 0) || 1;
    const image = await bitmap(given.sheet.jpeg);
    if (drawn !== given) return;
    const tiles = given.samples.map((sample, i) => {
      const picture = h("canvas", { width: given.sheet.width, height: given.sheet.height, "aria-hidden": "true" });
      if (image) picture.getContext("2d").drawImage(image, ...tileOf(given.sheet, i), 0, 0, picture.width, picture.height);
      const text = `Rank ${i + 1}, sample ${sample}, ${given.by} ${number(values[i])}. ${given.captions[i]}`;
      return h("div", { class: "wb-ref", role: "option", tabIndex: i ? -1 : 0, "data-sample": sample, "aria-label": text, title: `${given.captions[i]}\nsample ${sample}`, onclick: () => pick(sample) },
        picture,
        h("div", { class: "wb-ref-line" }, h("span", { class: "wb-ref-bar" }, h("i", { style: { width: `${Math.max(2, (100 * Math.max(0, values[i])) / most)}%` } })), h("span", {}, number(values[i]))),
        h("div", { class: "wb-ref-caption" }, given.names[i]));
    });
    replace(grid, tiles.length ? tiles : h("p", { class: "wb-none" }, given.by === "relevance" ? "No sample gives this component relevance." : "No sample activates this component."));
    replace(origin, given.is_preview ? "Whole pictures for now: the crops are on their way. " : "", sentence(given));
    markSample();
  }

  function sentence(given) {
    const count = given.samples.length;
    const views = given.n_samples === given.n_originals ? plural(given.n_originals, "picture") : `${plural(given.n_samples, "view")} of ${plural(given.n_originals, "original")}`;
    const limit = given.per_origin ? `, at most ${plural(given.per_origin, "view")} of each` : "";
    const part = given.coverage < 1 ? ` The sweep has covered ${percent(given.coverage)} of the data so far.` : "";
    const target = given.by === "relevance" && given.target ? ` Relevance for: ${given.target}.` : "";
    return `${count === 1 ? "The strongest" : `The ${count} strongest`} among ${views}${limit}.${target}${part}`;
  }

  function placeholders(n) {
    drawn = null;
    if (grid.querySelectorAll(".wb-ref-wait").length === n) return;
    if (state.get("status") === "failed" || state.get("status") === "still") {
      const why = state.get("status") === "still" ? "The references of this component are not in this page." : "No references to show: see above.";
      replace(grid, h("p", { class: "wb-none" }, why));
      return replace(origin);
    }
    replace(grid, Array.from({ length: n }, () => h("div", { class: "wb-ref", "aria-hidden": "true" }, h("div", { class: "wb-ref-wait wb-waiting" }), h("div", { class: "wb-ref-line" }, "\u00a0"), h("div", { class: "wb-ref-caption" }, "\u00a0"))));
    replace(origin, "\u00a0");
  }

  function markSample() {
    const sample = String(state.get("sample"));
    for (const tile of grid.children) {
      const on = tile.dataset.sample === sample;
      tile.classList.toggle("wb-current", on);
      set(tile, { "aria-selected": String(on) });
    }
  }

  function pick(sample) {
    state.put({ sample });
    markSample();
    frame.say(`Sample ${sample} selected`);
  }

  function move(event) {
    const tiles = [...grid.querySelectorAll('[role="option"]')], at = tiles.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return tiles[at].click();
    }
    const across = Math.max(1, tiles.findIndex((tile) => tile.offsetTop > tiles[0].offsetTop));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: tiles.length - 1 - at }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = tiles[Math.max(0, Math.min(tiles.length - 1, at + step))];
    tiles[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  function drawValues() {
    const given = state.get("spread") || {}, mark = state.get("mark") || {};
    if (!current(given)) {
      replace(spread, state.get("status") === "still" ? h("p", { class: "wb-none" }, "Its values are not in this page.") : h("div", { class: "wb-spread-wait wb-waiting" }));
      return replace(facts, "\u00a0");
    }
    if (given.why) {
      replace(spread, h("p", { class: "wb-none" }, "The sweep kept references alone, not the values they were chosen from."));
      return replace(facts, given.why);
    }
    const packed = { ...given, counts: array(given.counts), edges: array(given.edges) };
    const marked = current(mark) && mark.quantity === given.quantity && mark.sample === state.get("sample") ? mark : null;
    const width = Math.floor(spread.clientWidth);
    if (!packed.counts.length) replace(spread, h("p", { class: "wb-none" }, "No values are stored."));
    else if (width > 60) drawSpread(spread, packed, marked, width);
    const parts = [
      `${given.quantity === "activation" ? "Activation" : "Relevance"}, ${{ max: "largest over positions", mean: "mean over positions", sum: "summed over positions" }[given.pooling] || given.pooling}`,
      `${plural(given.n, "sample")}`,
      given.n ? `${percent(given.n_zero / given.n)} exactly zero` : "",
      given.quantiles["0.99"] !== undefined && given.quantiles["0.99"] !== null ? `99 % below ${number(given.quantiles["0.99"])}` : "",
      given.n_missing ? `${grouped(given.n_missing)} without a value` : "",
    ];
    const line = marked && marked.rank ? ` Sample ${marked.sample} ranks ${grouped(marked.rank)} of ${grouped(marked.of)}.` : "";
    replace(facts, `${parts.filter(Boolean).join(" · ")}.${line}`);
  }

  const watch = new ResizeObserver(settled(60, () => content.isConnected && drawValues()));
  watch.observe(root);
  state.on(["component", "pinned", "by", "mode", "n"], draw);
  state.on("references", () => content.isConnected && drawReferences());
  state.on("status", () => state.get("status") === "failed" && content.isConnected && drawReferences());
  state.on(["spread", "mark"], () => content.isConnected && drawValues());
  state.on("sample", () => { markSample(); if (content.isConnected) drawValues(); });
  state.watch("by", () => by.update(state.get("by")));
  state.watch("mode", () => mode.update(state.get("mode")));
  draw();
  return () => {
    watch.disconnect();
    clearTimeout(preview);
    frame.close();
  };
}

export default { render };
