// What colour, size and symbol mean, with numbers; for colour also the filter: a range, or groups.
import { button, css, grouped, h, number, replace, set, uid } from "../common/index.js";
import { SIZES } from "./data.js";
import { SYMBOLS, trace } from "./stamps.js";

const STEPS = 1000;

export class Legend {
  constructor({ onfilter }) {
    this.onfilter = onfilter; // (column, wanted or null, is it released)
    const range = (end) => h("input", {
      id: uid("filter"), type: "range", class: "wb-ramp-range", min: 0, max: STEPS, step: 1, value: end ? STEPS : 0,
      title: "Drag to filter", oninput: () => this.slide(false), onchange: () => this.slide(true),
    });
    this.inputs = [range(0), range(1)];
    this.low = h("span", { class: "wb-legend-end" });
    this.high = h("span", { class: "wb-legend-end" });
    this.ramp = h("canvas", { class: "wb-ramp", width: 256, height: 1, "aria-hidden": "true" });
    this.output = h("span", { class: "wb-legend-filter" });
    this.name = h("span", { class: "wb-label" });
    this.numbers = h("div", { class: "wb-legend-numbers" }, this.low, h("span", { class: "wb-ramp-box" }, this.ramp, this.inputs), this.high, this.output);
    this.groups = h("div", { class: "wb-legend-groups", role: "group", "aria-label": "Groups: choose which to show" });
    this.colour = h("div", { class: "wb-legend" }, this.name, this.numbers, this.groups);
    this.size = h("div", { class: "wb-legend wb-legend-size" });
    this.symbol = h("div", { class: "wb-legend wb-legend-symbol" });
    this.others = h("div", { class: "wb-legend wb-legend-others" });
    this.node = h("div", { class: "wb-map-legend" }, this.colour, this.size, this.symbol, this.others);
  }

  load({ column, scale }, size, symbol, filter, inks) {
    Object.assign(this, { column, scale, filter });
    this.colour.hidden = !column;
    // Symbols of the groups that colour them stand on the groups' own chips.
    const isOfGroups = Boolean(symbol) && symbol.column === column;
    if (column) this.loadColour(filter[column.name], isOfGroups ? inks : null);
    this.loadSize(size, inks);
    this.loadSymbol(isOfGroups && scale.kind === "category" ? null : symbol, inks);
    const others = Object.entries(filter).filter(([name]) => name !== column?.name);
    this.others.hidden = !others.length;
    replace(this.others, others.map(([name, wanted]) => h("span", { class: "wb-chip wb-chip-filter" },
      h("span", {}, `${words(name)}: ${said(wanted)}`),
      button("close", `Do not filter by ${words(name)}`, () => this.onfilter(name, null, true), { class: "wb-button wb-icon-only wb-bare" }))));
  }

  loadColour(wanted, inks) {
    const { column, scale } = this, isGroups = scale.kind === "category";
    this.name.textContent = titled(column);
    this.numbers.hidden = isGroups;
    this.groups.hidden = !isGroups;
    this.colour.classList.toggle("wb-legend-wide", isGroups);
    if (isGroups) return this.loadGroups(wanted, inks);
    this.low.textContent = (scale.isCut[0] ? "≤ " : "") + number(scale.low);
    this.high.textContent = (scale.isCut[1] ? "≥ " : "") + number(scale.high);
    set(this.low, { title: `smallest ${number(column.low)}` });
    set(this.high, { title: `largest ${number(column.high)}` });
    const ctx = this.ramp.getContext("2d"), image = ctx.createImageData(256, 1);
    scale.colours.forEach(([r, g, b], i) => image.data.set([r, g, b, 255], 4 * i));
    ctx.putImageData(image, 0, 0);
    [wanted?.[0] ?? null, wanted?.[1] ?? null].forEach((value, end) => {
      const share = value === null ? end : (value - scale.low) / (scale.high - scale.low || 1);
      if (document.activeElement !== this.inputs[end]) this.inputs[end].value = Math.round(STEPS * Math.max(0, Math.min(1, share)));
      set(this.inputs[end], { "aria-label": `${end ? "Most" : "Least"} ${words(column.name)}` });
    });
    this.show(wanted?.[0] ?? null, wanted?.[1] ?? null);
  }

  slide(done) {
    const { scale, column } = this;
    let [from, to] = this.inputs.map((input) => Number(input.value) / STEPS);
    if (from > to) [from, to] = [to, from];
    const value = (t) => (column.is_whole ? Math.round(scale.low + t * (scale.high - scale.low)) : scale.low + t * (scale.high - scale.low));
    // At its end a side has no limit: what lies beyond the scale is shown too.
    const [low, high] = [from === 0 ? null : value(from), to === 1 ? null : value(to)];
    this.show(low, high);
    this.onfilter(column.name, low === null && high === null ? null : [low, high], done);
  }

  show(low, high) {
    this.output.textContent = low === null && high === null ? "" : `${low === null ? "" : number(low)} – ${high === null ? "" : number(high)}`;
    set(this.inputs[0], { "aria-valuetext": low === null ? "no limit" : number(low) });
    set(this.inputs[1], { "aria-valuetext": high === null ? "no limit" : number(high) });
    const at = this.inputs.map((input) => Number(input.value) / (STEPS / 100)).sort((a, b) => a - b);
    this.ramp.style.setProperty("--from", `${at[0]}%`);
    this.ramp.style.setProperty("--to", `${at[1]}%`);
  }

  // With `inks` each group has its symbol.
  loadGroups(wanted, inks) {
    const mark = (code, at) => (inks ? swatch(Math.min(at, 7), 5, css(code)) : h("i", { style: { background: css(code) } }));
    const { scale, column } = this, shown = scale.order.slice(0, 8), chosen = new Set(wanted || []);
    const chips = shown.map((code, at) => {
      const name = column.names?.[code] ?? String(code), on = chosen.has(name);
      const choose = () => {
        if (!chosen.delete(name)) chosen.add(name);
        this.onfilter(column.name, chosen.size ? [...chosen] : null, true);
      };
      return h("button", { type: "button", class: "wb-chip", "aria-pressed": String(on), title: `${name}: ${grouped(column.sizes.get(code))}. Show these alone`, onclick: choose },
        mark(scale.of(code), at), h("span", {}, name), h("b", {}, grouped(column.sizes.get(code))));
    });
    const rest = scale.order.slice(8), count = rest.reduce((sum, code) => sum + column.sizes.get(code), 0);
    replace(this.groups, chips, rest.length ? h("span", { class: "wb-chip wb-chip-rest" }, mark(scale.colour(-1), 7), h("span", {}, `other: ${rest.length} groups`), h("b", {}, grouped(count))) : null);
  }

  loadSize(size, inks) {
    this.size.hidden = !size;
    if (!size) return replace(this.size);
    const isWords = size.column.kind === "category";
    const marks = [0, (SIZES - 1) / 2, SIZES - 1].map((step) => {
      const r = 4.5 * (0.55 + (1.35 * step) / (SIZES - 1)), value = size.low + (step / (SIZES - 1)) * (size.high - size.low);
      return h("span", { class: "wb-key" }, swatch(0, r, inks.ink2), isWords ? grouped(Math.round(value)) : number(value));
    });
    const what = isWords ? `how many share ${titled(size.column)}` : size.column.is_signed ? `distance of ${titled(size.column)} from 0` : titled(size.column);
    replace(this.size, h("span", { class: "wb-label" }, `size: ${what}`), size.low === size.high ? marks.slice(0, 1) : marks);
  }

  loadSymbol(symbol, inks) {
    this.symbol.hidden = !symbol;
    if (!symbol) return replace(this.symbol);
    const keys = symbol.labels.map((label, i) => h("span", { class: "wb-key", title: `${SYMBOLS[i]}: ${label}` }, swatch(i, 5, inks.ink2), h("span", { class: "wb-key-text" }, label)));
    replace(this.symbol, h("span", { class: "wb-label" }, `symbol: ${titled(symbol.column)}`), keys);
  }
}

function said(wanted) {
  if (typeof (wanted[0] ?? wanted[1]) === "string") return wanted.join(", ");
  const [low, high] = wanted;
  return low === null ? `≤ ${number(high)}` : high === null ? `≥ ${number(low)}` : `${number(low)} to ${number(high)}`;
}

// A column as it is called here: the relevance for one class by that class.
export const titled = (column) => column.title || words(column.name);
export const words = (name) => name.replaceAll("_", " ");

function swatch(symbol, r, ink) {
  const ratio = 2, side = 20, canvas = h("canvas", { class: "wb-swatch", width: side * ratio, height: side * ratio, "aria-hidden": "true" });
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  trace(ctx, symbol, side / 2, side / 2, r);
  ctx.fillStyle = ink;
  ctx.fill();
  return canvas;
}
