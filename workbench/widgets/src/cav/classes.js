// How each class depends on the direction: share of samples whose output rises along it, against random directions.
import { h, number, percent, plural, replace, set, signed, svg } from "../common/index.js";

const WIDTH = 96, HEIGHT = 18, MOST = 200;

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
      h("thead", {}, h("tr", {}, ["Output", "Rises in", "p", "Slope", "Size (random)"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((one) => {
        const on = target === `logit:${one.output}`;
        const name = h("button", { type: "button", class: "wb-link", "aria-pressed": String(on), "data-output": one.output, title: "Explain this output", onclick: () => this.aim(one, on) }, one.class);
        const words = one.score === null ? "undefined" : percent(one.score);
        return h("tr", { class: on ? "wb-on" : "" }, h("th", { scope: "row" }, name),
          h("td", { title: title(one) }, chart(one), h("span", { class: "wb-score" }, words), one.score_low === null ? null : h("span", { class: "wb-live" }, `, between ${percent(one.score_low)} and ${percent(one.score_high)}; random directions ${percent(one.null_low)} to ${percent(one.null_high)}`)),
          h("td", {}, number(one.p_holm, 2)), h("td", {}, signed(one.slope)),
          h("td", { title: `mean absolute derivative ± ${number(one.sensitivity_error, 2)}; in brackets that of random directions` }, `${number(one.sensitivity, 2)} (${number(one.null_sensitivity, 2)})`));
      }))));
    if (at !== undefined) this.out.querySelector(`[data-output="${at}"]`)?.focus();
    replace(this.line, `Share of a class's samples whose output rises along the direction, with its 95 % interval; the grey band is what ${plural(given.n_random, "random direction")} give. Slope and mean size of the derivative in units of the output, beside that of random directions.${rows.length < given.rows.length ? ` The ${rows.length} with the largest slope, of ${given.rows.length}.` : ""}`);
    replace(this.warnings, given.warnings.map((text) => h("li", {}, h("span", { class: "wb-warn-sign", "aria-hidden": "true" }, "⚠"), text)));
  }

  aim(one, on) {
    this.state.put({ target: on ? null : `logit:${one.output}` });
    this.frame.say(on ? "No output is explained" : `${one.class} is explained`);
  }
}

function title(one) {
  return one.score === null ? "The output changes for no sample" : `${percent(one.score)} [${percent(one.score_low)}, ${percent(one.score_high)}] of ${plural(one.n, "sample")}; random directions ${percent(one.null_low)} to ${percent(one.null_high)}; p ${number(one.p, 2)}, corrected ${number(one.p_holm, 2)}`;
}

function chart(one) {
  const x = (share) => 4 + share * (WIDTH - 8), y = HEIGHT / 2;
  const made = svg("svg", { width: WIDTH, height: HEIGHT, class: "wb-interval", "aria-hidden": "true" });
  if (one.null_low !== null) made.append(svg("rect", { x: x(one.null_low), width: Math.max(1, x(one.null_high) - x(one.null_low)), y: 2, height: HEIGHT - 4, class: "wb-null" }));
  made.append(svg("line", { x1: x(0), x2: x(1), y1: y, y2: y, class: "wb-axis-soft" }), svg("line", { x1: x(0.5), x2: x(0.5), y1: 2, y2: HEIGHT - 2, class: "wb-axis-soft" }));
  if (one.score === null) return made;
  if (one.score_low !== null) made.append(svg("line", { x1: x(one.score_low), x2: x(one.score_high), y1: y, y2: y, class: "wb-ci" }));
  made.append(svg("circle", { cx: x(one.score), cy: y, r: 4, class: "wb-point" }));
  return made;
}
