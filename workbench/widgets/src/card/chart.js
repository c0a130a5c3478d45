// How the values of a component are spread over the data, with the current sample marked.
import { axisX, axisY, plot, rectY, ruleX, ruleY } from "@observablehq/plot";
import { grouped, h, number, replace } from "../common/index.js";

const HEIGHT = 132;

export function drawSpread(node, spread, mark, width) {
  const { counts, edges } = spread;
  const bins = Array.from(counts, (count, i) => ({ from: edges[i], to: edges[i + 1], count }));
  const top = Math.max(1, ...counts);
  const value = mark && mark.value !== null ? mark.value : null;
  const chart = plot({
    width, height: HEIGHT, marginLeft: 44, marginRight: 14, marginTop: 20, marginBottom: 34,
    style: { background: "none", color: "var(--wb-ink2)", fontFamily: "inherit", fontSize: "11px", overflow: "visible" },
    ariaLabel: `Histogram of ${spread.quantity}`,
    x: { label: null, domain: value === null ? undefined : [Math.min(edges[0], value), Math.max(edges[edges.length - 1], value)] },
    // Most components are silent on most pictures: a root keeps the few loud ones visible.
    y: { type: "sqrt", label: null, domain: [0, top] },
    marks: [
      axisY({ ticks: yTicks(top), tickFormat: (v) => grouped(v), tickSize: 0 }),
      axisX({ ticks: Math.max(3, Math.floor(width / 90)), tickFormat: (v) => number(v), tickSize: 3 }),
      rectY(bins, { x1: "from", x2: "to", y: "count", insetLeft: 0.5, insetRight: 0.5, fill: "var(--wb-bin)" }),
      ruleY([0], { stroke: "var(--wb-edge)" }),
      value === null ? null : ruleX([value], { stroke: "var(--wb-accent)", strokeWidth: 2, insetTop: -4 }),
    ],
  });
  // One picture with one name: its parts are drawing, and the library names them where no name may stand.
  for (const part of chart.querySelectorAll("g[aria-label]")) part.removeAttribute("aria-label");
  chart.setAttribute("role", "img");
  const label = value === null ? null : h("div", { class: "wb-spread-mark" }, `sample ${mark.sample}: ${number(value)}`);
  replace(node, chart, label);
  if (label) {
    const at = chart.scale("x").apply(value);
    const half = label.offsetWidth / 2;
    label.style.left = `${Math.max(half, Math.min(width - half, at))}px`;
  }
}

// Round numbers that lie apart on a root axis.
function yTicks(top) {
  const found = [0];
  for (let step = 1; step <= top; step *= 10) {
    for (const tick of [step, 2 * step, 5 * step]) {
      if (tick > top) break;
      const apart = Math.sqrt(tick / top) - Math.sqrt(found[found.length - 1] / top);
      if (apart >= 0.26) found.push(tick);
      else if (found.length > 1 && tick > 0.8 * top) found[found.length - 1] = tick;
    }
  }
  return found;
}
