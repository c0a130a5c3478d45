// What the colours mean, with numbers; for one-sided and two-sided quantities also the filter.
import { css, h, number, replace, set, uid } from "../common/index.js";

export class Legend {
  constructor({ onfilter, onpick }) {
    Object.assign(this, { onfilter, onpick });
    const id = uid("filter");
    this.low = h("span", { class: "wb-legend-end" });
    this.high = h("span", { class: "wb-legend-end" });
    this.ramp = h("canvas", { class: "wb-ramp", width: 256, height: 1, "aria-hidden": "true" });
    this.input = h("input", { id, type: "range", class: "wb-ramp-range", min: 0, max: 1000, step: 1, value: 0, oninput: () => this.slide(false), onchange: () => this.slide(true), title: "Drag to dim what lies below" });
    this.output = h("output", { class: "wb-legend-filter", htmlFor: id });
    this.numbers = h("div", { class: "wb-legend-numbers" }, this.low, h("span", { class: "wb-ramp-box" }, this.ramp, this.input), this.high, this.output);
    this.groups = h("div", { class: "wb-legend-groups", role: "group", "aria-label": "Groups" });
    this.name = h("label", { class: "wb-label", htmlFor: id });
    this.node = h("div", { class: "wb-legend" }, this.name, this.numbers, this.groups);
  }

  load(column, scale, minimum, query) {
    Object.assign(this, { column, scale });
    const grouped = scale.kind === "category";
    this.numbers.hidden = grouped;
    this.groups.hidden = !grouped;
    this.name.hidden = grouped;
    if (grouped) return this.loadGroups(query);
    this.name.textContent = column.title ?? column.name.replaceAll("_", " ");
    const isSigned = scale.kind === "two-sided";
    // Below zero cells carry a stroke, since colour alone would not do.
    set(this.low, { className: `wb-legend-end${isSigned ? " wb-legend-below" : ""}` });
    this.low.textContent = (scale.isCut[0] ? "≤ " : "") + number(scale.low);
    this.high.textContent = (scale.isCut[1] ? "≥ " : "") + number(scale.high);
    set(this.low, { title: `smallest ${number(column.low)}` });
    set(this.high, { title: `largest ${number(column.high)}` });
    const ctx = this.ramp.getContext("2d"), image = ctx.createImageData(256, 1);
    scale.colours.forEach(([r, g, b], i) => image.data.set([r, g, b, 255], 4 * i));
    ctx.putImageData(image, 0, 0);
    set(this.input, { "aria-label": `Least ${column.title ?? column.name}` });
    const share = minimum === null ? 0 : (minimum - scale.low) / (scale.high - scale.low || 1);
    if (document.activeElement !== this.input) this.input.value = Math.round(1000 * Math.max(0, Math.min(1, share)));
    this.show(minimum);
  }

  slide(done) {
    const t = Number(this.input.value) / 1000;
    let value = t === 0 ? null : this.scale.low + t * (this.scale.high - this.scale.low);
    if (value !== null && this.column.is_whole) value = Math.round(value);
    this.show(value);
    this.onfilter(value, done);
  }

  show(value) {
    this.output.textContent = value === null ? "" : `≥ ${number(value)}`;
    set(this.input, { "aria-valuetext": value === null ? "no limit" : number(value) });
    this.ramp.style.setProperty("--cut", `${Number(this.input.value) / 10}%`);
  }

  loadGroups(query) {
    const { scale, column } = this;
    const shown = scale.order.slice(0, 8);
    const chips = shown.map((code) => {
      const name = column.names?.[code] ?? String(code);
      const on = Boolean(name) && query === name;
      return h("button", { type: "button", class: "wb-chip", "aria-pressed": String(on), title: name, onclick: () => this.onpick(on ? "" : name) },
        h("i", { style: { background: css(scale.of(code)) } }), h("span", {}, name));
    });
    const rest = scale.order.length - shown.length;
    replace(this.groups, chips, rest > 0 ? h("span", { class: "wb-chip wb-chip-rest" }, h("i", { style: { background: css(scale.colour(-1)) } }), `${rest} more`) : null);
  }
}
