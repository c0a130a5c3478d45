// Heatmaps over a picture: the picture without colour, both on one canvas, the scale below, and all of it in words.
import { heatCss } from "./colour.js";
import { h, replace } from "./dom.js";
import { number, signed } from "./format.js";

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

// A picture and what lies over it, either may be missing; `size` holds without a picture, `side` is the least in pixels.
export function paint(canvas, picture, layer, size, side = 480) {
  const [width, height] = picture ? [picture.width, picture.height] : size;
  const factor = Math.max(1, Math.min(3, Math.ceil(side / Math.max(width, height))));
  canvas.width = width * factor;
  canvas.height = height * factor;
  const ctx = canvas.getContext("2d");
  ctx.imageSmoothingQuality = "high";
  for (const one of [picture, layer]) if (one) ctx.drawImage(one, 0, 0, canvas.width, canvas.height);
  return ctx;
}

// What the colours mean: from -limit to limit, without those of a sign that is not shown.
export function drawScale(node, limit, words, { strength = 0.75, sign = "both" } = {}) {
  const stops = Array.from({ length: 21 }, (_, i) => {
    const t = i / 10 - 1, off = (sign === "positive" && t < 0) || (sign === "negative" && t > 0);
    return `${off ? "transparent" : heatCss(t, strength)} ${5 * i}%`;
  });
  replace(node,
    h("div", { class: "wb-scale-bar", style: { backgroundImage: `linear-gradient(to right, ${stops.join(", ")})` } }),
    h("div", { class: "wb-scale-ends" }, h("span", {}, limit ? number(-limit) : ""), h("span", {}, "0"), h("span", {}, limit ? signed(limit) : "")),
    h("div", { class: "wb-scale-note", title: words }, words));
}

export function inWords(given, codes, width, height) {
  if (!given.limit) return "zero everywhere";
  let peak = 0;
  for (let i = 1; i < codes.length; i++) if (codes[i] !== -128 && Math.abs(codes[i]) > Math.abs(codes[peak])) peak = i;
  const third = (at, size, names) => names[Math.min(2, Math.floor((3 * at) / size))];
  const where = `${third(Math.floor(peak / width), height, ["upper", "middle", "lower"])} ${third(peak % width, width, ["left", "centre", "right"])}`;
  return `strongest in the ${where}, values ${number(given.low)} to ${number(given.high)}`;
}
