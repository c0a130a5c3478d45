// All samples by their projection: histograms of both kinds, an interval to drag, and a slider over ranks that reads them.
import { array, grouped, h, number, plural, replace, set, svg, uid } from "../common/index.js";

const HEIGHT = 168, FOOT = 22;
const KINDS = ["took no part", "with the concept", "without it"];

// {samples, values, kind, class_} of the strip trait as arrays, once per trait
const kept = new WeakMap();
export function unpacked(given) {
  if (!given?.samples) return null;
  if (!kept.has(given)) {
    const values = array(given.values), samples = array(given.samples);
    kept.set(given, { ...given, samples, values, kind: array(given.kind), class_: array(given.class_), at: new Map(Array.from(samples, (id, i) => [id, i])) });
  }
  return kept.get(given);
}

export function reading(strip, i, classes) {
  const kind = strip.kind[i];
  return [`sample ${strip.samples[i]}`, `projection ${number(strip.values[i])}${kind >= 4 ? ", held out" : ""}`, KINDS[kind % 4], classes?.[strip.class_[i]] || ""].filter(Boolean).join(", ");
}

export class Strip {
  constructor({ frame, pick }) {
    Object.assign(this, { frame, state: frame.state, pick, given: null, interval: null });
    const id = uid("rank");
    this.plot = h("div", { class: "wb-strip-plot", onpointerdown: (event) => this.press(event) });
    this.input = h("input", { id, type: "range", class: "wb-range wb-rank", min: 0, max: 0, step: 1, value: 0, oninput: () => this.walk(), onkeydown: (event) => this.key(event), onblur: () => this.state.hover(null) });
    set(this.input, { "aria-label": "Samples by projection, lowest to highest" });
    this.words = h("output", { class: "wb-rank-words", htmlFor: id });
    this.key_ = h("div", { class: "wb-strip-key" });
    this.line = h("p", { class: "wb-origin" });
    this.node = h("div", { class: "wb-strip" }, this.key_, this.plot, h("div", { class: "wb-rank-row" }, h("span", {}, "lowest"), this.input, h("span", {}, "highest")), this.words, this.line);
  }

  draw(row, again = false) {
    const given = unpacked(this.state.get("strip"));
    const width = Math.floor(this.plot.clientWidth);
    if (!given || !row || !given.samples.length || given.direction !== row.direction) {
      if (given && row && given.direction !== row.direction && this.state.get("status") !== "still") return; // the old one stays, dimmed, until the new is there
      this.given = null;
      replace(this.plot, this.state.get("status") === "still" || (given && !given.samples.length) ? h("p", { class: "wb-none" }, "Its projections are not in this page.") : h("div", { class: "wb-strip-wait wb-waiting" }));
      replace(this.words);
      return replace(this.line);
    }
    if (given === this.given && !again) return;
    const isNew = given !== this.given;
    this.given = given;
    if (isNew) this.interval = null;
    if (width < 60) return;
    const { values, kind } = given, n = values.length, bins = this.state.get("bins");
    const high = values[0], low = values[n - 1], span = high - low || 1;
    const left = 4, inner = width - 8, middle = (HEIGHT - FOOT) / 2 + 4, most = middle - 14;
    Object.assign(this, { low, span, left, inner, middle });
    const counts = [0, 1, 2].map(() => new Float64Array(bins));
    for (let i = 0; i < n; i++) counts[kind[i] % 4][Math.min(bins - 1, Math.floor(((values[i] - low) / span) * bins))]++;
    const totals = counts.map((all) => all.reduce((a, b) => a + b, 0));
    const chart = svg("svg", { width, height: HEIGHT, role: "img", "aria-label": `Histogram of ${plural(n, "projection")}: ${grouped(totals[1])} with the concept above the line, ${grouped(totals[2])} without it below` });
    const bar = (b, size, sign, className) => {
      if (!size) return;
      const height = Math.max(1, size * most);
      chart.append(svg("rect", { x: left + (b / bins) * inner + 0.5, width: Math.max(1, inner / bins - 1), y: sign > 0 ? middle - height : middle, height, class: className }));
    };
    const top = Math.max(1, ...counts[1]), below = Math.max(1, ...counts[2]), rest = Math.max(1, ...counts[0]);
    for (let b = 0; b < bins; b++) {
      bar(b, counts[0][b] / rest, -1, "wb-bin-rest");
      bar(b, counts[2][b] / below, -1, "wb-bin-without");
      bar(b, counts[1][b] / top, 1, "wb-bin-with");
    }
    chart.append(svg("line", { x1: left, x2: left + inner, y1: middle, y2: middle, class: "wb-axis" }));
    if (given.threshold !== null && given.threshold >= low && given.threshold <= high) {
      const x = this.x(given.threshold);
      chart.append(svg("line", { x1: x, x2: x, y1: 10, y2: HEIGHT - FOOT, class: "wb-threshold" }));
      chart.append(svg("text", { x: x + (x > width - 90 ? -4 : 4), y: 16, class: "wb-tick", "text-anchor": x > width - 90 ? "end" : "start" }, "boundary"));
    }
    for (const tick of ticks(low, high, Math.max(2, Math.floor(width / 90)))) {
      const x = this.x(tick);
      chart.append(svg("text", { x, y: HEIGHT - 6, class: "wb-tick", "text-anchor": x < 16 ? "start" : x > width - 16 ? "end" : "middle" }, number(tick)));
    }
    this.band = svg("rect", { y: 8, height: HEIGHT - FOOT - 8, x: 0, width: 0, class: "wb-brush" });
    this.chosen = svg("g", {});
    this.cursor = svg("line", { y1: 6, y2: HEIGHT - FOOT, class: "wb-cursor" });
    this.current = svg("path", { class: "wb-strip-sample", d: "" });
    chart.append(this.band, this.chosen, this.cursor, this.current);
    replace(this.plot, chart);
    const key = (className, text) => h("span", {}, h("i", { class: className }), text);
    replace(this.key_, key("wb-bin-with", `above: ${grouped(totals[1])} with`), key("wb-bin-without", `below: ${grouped(totals[2])} without`), totals[0] ? key("wb-bin-rest", `${grouped(totals[0])} took no part`) : null);
    const held = given.n_held_out ? `${grouped(given.n_held_out)} of ${grouped(totals[1] + totals[2])} projections are held out` : "No projection could be held out";
    const lost = given.n_samples - given.n;
    replace(this.line, `${held}; each kind to its own scale.${given.n > n ? ` ${grouped(n)} of ${grouped(given.n)} samples are drawn.` : ""}${lost ? ` ${grouped(lost)} samples are not stored or cannot be read.` : ""}`);
    set(this.input, { max: n - 1 });
    if (isNew) this.go(given.at.get(this.state.get("sample")) ?? 0);
    this.mark();
  }

  x(value) {
    return this.left + ((value - this.low) / this.span) * this.inner;
  }

  // The slider runs with the strip: low projections on the left. Rank 1 is the highest.
  get rank() {
    return this.given.samples.length - 1 - Number(this.input.value);
  }

  go(i) {
    this.input.value = this.given.samples.length - 1 - i;
    this.walk();
  }

  walk() {
    if (!this.given) return;
    const i = this.rank, n = this.given.samples.length, classes = this.state.get("options")?.classes;
    const text = `Rank ${grouped(i + 1)} of ${grouped(n)}: ${reading(this.given, i, classes)}`;
    replace(this.words, text);
    set(this.input, { "aria-valuetext": text });
    this.input.style.setProperty("--share", `${(100 * Number(this.input.value)) / Math.max(1, n - 1)}%`);
    if (document.activeElement === this.input) this.state.hover(this.given.samples[i]);
    this.mark();
  }

  key(event) {
    if (!this.given) return;
    const n = this.given.samples.length;
    if (event.key === "Enter") {
      event.preventDefault();
      if (this.interval) return this.take();
      return this.pick(this.given.samples[this.rank], event.ctrlKey || event.metaKey);
    }
    if (event.key === "Escape" && this.interval) {
      event.preventDefault();
      this.interval = null;
      this.frame.say("Interval left");
      return this.mark();
    }
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -n, End: n }[event.key];
    if (step === undefined || !event.shiftKey) return;
    event.preventDefault();
    const from = this.interval ? this.interval.anchor : this.rank;
    this.input.value = Math.max(0, Math.min(n - 1, Number(this.input.value) + step));
    this.interval = { anchor: from };
    this.walk();
    const [a, b] = this.ends();
    this.frame.say(`${plural(b - a + 1, "sample")}, ${number(this.given.values[b])} to ${number(this.given.values[a])}`);
  }

  ends() {
    const here = this.rank;
    return [Math.min(here, this.interval.anchor), Math.max(here, this.interval.anchor)];
  }

  take() {
    const [a, b] = this.ends();
    this.interval = null;
    this.choose(a, b);
  }

  choose(a, b) {
    const { samples, values } = this.given, ids = Array.from(samples.subarray(a, b + 1));
    this.state.put({ samples: ids });
    this.frame.say(ids.length ? `${plural(ids.length, "sample")} selected, projections ${number(values[b])} to ${number(values[a])}` : "No sample lies there");
    this.mark();
  }

  // Dragging chooses an interval, told on release; a click selects the nearest sample.
  press(event) {
    if (!this.given || event.button) return;
    const at = (e) => Math.max(0, Math.min(this.inner, e.clientX - this.plot.getBoundingClientRect().left - this.left)) / this.inner;
    const start = at(event), { plot } = this;
    let end = start, moved = false;
    plot.setPointerCapture(event.pointerId);
    const move = (e) => {
      end = at(e);
      moved ||= Math.abs(end - start) * this.inner > 4;
      if (moved) this.showBand(Math.min(start, end), Math.max(start, end));
    };
    const stop = (e) => {
      for (const [kind, call] of [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]]) plot.removeEventListener(kind, call);
      if (e.type === "pointercancel") return this.mark();
      const value = (share) => this.low + share * this.span, { values } = this.given;
      if (!moved) return this.clickAt(value(start), e.ctrlKey || e.metaKey);
      const from = value(Math.min(start, end)), to = value(Math.max(start, end));
      const a = values.findIndex((v) => v <= to);
      let b = a - 1;
      while (b + 1 < values.length && values[b + 1] >= from) b++;
      this.choose(Math.max(0, a), b);
    };
    for (const [kind, call] of [["pointermove", move], ["pointerup", stop], ["pointercancel", stop]]) plot.addEventListener(kind, call);
  }

  clickAt(value, isAdded) {
    const { values, samples } = this.given;
    let best = 0;
    for (let i = 1; i < values.length; i++) if (Math.abs(values[i] - value) < Math.abs(values[best] - value)) best = i;
    this.go(best);
    this.pick(samples[best], isAdded);
  }

  showBand(from, to) {
    place(this.band, { x: this.left + from * this.inner, width: (to - from) * this.inner });
  }

  mark() {
    const { given } = this;
    if (!given || !this.cursor) return;
    const here = this.x(given.values[this.rank]);
    place(this.cursor, { x1: here, x2: here });
    if (this.interval) {
      const [a, b] = this.ends();
      this.showBand((given.values[b] - this.low) / this.span, (given.values[a] - this.low) / this.span);
    } else this.showBand(0, 0);
    const own = (this.state.get("samples") || []).map((id) => given.at.get(id)).filter((i) => i !== undefined);
    const step = Math.max(1, Math.ceil(own.length / 2000)), d = [];
    for (let k = 0; k < own.length; k += step) d.push(`M${this.x(given.values[own[k]]).toFixed(1)} ${HEIGHT - FOOT}v-7`);
    replace(this.chosen, d.length ? svg("path", { class: "wb-strip-chosen", d: d.join("") }) : null);
    const hover = this.state.get("hover"), i = given.at.get(typeof hover === "number" ? hover : this.state.get("sample"));
    place(this.current, { d: i === undefined ? "" : `M${this.x(given.values[i])} ${HEIGHT - FOOT - 8}l5 8h-10z` });
  }
}

// Parts of a drawing have attributes, no properties, for where they are.
const place = (node, values) => Object.entries(values).forEach(([name, value]) => node.setAttribute(name, value));

function ticks(low, high, n) {
  const span = high - low || 1, raw = span / n, size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find((k) => k * size >= raw);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * span; t += step) found.push(Math.abs(t) < 1e-9 * span ? 0 : t);
  return found;
}
