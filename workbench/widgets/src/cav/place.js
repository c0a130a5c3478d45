// Where the direction lies in a sample: the picture, the direction by itself, and what flows through it to an output.
import { array, bitmap, h, heatCss, number, paintHeat, percent, replace, signed } from "../common/index.js";
import { unpacked } from "./strip.js";

export class Place {
  constructor({ frame, isStill }) {
    Object.assign(this, { frame, state: frame.state, isStill, drawn: null });
    this.panes = h("div", { class: "wb-place" });
    this.words = h("p", { class: "wb-origin" });
    this.node = h("div", {}, this.panes, this.words);
  }

  async draw(row, again = false) {
    const strip = unpacked(this.state.get("strip"));
    const { state } = this, given = state.get("place"), sample = state.get("sample");
    const fits = given?.maps && row && given.direction === row.direction && (sample === null || given.sample === sample);
    if (!fits) {
      if (this.isStill() || !given?.maps) {
        this.drawn = null;
        const why = sample === null ? "Select a sample." : `Sample ${sample} is not in this page.`;
        replace(this.panes, this.isStill() ? h("p", { class: "wb-none" }, why) : h("div", { class: "wb-place-wait wb-waiting" }));
        replace(this.words);
      }
      return;
    }
    if (this.drawn === given && !again) return;
    this.drawn = given;
    const image = await bitmap(given.picture.jpeg);
    if (this.drawn !== given) return;
    const { width, height } = given.picture, size = 192, scale = size / Math.max(width, height);
    const canvas = () => h("canvas", { width: Math.round(width * scale), height: Math.round(height * scale), "aria-hidden": "true" });
    const seen = canvas();
    if (image) seen.getContext("2d").drawImage(image, 0, 0, seen.width, seen.height);
    const name = [given.picture.label, given.picture.key].filter(Boolean).join(", ");
    const figures = [figure(seen, `Sample ${given.sample}`, given.picture.label, `Sample ${given.sample}, ${name}, as the model saw it`)];
    for (const one of given.maps) {
      const [y, x] = one.map.shape, heat = h("canvas", { width: x, height: y }), shown = canvas();
      const painted = new ImageData(x, y);
      const factor = one.bulk > 0 ? one.limit / one.bulk : 1;
      paintHeat(painted, array(one.map), { factor, opacity: 0.75 });
      heat.getContext("2d").putImageData(painted, 0, 0);
      const pen = shown.getContext("2d");
      pen.filter = "grayscale(1) contrast(0.62) brightness(1.15)";
      if (image) pen.drawImage(image, 0, 0, shown.width, shown.height);
      pen.filter = "none";
      pen.drawImage(heat, 0, 0, shown.width, shown.height);
      figures.push(figure(shown, one.title, legend(one), `${one.title}, as a heatmap on sample ${given.sample}. ${inside(one)}`));
    }
    replace(this.panes, figures);
    const i = strip?.direction === row.direction ? strip.at.get(given.sample) : undefined;
    const held = i !== undefined && strip.kind[i] >= 4 ? `, held out ${number(strip.values[i])}` : "";
    const parts = given.maps.map((one) => inside(one, given.maps.length > 1 ? `${one.title}: ` : "")).filter(Boolean);
    replace(this.words, `Projection of sample ${given.sample}: ${number(given.projection)}${held}. ${parts.join(" ")}`);
  }
}

function inside(one, lead = "") {
  const all = one.in_masks.filter((mask) => mask.share !== null && mask.area > 0).sort((a, b) => b.share / b.area - a.share / a.area);
  const listed = all.map((mask) => `${mask.name} ${percent(mask.share)} on ${percent(mask.area)} of the picture`).join(", ");
  return listed ? `${lead}${lead ? "p" : "P"}ositive relevance on ${listed}.` : "";
}

function legend(one) {
  const steps = Array.from({ length: 15 }, (_, i) => heatCss(i / 7 - 1, 0.75));
  return h("span", { class: "wb-heat-legend" }, number(-one.bulk, 2), h("i", { style: { background: `linear-gradient(to right, ${steps.join(",")}), #b4b4b4` } }), signed(one.bulk, 2));
}

function figure(canvas, title, below, alt) {
  return h("figure", { class: "wb-pane" }, h("div", { role: "img", "aria-label": alt }, canvas), h("figcaption", {}, h("span", { class: "wb-pane-title" }, title), h("span", { class: "wb-pane-sub" }, below)));
}
