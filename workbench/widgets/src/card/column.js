// One component: references, look-alikes, values, classes, relatives, label and note.
import { address, array, bitmap, button, grouped, h, nameOf, number, percent, plural, replace, set, tileOf, uid } from "../common/index.js";
import { drawSpread } from "./chart.js";
import { classesTable, contrastGrid, relatedLists } from "./facts.js";
import { listbox, put, putWords } from "../common/options.js";
import { Written } from "./written.js";

const POOLED = { max: "largest over positions", mean: "mean over positions", sum: "summed over positions" };

export class Column {
  constructor({ state, records, ask, say, onunpin }) {
    Object.assign(this, { state, records, say });
    this.component = null;
    this.drawn = this.early = null;
    this.made = {}; // what each section was drawn from
    this.grid = listbox("References, strongest first", "wb-refs wb-dimmable");
    this.origin = h("p", { class: "wb-origin" });
    this.alike = listbox("Look alike, do not fire", "wb-alikes");
    this.alikeLine = h("p", { class: "wb-origin" });
    this.spread = h("div", { class: "wb-spread" });
    this.facts = h("p", { class: "wb-origin" });
    this.classes = h("div", {});
    this.related = h("div", {});
    this.written = new Written({ state, ask, say });
    this.title = h("h2", { class: "wb-column-title", id: uid("column") });
    this.shares = h("p", { class: "wb-shares" });
    this.head = h("div", { class: "wb-column-head", hidden: true }, h("div", {}, this.title, this.shares), button("close", "Stop comparing this one", () => onunpin(this.component)));
    const section = (title, ...parts) => h("section", { "aria-label": title }, h("h3", { class: "wb-h" }, title), parts);
    this.node = h("div", { class: "wb-column", role: "group" }, this.head,
      h("section", { "aria-label": "References" }, this.grid, this.origin),
      section("Label and note", this.written.node),
      section("Look alike, do not fire", this.alike, this.alikeLine),
      h("section", { "aria-label": "Values", class: "wb-dimmable" }, h("h3", { class: "wb-h" }, "Values over the data"), this.spread, this.facts),
      section("Classes it serves", this.classes),
      section("Related components", this.related));
  }

  get isStill() {
    return this.state.get("status") === "still";
  }

  show(component, isCompared, card) {
    if (component !== this.component) {
      this.component = component;
      this.made = {};
    }
    this.head.hidden = !isCompared;
    const labels = this.state.get("labels") || {}, { layer, name } = address(component);
    replace(this.title, nameOf(component, labels));
    set(this.node, { "aria-label": nameOf(component, labels) });
    const parts = [layer];
    if (card) {
      parts.push(card.correlation === null ? "" : `correlation with the first ${card.correlation.toFixed(2)}`);
      parts.push(`${plural(card.n_shared, "reference")} in common`);
    }
    replace(this.shares, parts.filter(Boolean).join(" · "));
    this.draw();
    return name;
  }

  draw() {
    if (!this.component) return;
    this.drawReferences();
    this.drawValues();
    this.drawFacts();
    this.written.draw(this.component);
  }

  // Missing in a page without kernel, or on its way
  wait(node, className, words) {
    putWords(node, this.isStill ? h("p", { class: "wb-none" }, words) : h("div", { class: `${className} wb-waiting` }));
  }

  // References ---------------------------------------------------------------------------------------------------------

  async drawReferences() {
    const { state, grid } = this;
    const wanted = [this.component, state.get("by"), state.get("mode"), state.get("n"), state.get("quantile")];
    const given = this.records.get("references", ...wanted);
    const isOwn = this.drawn?.component === this.component;
    grid.classList.toggle("wb-old", !given && isOwn);
    if (!given) return isOwn && !this.isStill ? undefined : this.placeholders(wanted[3]);
    if (this.drawn === given) return this.markSample();
    // Whole pictures stand in for crops that are being computed; those that are stored come at once, and do not flicker.
    clearTimeout(this.preview);
    if (given.is_preview && this.early !== given) {
      this.preview = setTimeout(() => ((this.early = given), this.drawReferences()), given.quantile < 1 ? 0 : 100);
      return isOwn ? undefined : this.placeholders(wanted[3]);
    }
    const before = this.drawn;
    this.drawn = given;
    const values = array(given.values), most = Math.max(...values.map(Math.abs), 0) || 1;
    const image = await bitmap(given.sheet.jpeg);
    if (this.drawn !== given) return;
    const first = given.first ?? 1;
    const tiles = given.samples.map((sample, i) => {
      const picture = h("canvas", { width: given.sheet.width, height: given.sheet.height, "aria-hidden": "true" });
      if (image) picture.getContext("2d").drawImage(image, ...tileOf(given.sheet, i), 0, 0, picture.width, picture.height);
      const text = `Rank ${first + i}, sample ${sample}, ${given.by} ${number(values[i])}. ${given.captions[i]}`;
      const share = Math.max(values[i] === 0 ? 0 : 2, (100 * Math.abs(values[i])) / most);
      return h("div", { class: "wb-ref", role: "option", "data-sample": sample, "aria-label": text, title: `${given.captions[i]}\nsample ${sample}`, onclick: () => this.pick(sample) },
        picture,
        h("div", { class: "wb-ref-line" }, h("span", { class: "wb-ref-bar" }, h("i", { style: { width: `${share}%` } })), h("span", {}, number(values[i]))),
        h("div", { class: "wb-ref-caption" }, given.names[i]));
    });
    if (tiles.length) put(grid, tiles);
    else putWords(grid, h("p", { class: "wb-none" }, given.by === "relevance" ? "No sample gives this component relevance." : "No sample activates this component."));
    set(grid, { "aria-label": given.quantile < 1 ? `References around the ${percent(given.quantile)} quantile` : "References, strongest first" });
    replace(this.origin, given.is_preview ? "Whole pictures for now: the crops are on their way. " : "", this.sentence(given));
    this.markSample();
    if (before?.component === given.component && before.quantile !== given.quantile && values.length) {
      this.say(`Ranks ${first} to ${first + values.length - 1} of ${given.of ?? given.n_originals}, ${given.by} ${number(values[0])} to ${number(values[values.length - 1])}`);
    }
  }

  sentence(given) {
    const count = given.samples.length;
    const views = given.n_samples === given.n_originals ? plural(given.n_originals, "picture") : `${plural(given.n_samples, "view")} of ${plural(given.n_originals, "original")}`;
    const limit = given.per_origin ? `, at most ${plural(given.per_origin, "view")} of each` : "";
    const part = given.coverage < 1 ? ` The sweep has covered ${percent(given.coverage)} of the data so far.` : "";
    const target = given.by === "relevance" && given.target ? ` Relevance for: ${given.target}.` : "";
    if (given.quantile < 1) {
      const ranks = `Ranks ${grouped(given.first)} to ${grouped(given.first + count - 1)} of ${grouped(given.of)}`;
      const of = given.is_kept ? "references: the sweep kept these alone, and nothing weaker can be shown" : `originals, around the ${percent(given.quantile)} quantile (${number(given.value)})`;
      return `${ranks} ${of}.${target}${part}`;
    }
    return `${count === 1 ? "The strongest" : `The ${count} strongest`} among ${views}${limit}.${target}${part}`;
  }

  placeholders(n) {
    this.drawn = null;
    const { grid, origin } = this;
    if (grid.querySelectorAll(".wb-ref-wait").length === n && this.state.get("status") !== "failed") return;
    if (this.state.get("status") === "failed" || this.isStill) {
      const why = !this.isStill ? "No references to show: see above." : this.state.get("quantile") < 1 ? "These references are not in this page." : "The references of this component are not in this page.";
      putWords(grid, h("p", { class: "wb-none" }, why));
      return replace(origin);
    }
    putWords(grid, Array.from({ length: n }, () => h("div", { class: "wb-ref", "aria-hidden": "true" }, h("div", { class: "wb-ref-wait wb-waiting" }), h("div", { class: "wb-ref-line" }, "\u00a0"), h("div", { class: "wb-ref-caption" }, "\u00a0"))));
    replace(origin, "\u00a0");
  }

  markSample() {
    const sample = String(this.state.get("sample"));
    for (const tile of [...this.grid.children, ...this.alike.children]) {
      const on = tile.dataset.sample === sample;
      tile.classList.toggle("wb-current", on);
      if (tile.getAttribute("role") === "option") set(tile, { "aria-selected": String(on) });
    }
  }

  pick(sample) {
    this.state.put({ sample });
    this.markSample();
    this.say(`Sample ${sample} selected`);
  }

  // Values -------------------------------------------------------------------------------------------------------------

  drawValues() {
    const { state, spread, facts } = this, by = state.get("by");
    const given = this.records.get("spread", this.component, by);
    if (!given) {
      this.wait(spread, "wb-spread-wait", "Its values are not in this page.");
      return replace(facts, "\u00a0");
    }
    if (given.why) {
      replace(spread, h("p", { class: "wb-none" }, "The sweep kept references alone, not the values they were chosen from."));
      return replace(facts, given.why);
    }
    const packed = { ...given, counts: array(given.counts), edges: array(given.edges) };
    const marked = this.records.get("mark", this.component, by, state.get("sample") ?? null);
    const width = Math.floor(spread.clientWidth);
    if (!packed.counts.length) replace(spread, h("p", { class: "wb-none" }, "No values are stored."));
    else if (width > 60) drawSpread(spread, packed, marked, width);
    const parts = [
      `${given.quantity === "activation" ? "Activation" : "Relevance"}, ${POOLED[given.pooling] || given.pooling}`,
      `${plural(given.n, "sample")}`,
      given.n ? `${percent(given.n_zero / given.n)} exactly zero` : "",
      given.quantiles["0.99"] !== undefined && given.quantiles["0.99"] !== null ? `99 % below ${number(given.quantiles["0.99"])}` : "",
      given.n_missing ? `${grouped(given.n_missing)} without a value` : "",
    ];
    const line = marked?.rank ? ` Sample ${marked.sample} ranks ${grouped(marked.rank)} of ${grouped(marked.of)}.` : "";
    replace(facts, `${parts.filter(Boolean).join(" · ")}.${line}`);
  }

  // Look-alikes, classes and relatives ---------------------------------------------------------------------------------

  drawFacts() {
    const { state } = this, labels = state.get("labels") || {};
    const hover = (id) => state.hover(id);
    this.section("contrast", [this.component], "These are not in this page.", this.alike, (given) =>
      contrastGrid(this.alike, this.alikeLine, given, { pick: (sample) => this.pick(sample), hover }), () => replace(this.alikeLine));
    this.section("classes", [this.component, state.get("by")], "Its classes are not in this page.", this.classes, (given) => classesTable(this.classes, given));
    const known = this.records.get("related", this.component);
    const shown = JSON.stringify((known?.groups || []).flatMap((group) => group.components).map((one) => labels[one] || ""));
    if (this.made.shown !== shown) delete this.made.related; // a label changed
    this.made.shown = shown;
    this.section("related", [this.component], "Related components are not in this page.", this.related, (given) =>
      relatedLists(this.related, given, { go: (component) => this.go(component), hover, nameOf: (component) => nameOf(component, labels), selected: state.get("component") }));
    this.markSample();
  }

  section(kind, key, missing, node, draw, clear = () => {}) {
    const given = this.records.get(kind, ...key);
    if (given && this.made[kind] === given) return;
    this.made[kind] = given;
    if (given) return draw(given);
    this.wait(node, "wb-facts-wait", missing);
    clear();
  }

  go(component) {
    this.state.put({ component });
    this.say(`${nameOf(component, this.state.get("labels") || {})} selected`);
  }

  close() {
    clearTimeout(this.preview);
  }
}
