// Heatmaps before, after and their difference, over the grey picture; or one that flips.
import { array, bitmap, drawScale, greyed, h, inWords, number, paint, paintHeat, replace, set } from "../common/index.js";

export function panesOf() {
  const shown = { key: null, image: null, grey: null };
  const panes = { before: pane("Before"), after: pane("After"), difference: pane("Difference") };
  const node = h("div", { class: "wb-panes wb-three" }, Object.values(panes).map((one) => one.node));

  function pane(title) {
    const canvas = h("canvas", { class: "wb-picture", role: "img", "aria-label": title });
    const heading = h("div", { class: "wb-pane-title" }, title), legend = h("div", { class: "wb-scale" });
    const wait = h("div", { class: "wb-pane-wait wb-waiting", hidden: true }), gone = h("div", { class: "wb-pane-gone", hidden: true });
    return { node: h("figure", { class: "wb-pane" }, heading, h("div", { class: "wb-frame" }, canvas, wait, gone), legend), canvas, heading, legend, wait, gone };
  }

  async function take(picture) {
    if (!picture?.jpeg || shown.key === picture) return;
    shown.key = picture;
    const image = await bitmap(picture.jpeg);
    if (shown.key !== picture) return;
    Object.assign(shown, { image, grey: greyed(image) });
  }

  function draw(maps, { isMine, isBefore, flip, isStill, isQuiet, hasActs }) {
    node.classList.toggle("wb-flip", flip);
    panes.before.node.hidden = flip;
    panes.difference.node.hidden = flip;
    replace(panes.after.heading, flip ? h("strong", {}, isBefore ? "Before" : "After") : isBefore ? "After, bypassed" : "After", flip ? h("span", { class: "wb-quiet" }, " hold space to flip") : null);
    for (const [name, one] of Object.entries(panes)) {
      const given = !isMine ? null : name === "after" && isBefore ? maps.before : maps[name];
      one.wait.hidden = Boolean(given) || isStill || isQuiet;
      one.gone.hidden = Boolean(given) || !(isStill || isQuiet);
      replace(one.gone, isStill ? "Not in this page" : "No map: see above");
      one.legend.style.visibility = given ? "" : "hidden";
      if (!given) {
        paint(one.canvas, shown.grey, null, [1, 1]);
        continue;
      }
      const own = name === "difference", limit = own ? given.bulk || given.limit : maps.before.bulk || maps.before.limit;
      const [height, width] = given.map.shape, codes = array(given.map);
      const layer = new OffscreenCanvas(width, height);
      layer.getContext("2d").putImageData(paintHeat(new ImageData(width, height), codes, { factor: limit ? given.limit / limit : 0, opacity: 0.75 }), 0, 0);
      paint(one.canvas, shown.grey, layer, [width, height]);
      set(one.canvas, { "aria-label": `${name === "difference" ? "Difference of the maps" : `Map ${name === "after" && !isBefore ? "after" : "before"}`} for ${maps.name || maps.target}, ${inWords(given, codes, width, height)}` });
      const score = name === "before" || isBefore ? maps.score_before : maps.score_after;
      const words = own ? (given.limit ? "after − before, on its own scale" : hasActs ? "no difference" : "nothing is changed") : `score ${number(score)}`;
      drawScale(one.legend, given.limit ? limit : 0, words);
    }
  }

  return { node, take, draw };
}
