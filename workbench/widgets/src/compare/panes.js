// The maps of both models for one target on one scale, and their difference, over the grey picture.
import { array, bitmap, drawScale, greyed, h, inWords, number, paint, paintHeat, replace, set } from "../common/index.js";

export function panesOf() {
  const shown = { key: null, grey: null };
  const panes = { before: pane(), after: pane(), difference: pane() };
  const node = h("div", { class: "wb-panes" }, Object.values(panes).map((one) => one.node));

  function pane() {
    const canvas = h("canvas", { class: "wb-picture", role: "img" }), heading = h("figcaption", { class: "wb-pane-title" });
    const legend = h("div", { class: "wb-scale" }), wait = h("div", { class: "wb-pane-wait wb-waiting", hidden: true }), gone = h("div", { class: "wb-pane-gone", hidden: true });
    return { node: h("figure", { class: "wb-pane" }, heading, h("div", { class: "wb-frame" }, canvas, wait, gone), legend), canvas, heading, legend, wait, gone };
  }

  async function take(picture) {
    if (!picture?.jpeg || shown.key === picture) return;
    shown.key = picture;
    const image = await bitmap(picture.jpeg);
    if (shown.key === picture) shown.grey = greyed(image);
  }

  // `gone` says why there is no map, where none is on its way.
  function draw(maps, { isMine, gone, names }) {
    const words = { before: names[0], after: names[1], difference: "Difference" };
    for (const [kind, one] of Object.entries(panes)) {
      const given = isMine ? maps[kind] : null, own = kind === "difference";
      replace(one.heading, words[kind]);
      one.heading.title = words[kind];
      one.wait.hidden = Boolean(given) || Boolean(gone);
      one.gone.hidden = Boolean(given) || !gone;
      replace(one.gone, gone);
      one.legend.style.visibility = given ? "" : "hidden";
      if (!given) {
        set(one.canvas, { "aria-label": `${words[kind]}: ${gone || "being computed"}` });
        paint(one.canvas, shown.grey, null, [1, 1]);
        continue;
      }
      const limit = own ? given.bulk || given.limit : maps.scale;
      const [height, width] = given.map.shape, codes = array(given.map), layer = new OffscreenCanvas(width, height);
      layer.getContext("2d").putImageData(paintHeat(new ImageData(width, height), codes, { factor: limit ? given.limit / limit : 0, opacity: 0.75 }), 0, 0);
      paint(one.canvas, shown.grey, layer, [width, height]);
      const score = kind === "before" ? maps.score_before : maps.score_after;
      set(one.canvas, { "aria-label": `${own ? `Difference of the maps, ${names[1]} minus ${names[0]},` : `Map under ${words[kind]}`} for ${maps.name || maps.target}, ${inWords(given, codes, width, height)}` });
      drawScale(one.legend, given.limit ? limit : 0, own ? (given.limit ? "on its own scale" : "no difference") : `${maps.name || maps.target}, score ${number(score)}`);
    }
  }

  return { node, take, draw };
}
