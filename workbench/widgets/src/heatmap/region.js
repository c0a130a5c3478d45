// Drawing a region on a picture, with the pointer or the keyboard. Shares of the picture, 0 to 1.
import { h } from "../common/index.js";

const between = (v) => Math.max(0, Math.min(1, v));
const STEP = 0.05;

// Over one pane: shows the region, and reports it while it is dragged (`done` on release).
export function regionOver(frame, canvas, { ondrag, onpress }) {
  const box = h("div", { class: "wb-region", hidden: true, "aria-hidden": "true" });
  frame.append(box);
  let from = null, moved = false;

  // Where the picture lies within its frame, which may be wider or higher.
  const area = () => {
    const outer = canvas.getBoundingClientRect();
    const scale = Math.min(outer.width / canvas.width, outer.height / canvas.height);
    const [width, height] = [canvas.width * scale, canvas.height * scale];
    return { left: outer.left + (outer.width - width) / 2, top: outer.top + (outer.height - height) / 2, width, height };
  };
  const at = (event) => {
    const { left, top, width, height } = area();
    return [between((event.clientX - left) / width), between((event.clientY - top) / height)];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    from = at(event);
    moved = false;
    onpress(true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y] = at(event);
    if (!moved && Math.abs(x - from[0]) < 0.02 && Math.abs(y - from[1]) < 0.02) return;
    if (!moved) onpress(false);
    moved = true;
    ondrag(spanned(from, [x, y]), false);
  });
  const end = (event) => {
    if (!from) return;
    onpress(false);
    if (moved) ondrag(spanned(from, at(event)), true);
    from = null;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);

  return (region) => {
    box.hidden = !region;
    if (!region) return;
    const { left, top, width, height } = area(), outer = frame.getBoundingClientRect();
    Object.assign(box.style, {
      left: `${left - outer.left + region.x * width}px`, top: `${top - outer.top + region.y * height}px`,
      width: `${region.width * width}px`, height: `${region.height * height}px`,
    });
  };
}

function spanned([x0, y0], [x1, y1]) {
  const round = (v) => Math.round(v * 1000) / 1000;
  return { x: round(Math.min(x0, x1)), y: round(Math.min(y0, y1)), width: round(Math.abs(x1 - x0)), height: round(Math.abs(y1 - y0)) };
}

// What a key makes of the region; undefined if it means nothing here.
export function keyed(region, event) {
  const key = event.key.toLowerCase();
  if (key === "r") return region ? null : { x: 0.35, y: 0.35, width: 0.3, height: 0.3 };
  if (!region) return undefined;
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  const round = (v) => Math.round(v * 1000) / 1000;
  if (way && event.shiftKey) {
    return { ...region, x: round(Math.max(0, Math.min(1 - region.width, region.x + STEP * way[0]))), y: round(Math.max(0, Math.min(1 - region.height, region.y + STEP * way[1]))) };
  }
  const grow = { "[": -STEP, "]": STEP }[event.key];
  if (grow === undefined) return undefined;
  const width = Math.max(STEP, Math.min(1 - region.x, region.width + grow)), height = Math.max(STEP, Math.min(1 - region.y, region.height + grow));
  return { ...region, width: round(width), height: round(height) };
}
