// How each class depends on the direction: in how many samples its output rises along it, by how much, and how large the
// derivative is; each against random directions.
import { h, number, percent, plural, replace, set, signed, svg } from "../common/index.js";

const WIDTH = 72, HEIGHT = 14, MOST = 200;
const KINDS = {
  score: { value: (one) => one.score, interval: (one) => [one.score_low, one.score_high], ending: "", text: percent, middle: 0.5 },
  slope: { value: (one) => one.slope, interval: (one) => spread(one.slope, one.slope_error), ending: "_slope", text: (v) => signed(v), middle: 0 },
  size: { value: (one) => one.sensitivity, interval: (one) => spread(one.sensitivity, one.sensitivity_error), ending: "_sensitivity", text: (v) => number(v, 2), middle: 0 },
};

export class Classes {
  constructor({ frame, isStill }) {
    Object.assign(this, { frame, state: frame.state, isStill });
    this.start = h("button", { type: "button", class: "wb-button wb-test", onclick: () => this.state.put({ test_classes: !this.state.get("test_classes") }) });
    this.out = h("div", { class: "wb-scroll", tabIndex: 0, role: "group" });
    set(this.out, { "aria-label": "Classes, scrolls sideways" });
    this.line = h("p", { class: "wb-origin" });
    this.warnings = h("ul", { class: "wb-warnings", "aria-label": "What speaks against the test" });
    this.node = h("div", {}, this.start, this.out, this.line, this.warnings);
  }

  draw(row) {
    const { state } = this, given = state.get("tested"), wants = state.get("test_classes");
    this.start.hidden = this.isStill();
    set(this.start, { "aria-pressed": String(wants) });
    replace(this.start, wants ? "Classes are tested" : "Test the classes");
    set(this.start, { title: wants ? "Test no longer" : `Derivatives of each class for up to ${state.get("n_tested")} samples, against ${state.get("n_random")} random directions` });
    const fits = given?.rows && row && given.direction === row.direction;
    this.out.hidden = !fits && !wants;
    if (!fits) {
      this.made = null;
      replace(this.warnings);
      replace(this.out, wants && !this.isStill() ? h("div", { class: "wb-classes-wait wb-waiting" }) : null);
      return replace(this.line, this.isStill() ? "The dependence of the classes is not in this page." : wants ? "" : "How much each output changes along the direction, compared with random directions. Takes a forward and a backward pass per sample.");
    }
    const target = state.get("target");
    if (this.made === given && this.target === target) return;
    Object.assign(this, { made: given, target });
    const at = document.activeElement?.dataset?.output;
    const rows = [...given.rows].sort((a, b) => (b.slope ?? -Infinity) - (a.slope ?? -Infinity)).slice(0, MOST);
    replace(this.out, h("table", { class: "wb-table wb-classes-table" }, h("caption", { class: "wb-live" }, "Dependence of each class on the direction, most positive slope first"),
      h("thead", {}, h("tr", {}, ["Output", "Rises in", "p", "Slope", "p", "Size", "p"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((one) => {
        const on = target === `logit:${one.output}`;
        const name = h("button", { type: "button", class: "wb-link", "aria-pressed": String(on), "data-output": one.output, title: "Explain this output", onclick: () => this.aim(one, on) }, one.class);
        return h("tr", { class: on ? "wb-on" : "" }, h("th", { scope: "row" }, name), Object.entries(KINDS).flatMap(([kind, of]) => cells(one, of, kind === "score" ? [0, 1] : domain(given.rows, of))));
      }))));
    if (at !== undefined) this.out.querySelector(`[data-output="${at}"]`)?.focus();
    replace(this.line, `Share of a class's samples whose output rises along the direction, with its 95 % interval; slope (with its sign) and size of the derivative in units of the output, each with 1.96 standard errors${views(given.rows)}. Grey bands are the middle 95 % of what ${plural(given.n_random, "random direction")} give, p the chance of as much by one of them${given.n_random && given.n_random < 39 ? "; of fewer than 39 slope and size cannot reach 0.05" : ""}.${rows.length < given.rows.length ? ` The ${rows.length} with the largest slope, of ${given.rows.length}.` : ""}`);
    replace(this.warnings, given.warnings.map((text) => h("li", {}, h("span", { class: "wb-warn-sign", "aria-hidden": "true" }, "⚠"), text)));
  }

  aim(one, on) {
    this.state.put({ target: on ? null : `logit:${one.output}` });
    this.frame.say(on ? "No output is explained" : `${one.class} is explained`);
  }
}

function cells(one, of, ends) {
  const value = of.value(one), [low, high] = of.interval(one), isUndefined = value === null;
  const [from, to, p, corrected] = [`null${of.ending}_low`, `null${of.ending}_high`, `p${of.ending}`, `p${of.ending}_holm`].map((name) => one[name] ?? null);
  const range = low === null ? "" : `, between ${of.text(low)} and ${of.text(high)}`;
  const random = from === null ? "" : `; random directions ${of.text(from)} to ${of.text(to)}`;
  const words = isUndefined ? "undefined" : of.text(value);
  const title = isUndefined ? "The output changes for no sample" : `${words}${range}, of ${plural(one.n, "sample")}${random}${p === null ? "" : `; p ${number(p, 2)}, corrected ${number(corrected, 2)}`}`;
  return [
    h("td", { title }, chart(value, [low, high], [from, to], of.middle, ends), h("span", { class: "wb-score" }, words), isUndefined ? null : h("span", { class: "wb-live" }, `${range}${random}`)),
    h("td", { class: corrected !== null && corrected < 0.05 ? "wb-beyond" : "" }, number(corrected, 2)),
  ];
}

const spread = (value, error) => (value === null || (error ?? null) === null ? [null, null] : [value - 1.96 * error, value + 1.96 * error]);

// The same scale for all classes, with zero in it.
function domain(rows, of) {
  const ends = rows.flatMap((one) => [of.value(one), ...of.interval(one), one[`null${of.ending}_low`], one[`null${of.ending}_high`]]).filter((v) => (v ?? null) !== null);
  const low = Math.min(0, ...ends), high = Math.max(0, ...ends);
  return high > low ? [low, high] : [-1, 1];
}

function views(rows) {
  const fewer = rows.find((one) => one.n_origins < one.n);
  return fewer ? `; views of one original count together (${fewer.class}: ${plural(fewer.n_origins, "original")} of ${plural(fewer.n, "sample")})` : "";
}

function chart(value, [low, high], [from, to], middle, [least, most]) {
  const x = (v) => 4 + ((v - least) / (most - least)) * (WIDTH - 8), y = HEIGHT / 2;
  const made = svg("svg", { width: WIDTH, height: HEIGHT, class: "wb-interval", "aria-hidden": "true" });
  if (from !== null) made.append(svg("rect", { x: x(from), width: Math.max(1, x(to) - x(from)), y: 2, height: HEIGHT - 4, class: "wb-null" }));
  made.append(svg("line", { x1: x(least), x2: x(most), y1: y, y2: y, class: "wb-axis-soft" }), svg("line", { x1: x(middle), x2: x(middle), y1: 2, y2: HEIGHT - 2, class: "wb-axis-soft" }));
  if (value === null) return made;
  if (low !== null) made.append(svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: "wb-ci" }));
  made.append(svg("circle", { cx: x(value), cy: y, r: 3.5, class: "wb-point" }));
  return made;
}
