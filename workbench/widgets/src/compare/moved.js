// The components of a layer whose relevance changed most, with it under both models.
import { array, bitmap, choice, h, nameOf, number, replace, rove, signed, thumb } from "../common/index.js";

export function movedOf({ state, onpick }) {
  const layer = choice("Layer", (value) => state.put({ layer: value }));
  const list = h("div", { class: "wb-comps", role: "listbox", "aria-label": "Components whose relevance changed most", onkeydown: (event) => rove(event, list) });
  const none = h("p", { class: "wb-quiet" });
  const node = h("section", { class: "wb-column" }, h("div", { class: "wb-column-head" }, h("h4", { class: "wb-h" }, "Relevance changed most"), layer.node), list, none);

  async function draw(maps, { isMine, isStill }) {
    const layers = state.get("layers") || [], own = state.get("layer"), given = maps.moved;
    node.hidden = !layers.length || !state.get("n_moved");
    layer.update([...(own ? [] : [{ value: "", text: given ? maps.layer : "choose …" }]), ...layers.map((name) => ({ value: name, text: name }))], own);
    layer.select.disabled = isStill;
    const fits = isMine && given && (!own || own === maps.layer);
    list.hidden = !given || (!fits && isStill);
    list.classList.toggle("wb-old", !fits);
    none.hidden = Boolean(fits);
    replace(none, isStill ? "Not in this page." : given ? "" : "\u00a0");
    if (!given) return;
    const image = await bitmap(given.sheet.jpeg);
    if ((state.get("maps") || {}).moved !== given) return;
    const [before, after, change] = [given.before, given.after, given.change].map((one) => array(one));
    const most = Math.max(...Array.from(change, Math.abs)) || 1, chosen = state.get("component");
    const at = given.components.indexOf(chosen);
    const focused = list.contains(document.activeElement) ? [...list.children].indexOf(document.activeElement) : -1;
    replace(list, given.components.map((id, i) => {
      const known = state.get("labels")?.[id];
      const label = `${id}${known ? ` · ${known}` : ""}: relevance ${number(before[i])} to ${number(after[i])}, change ${signed(change[i])}`;
      return h("div", { class: "wb-comp", role: "option", "data-id": id, "aria-selected": String(id === chosen), "aria-label": label, title: label, tabIndex: i === Math.max(0, at) ? 0 : -1, onclick: () => onpick(id) },
        thumb(image, given.sheet, i, "wb-comp-picture"), h("span", { class: "wb-comp-name" }, nameOf(id, state.get("labels"))),
        h("span", { class: "wb-comp-share" }, h("span", { class: "wb-quiet" }, `${number(before[i])} → ${number(after[i])}`), " ", h("b", {}, signed(change[i]))),
        h("span", { class: "wb-comp-bar" }, h("i", { class: change[i] < 0 ? "wb-fall" : "wb-rise", style: { width: `${(100 * Math.abs(change[i])) / most}%` } })));
    }));
    if (focused >= 0) list.children[Math.min(focused, list.children.length - 1)]?.focus();
  }

  function mark() {
    for (const one of list.children) one.setAttribute("aria-selected", String(one.dataset.id === state.get("component")));
  }
  return { node, draw, mark };
}
