// Beside the map: the points as a list, the neighbours of the selected one, and the groups.
import { css, grouped, h, number, replace, set, uid } from "../common/index.js";

const NAMES = [["points", "Points"], ["near", "Neighbours"], ["groups", "Groups"]];

export class Panels {
  constructor({ list, order, onopen }) {
    this.onopen = onopen;
    this.open = "points";
    this.tabs = NAMES.map(([name, text], i) => h("button", { type: "button", class: "wb-tab", role: "tab", id: uid("tab"), onclick: () => this.show(name), onkeydown: (event) => this.move(event, i) }, text));
    this.pages = NAMES.map(([name], i) => h("div", { class: "wb-panel", role: "tabpanel", id: uid("panel"), "aria-labelledby": this.tabs[i].id, "data-panel": name }));
    this.tabs.forEach((tab, i) => set(tab, { "aria-controls": this.pages[i].id }));
    this.count = h("div", { class: "wb-count" });
    this.pages[0].append(h("div", { class: "wb-aside-head" }, this.count, order), list.node);
    this.node = h("aside", { class: "wb-aside", "aria-label": "Points, neighbours and groups" }, h("div", { class: "wb-tabs", role: "tablist", "aria-label": "Beside the map" }, this.tabs), this.pages);
    this.show("points");
  }

  show(name) {
    this.open = name;
    NAMES.forEach(([one], i) => {
      set(this.tabs[i], { "aria-selected": String(one === name) });
      this.tabs[i].tabIndex = one === name ? 0 : -1;
      this.pages[i].hidden = one !== name;
    });
    this.onopen(name);
  }

  move(event, i) {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: NAMES.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + NAMES.length) % NAMES.length;
    this.show(NAMES[next][0]);
    this.tabs[next].focus();
  }

  // rows: [{row, name, detail, distance}], or why there are none
  near(title, rows, why, { onpick, onhover }) {
    const most = Math.max(...rows.map((one) => one.distance), 1e-9);
    replace(this.pages[1], h("p", { class: "wb-panel-head" }, title),
      rows.length
        ? h("ol", { class: "wb-near" }, rows.map((one) => h("li", {},
            h("button", { type: "button", class: "wb-near-row", "aria-label": `${one.name}, ${one.detail}, distance ${number(one.distance)}`, onclick: () => onpick(one.row), onpointerenter: () => onhover(one.row), onpointerleave: () => onhover(-1), onfocus: () => onhover(one.row), onblur: () => onhover(-1) },
              h("span", { class: "wb-near-name" }, one.name), h("span", { class: "wb-near-bar" }, h("i", { style: { width: `${(100 * one.distance) / most}%` } })), h("span", { class: "wb-near-value" }, number(one.distance))))))
        : h("p", { class: "wb-none" }, why));
  }

  // groups: [{name, count, chosen, colour, onpick}]
  groups(title, groups) {
    replace(this.pages[2], h("p", { class: "wb-panel-head" }, title),
      groups.length
        ? h("ul", { class: "wb-near" }, groups.map((one) => h("li", {},
            h("button", { type: "button", class: "wb-near-row", "aria-label": `${one.name}: ${grouped(one.count)}${one.chosen ? `, ${grouped(one.chosen)} selected` : ""}. Select them`, "aria-pressed": String(one.chosen === one.count), onclick: one.onpick },
              h("span", { class: "wb-near-name" }, one.colour ? h("i", { class: "wb-dotted", style: { background: css(one.colour) } }) : null, one.name), h("span", { class: "wb-near-value" }, one.chosen && one.chosen < one.count ? `${grouped(one.chosen)} of ${grouped(one.count)}` : grouped(one.count))))))
        : h("p", { class: "wb-none" }, "There are no groups on this map."));
  }
}
