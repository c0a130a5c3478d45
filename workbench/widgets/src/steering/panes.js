// Heatmaps before, after and their difference, over the grey picture; or one that flips.
import { array, bitmap, h, heatCss, number, paintHeat, replace, set, signed } from "../common/index.js";

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

  function drawScale(legend, limit, words) {
    const stops = Array.from({ length: 21 }, (_, i) => `${heatCss(i / 10 - 1, 0.75)} ${5 * i}%`);
    replace(legend,
      h("div", { class: "wb-scale-bar", style: { backgroundImage: `linear-gradient(to right, ${stops.join(", ")})` } }),
      h("div", { class: "wb-scale-ends" }, h("span", {}, limit ? number(-limit) : ""), h("span", {}, "0"), h("span", {}, limit ? signed(limit) : "")),
      h("div", { class: "wb-scale-note" }, words));
  }

  function paint(canvas, picture, layer, size) {
    const [width, height] = picture ? [picture.width, picture.height] : size;
    const factor = Math.max(1, Math.min(3, Math.ceil(480 / Math.max(width, height))));
    canvas.width = width * factor;
    canvas.height = height * factor;
    const ctx = canvas.getContext("2d");
    ctx.imageSmoothingQuality = "high";
    if (picture) ctx.drawImage(picture, 0, 0, canvas.width, canvas.height);
    if (layer) ctx.drawImage(layer, 0, 0, canvas.width, canvas.height);
  }
  return { node, take, draw };
}

// Light and without colour, so that the colours above can be told apart.
export function greyed(image) {
  if (!image) return null;
  const canvas = new OffscreenCanvas(image.width, image.height), ctx = canvas.getContext("2d");
  ctx.drawImage(image, 0, 0);
  const pixels = ctx.getImageData(0, 0, image.width, image.height), data = pixels.data;
  for (let i = 0; i < data.length; i += 4) data[i] = data[i + 1] = data[i + 2] = Math.min(255, 110 + 0.55 * (0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]));
  ctx.putImageData(pixels, 0, 0);
  return canvas;
}

export function inWords(given, codes, width, height) {
  if (!given.limit) return "zero everywhere";
  let peak = 0;
  for (let i = 1; i < codes.length; i++) if (codes[i] !== -128 && Math.abs(codes[i]) > Math.abs(codes[peak])) peak = i;
  const third = (at, size, names) => names[Math.min(2, Math.floor((3 * at) / size))];
  const where = `${third(Math.floor(peak / width), height, ["upper", "middle", "lower"])} ${third(peak % width, width, ["left", "centre", "right"])}`;
  return `strongest in the ${where}, values ${number(given.low)} to ${number(given.high)}`;
}
