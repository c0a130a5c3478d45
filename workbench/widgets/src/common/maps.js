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
// What is against is hatched, so that its sign is not told by colour alone; lines, which are dashed, are not.
export function paint(canvas, picture, layer, size, side = 480, { hatched = true } = {}) {
  const [width, height] = picture ? [picture.width, picture.height] : size;
  const factor = Math.max(1, Math.min(3, Math.ceil(side / Math.max(width, height))));
  canvas.width = width * factor;
  canvas.height = height * factor;
  const ctx = canvas.getContext("2d");
  ctx.imageSmoothingQuality = "high";
  for (const one of [picture, layer]) if (one) ctx.drawImage(one, 0, 0, canvas.width, canvas.height);
  if (layer && hatched) hatch(ctx, layer);
  return ctx;
}

// Fine lines over the blue of a painted map, as strong as the blue is.
function hatch(ctx, layer) {
  const { width, height } = ctx.canvas, mask = new OffscreenCanvas(layer.width, layer.height), over = new OffscreenCanvas(width, height);
  const pixels = layer.getContext("2d").getImageData(0, 0, layer.width, layer.height), data = pixels.data;
  let isAny = false;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 2] <= data[i]) data[i + 3] = 0;
    else isAny ||= data[i + 3] > 0;
  }
  if (!isAny) return;
  mask.getContext("2d").putImageData(pixels, 0, 0);
  const lines = over.getContext("2d"), step = Math.max(6, Math.round(width / 30));
  // A light line beside each dark one: one of them stands out on any blue.
  for (const [ink, shift] of [["rgba(6,34,78,0.65)", 0], ["rgba(255,255,255,0.4)", 0.2]]) {
    lines.strokeStyle = ink;
    lines.lineWidth = step * 0.14;
    lines.beginPath();
    for (let x = -height + shift * step; x < width; x += step) {
      lines.moveTo(x, height);
      lines.lineTo(x + height, 0);
    }
    lines.stroke();
  }
  lines.globalCompositeOperation = "destination-in";
  lines.drawImage(mask, 0, 0, width, height);
  ctx.drawImage(over, 0, 0);
}

// What the colours mean: from -limit to limit, without those of a sign that is not shown.
export function drawScale(node, limit, words, { strength = 0.75, sign = "both" } = {}) {
  const stops = Array.from({ length: 21 }, (_, i) => {
    const t = i / 10 - 1, off = (sign === "positive" && t < 0) || (sign === "negative" && t > 0);
    return `${off ? "transparent" : heatCss(t, strength)} ${5 * i}%`;
  });
  replace(node,
    h("div", { class: "wb-scale-bar", style: { backgroundImage: `linear-gradient(to right, ${stops.join(", ")})` } }, sign === "positive" ? null : h("i", { class: "wb-scale-hatch" })),
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
