// Outputs before and after, each on one axis for all: a ring, a dot, and what lies between.
import { grouped, h, number, percent, replace, rove, signed } from "../common/index.js";

export function outputsOf({ onpick }) {
  const list = h("div", { class: "wb-outs", role: "radiogroup", "aria-label": "Outputs; the chosen one is followed", onkeydown: (event) => rove(event, list) });
  const axis = h("div", { class: "wb-axis", "aria-hidden": "true" });
  const head = h("div", { class: "wb-out-head", "aria-hidden": "true" }, h("span", {}), h("span", { class: "wb-legend" }, h("i", { class: "wb-ring" }), "before", h("i", { class: "wb-point" }), "after"), h("span", {}, "change"));
  const node = h("div", { class: "wb-dimmable" }, head, list, axis);

  function draw(given, { isBefore, target, isMine }) {
    const rows = given.rows || [];
    const known = rows.flatMap((one) => [one.before, one.after]).filter((v) => v !== null);
    let low = Math.min(0, ...known), high = Math.max(0, ...known);
    const room = 0.04 * (high - low || 1);
    low -= room;
    high += room;
    const at = (value) => (100 * (value - low)) / (high - low);
    list.classList.toggle("wb-old", !isMine);
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    const chosen = rows.some((one) => one.index === given.index) ? given.index : rows[0]?.index;
    replace(list, rows.map((one) => {
      const after = isBefore ? one.before : one.after;
      const change = after === null || one.before === null ? null : after - one.before;
      const on = one.index === given.index;
      const chance = one.probability_before === null ? "" : `${percent(one.probability_before, 1)} → ${percent(isBefore ? one.probability_before : one.probability_after, 1)}`;
      const label = `${one.name || `output ${one.index}`}: ${number(one.before)} before, ${number(after)} after, change ${change ? signed(change) : "none"}${chance ? `, probability ${chance.replace("→", "to")}` : ""}`;
      const track = h("span", { class: "wb-track" }, h("i", { class: "wb-zero", style: { left: `${at(0)}%` } }));
      if (change) track.append(h("i", { class: `wb-span ${change < 0 ? "wb-fall" : "wb-rise"}`, style: { left: `${Math.min(at(one.before), at(after))}%`, width: `${Math.abs(at(after) - at(one.before))}%` } }));
      if (after !== null) track.append(h("i", { class: "wb-ring", style: { left: `${at(one.before)}%` } }), h("i", { class: "wb-point", style: { left: `${at(after)}%` } }));
      return h("button", { type: "button", class: "wb-out", role: "radio", "data-index": one.index, "aria-checked": String(on), "aria-label": label, title: chance ? `class ${one.index}, probability ${chance}` : `class ${one.index}`, tabIndex: one.index === chosen ? 0 : -1, onclick: () => onpick(one.index) },
        h("span", { class: "wb-out-name" }, one.name || `output ${grouped(one.index)}`), track,
        h("span", { class: "wb-out-values" }, h("span", {}, number(one.before)), h("span", { class: "wb-quiet" }, "→"), h("b", {}, number(after))),
        h("span", { class: `wb-out-change ${change > 0 ? "wb-up" : change < 0 ? "wb-down" : ""}` }, change ? signed(change) : "0"));
    }));
    if (focused !== null) list.querySelector(`[data-index="${focused}"]`)?.focus();
    replace(axis, rows.length ? [h("span", {}), h("span", { class: "wb-axis-line" }, h("span", {}, number(low + room)), h("span", {}, number(high - room))), h("span", {})] : []);
  }
  return { node, draw };
}
