// The leading outputs of both models, a pair of bars for each, the largest change first.
import { grouped, h, number, percent, replace, rove, signed } from "../common/index.js";

export function outputsOf({ onpick }) {
  const list = h("div", { class: "wb-outs", role: "radiogroup", "aria-label": "Leading outputs, the largest change first; the chosen one is explained", onkeydown: (event) => rove(event, list) });
  const key = h("div", { class: "wb-out-key", "aria-hidden": "true" });
  const node = h("div", { class: "wb-dimmable" }, key, list);

  function draw(given, { isMine, names }) {
    const rows = given.rows || [];
    node.hidden = !rows.length;
    list.classList.toggle("wb-old", !isMine);
    replace(key, h("span", { class: "wb-legend" }, h("i", { class: "wb-was" }), names[0], h("i", { class: "wb-now" }), names[1]), h("span", { class: "wb-quiet" }, "score, change"));
    const known = rows.flatMap((one) => [one.before, one.after]).filter((v) => v !== null);
    const low = Math.min(0, ...known), high = Math.max(0, ...known), span = high - low || 1;
    const at = (value) => (100 * (value - low)) / span;
    const bar = (kind, value) => value === null ? null : h("i", { class: kind, style: { left: `${Math.min(at(0), at(value))}%`, width: `${Math.abs(at(value) - at(0))}%` } });
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    const first = rows.some((one) => one.index === given.index) ? given.index : rows[0]?.index;
    replace(list, rows.map((one) => {
      const name = one.name || `output ${grouped(one.index)}`, on = one.index === given.index;
      const chance = one.probability_before === null ? "" : `${percent(one.probability_before, 1)} → ${percent(one.probability_after, 1)}`;
      const rank = one.rank_before === one.rank_after ? `rank ${grouped(one.rank_after)}` : `rank ${grouped(one.rank_before)} → ${grouped(one.rank_after)}`;
      const label = `${name}: ${number(one.before)} under ${names[0]}, ${number(one.after)} under ${names[1]}, change ${one.change ? signed(one.change) : "none"}${chance ? `, probability ${chance.replace("→", "to")}` : ""}, ${rank.replace("→", "to")}`;
      return h("button", { type: "button", class: "wb-out", role: "radio", "data-index": one.index, "aria-checked": String(on), "aria-label": label, title: label, tabIndex: one.index === first ? 0 : -1, onclick: () => onpick(one.index) },
        h("span", { class: "wb-out-name" }, name),
        h("span", { class: "wb-pair" }, h("i", { class: "wb-zero", style: { left: `${at(0)}%` } }), bar("wb-was", one.before), bar("wb-now", one.after)),
        h("span", { class: "wb-out-values" }, number(one.before), h("span", { class: "wb-quiet" }, "→"), h("b", {}, number(one.after))),
        h("span", { class: `wb-out-change ${one.change > 0 ? "wb-up" : one.change < 0 ? "wb-down" : ""}` }, one.change ? signed(one.change) : "0"),
        h("span", { class: "wb-out-more wb-quiet" }, [chance, rank].filter(Boolean).join(" · ")));
    }));
    if (focused !== null) list.querySelector(`[data-index="${focused}"]`)?.focus();
  }
  return { node, draw };
}
