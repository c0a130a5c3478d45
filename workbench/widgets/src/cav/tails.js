// Both ends of the strip as pictures.
import { fill, listbox, put, putWords } from "../common/options.js";
import { h, number, plural, set } from "../common/index.js";
import { reading, unpacked } from "./strip.js";

const SIGNS = { 0: "·", 1: "●", 2: "○" };

export class Tails {
  constructor({ frame, pick }) {
    Object.assign(this, { frame, state: frame.state, pick, drawn: null });
    this.lists = {};
    const end = (name, title) => {
      const list = listbox(title, "wb-tail-tiles");
      const all = h("button", { type: "button", class: "wb-button wb-small", onclick: () => this.take(name) }, "Select these");
      set(all, { "aria-label": `Select these: ${title.toLowerCase()}` });
      this.lists[name] = { list, all };
      return h("div", { class: `wb-tail wb-tail-${name}` }, h("div", { class: "wb-h4" }, title, all), list);
    };
    this.node = h("div", { class: "wb-tails" }, end("low", "Lowest projections"), end("high", "Highest projections"));
  }

  draw(row) {
    const given = this.state.get("tails"), strip = unpacked(this.state.get("strip"));
    const fits = given?.high && row && strip && given.direction === row.direction && strip.direction === row.direction;
    if (!fits) {
      if (this.state.get("status") === "still" || !given?.high) {
        this.drawn = null;
        for (const { list, all } of Object.values(this.lists)) {
          all.hidden = true;
          putWords(list, this.state.get("status") === "still" ? h("p", { class: "wb-none" }, "These pictures are not in this page.") : h("div", { class: "wb-tails-wait wb-waiting" }));
        }
      }
      return;
    }
    const classes = this.state.get("options")?.classes;
    if (this.drawn?.given === given && this.drawn.classes === classes) return this.mark();
    if (given.high.samples.some((id) => !strip.at.has(id))) return; // of an older strip
    this.drawn = { given, classes };
    for (const [name, { list, all }] of Object.entries(this.lists)) {
      const { samples, sheet } = given[name], canvases = [];
      all.hidden = !samples.length;
      const tiles = samples.map((id) => {
        const i = strip.at.get(id), canvas = h("canvas", { width: sheet.width, height: sheet.height, "aria-hidden": "true" });
        canvases.push(canvas);
        const label = `Rank ${i + 1}: ${reading(strip, i, classes)}`;
        return h("div", { class: "wb-tail-tile", role: "option", "data-sample": id, "aria-label": label, title: label,
          onclick: (event) => this.pick(id, event.ctrlKey || event.metaKey), onpointerenter: () => this.state.hover(id), onpointerleave: () => this.state.hover(null) },
        canvas, h("div", { class: "wb-tail-line" }, h("span", { class: `wb-sign-${strip.kind[i] % 4}` }, SIGNS[strip.kind[i] % 4]), number(strip.values[i])));
      });
      if (tiles.length) put(list, tiles);
      else putWords(list, h("p", { class: "wb-none" }, "No samples."));
      fill(sheet, canvases);
    }
    this.mark();
  }

  take(name) {
    const { samples } = this.state.get("tails")[name];
    this.state.put({ samples: [...samples] });
    this.frame.say(`${plural(samples.length, "sample")} selected`);
  }

  mark() {
    const sample = this.state.get("sample"), own = new Set(this.state.get("samples") || []);
    for (const { list } of Object.values(this.lists)) {
      for (const tile of list.querySelectorAll('[role="option"]')) {
        const id = Number(tile.dataset.sample);
        tile.classList.toggle("wb-current", id === sample);
        tile.classList.toggle("wb-member", own.has(id));
        set(tile, { "aria-selected": String(id === sample || own.has(id)) });
      }
    }
  }
}
