// Painting maps: colours with a threshold, or lines of equal relevance, over a grey picture.
import { blur2 } from "d3-array";
import { contours } from "d3-contour";
import { array, css, paintHeat, AGAINST, FOR } from "../common/index.js";

const LEVELS = [0.2, 0.4, 0.6, 0.8];
const SMOOTHING = 0.02; // of the map's side: what is drawn as a line is larger than a pixel

// A map as something that can be drawn over its picture.
export function painted(given, limit, { sign, opacity, threshold, contour }) {
  const codes = array(given.map), [height, width] = given.map.shape;
  const factor = limit ? given.limit / limit : 0;
  if (contour) return lines(values(codes, factor), width, height, { sign, threshold });
  const layer = new OffscreenCanvas(width, height);
  const shown = threshold > 0 ? above(codes, threshold, factor) : codes;
  layer.getContext("2d").putImageData(paintHeat(new ImageData(width, height), shown, { factor, sign, opacity }), 0, 0);
  return layer;
}

// Codes below a share of the scale become clear.
function above(codes, threshold, factor) {
  const least = factor ? Math.sqrt(threshold / factor) * 127 : 0;
  return codes.map((code) => (code === -128 || Math.abs(code) < least ? 0 : code));
}

function values(codes, factor) {
  return Float64Array.from(codes, (code) => (code === -128 ? 0 : (code * Math.abs(code) * factor) / 16129));
}

function lines(data, width, height, { sign, threshold }) {
  const size = 4, layer = new OffscreenCanvas(width * size, height * size), ctx = layer.getContext("2d");
  blur2({ data, width, height }, Math.max(1, SMOOTHING * Math.max(width, height)));
  const most = data.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  ctx.scale(size, size);
  for (const way of [1, -1]) {
    if ((sign === "positive" && way < 0) || (sign === "negative" && way > 0)) continue;
    const turned = way > 0 ? data : data.map((v) => -v);
    for (const shape of contours().size([width, height]).thresholds(LEVELS.filter((l) => l >= threshold).map((l) => l * most))(turned)) {
      ctx.beginPath();
      shape.coordinates.flat().forEach((ring) => trace(ctx, ring));
      ctx.strokeStyle = css(way > 0 ? FOR : AGAINST);
      ctx.lineWidth = Math.max(0.5, (0.006 * width * (0.6 + shape.value / most)));
      if (way < 0) ctx.setLineDash([0.02 * width, 0.012 * width]); // not by colour alone
      ctx.stroke();
      ctx.setLineDash([]);
    }
  }
  return layer;
}

function trace(ctx, ring) {
  ring.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.closePath();
}

// Outlines of masks over a picture, with a light rim so that they are seen on any ground.
export function outline(ctx, masks, width, height) {
  for (const { mask } of masks) {
    const [rows, columns] = mask.shape;
    ctx.save();
    ctx.scale(width / columns, height / rows);
    for (const shape of contours().size([columns, rows]).smooth(false).thresholds([0.5])(Array.from(array(mask)))) {
      ctx.beginPath();
      shape.coordinates.flat().forEach((ring) => trace(ctx, ring));
      for (const [colour, thick] of [["rgba(255,255,255,0.9)", 4], ["#111", 1.6]]) {
        ctx.strokeStyle = colour;
        ctx.lineWidth = (thick * columns) / width;
        ctx.stroke();
      }
    }
    ctx.restore();
  }
}
