// The methods side by side: which is on show, how well it tells held-out samples, how far refits agree.
import { h, number, replace } from "../common/index.js";

export class Methods {
  constructor({ frame, shown, isStill }) {
    Object.assign(this, { frame, state: frame.state, shown, isStill });
    this.chips = h("div", { class: "wb-chips", role: "group", "aria-label": "Methods side by side" });
    this.table = h("div", { class: "wb-scroll", tabIndex: -1 });
    this.node = h("div", {}, this.chips, this.table);
  }

  text(method) {
    return this.state.get("options")?.methods?.find((one) => one.name === method)?.text || method;
  }

  draw(row) {
    this.drawChips();
    const found = this.state.get("found") || {}, planted = found.planted || [];
    const severalConcepts = new Set((found.rows || []).map((one) => one.concept).filter(Boolean)).size > 1;
    const focused = document.activeElement?.dataset?.direction;
    const head = ["Direction", "Held-out area", "Spread of refits", ...planted.map((name) => `Planted ${name}`), "Warnings"];
    const titles = { "Held-out area": "Share of pairs, one sample with the concept and one without, in the right order; samples that the refit had not seen; with standard error", "Spread of refits": "Mean angle between refits on bootstrap samples, and its cosine" };
    const lines = (found.rows || []).map((one) => {
      const name = `${this.text(one.method)}${severalConcepts && one.concept ? `: ${one.concept}` : ""}`;
      if (one.error) {
        return h("tr", { class: "wb-method-failed" }, h("th", { scope: "row" }, name), h("td", { colSpan: head.length - 1 }, one.error, one.hint ? h("span", { class: "wb-hint" }, ` ${one.hint}`) : null));
      }
      const on = row?.direction === one.direction, label = this.state.get("labels")?.[one.direction];
      const press = h("button", { type: "button", class: "wb-method", role: "radio", "aria-checked": String(on), "data-direction": one.direction, title: one.direction, tabIndex: on ? 0 : -1, onclick: () => this.show(one) }, h("span", { class: "wb-radio", "aria-hidden": "true" }), label ? `${name} · ${label}` : name);
      return h("tr", { class: on ? "wb-on" : "", onclick: (event) => event.target.closest("button") || this.show(one) }, h("th", { scope: "row" }, press),
        h("td", {}, meter(one.auc), one.auc === null ? "–" : `${one.auc.toFixed(3)}${one.auc_error === null ? "" : ` ± ${one.auc_error.toFixed(3)}`}`),
        h("td", {}, one.stability === null ? "–" : `${degrees(one.stability)} (cosine ${one.stability.toFixed(2)})`),
        planted.map((name) => h("td", {}, number(one.planted?.[name]))),
        h("td", {}, one.warnings.length ? h("span", { class: "wb-warn" }, `⚠ ${one.warnings.length}`) : "none"));
    });
    const busy = ["waiting", "running"].includes(this.state.get("status"));
    const again = () => (this.isStill() ? null : h("button", { type: "button", class: "wb-button wb-small", onclick: () => this.frame.ask("again", {}) }, "Fit it"));
    for (const name of found.lacking || []) lines.push(h("tr", { class: "wb-method-waits" }, h("th", { scope: "row" }, name), h("td", { colSpan: head.length - 1 }, busy ? "on its way" : ["not fitted ", again()])));
    replace(this.table, h("table", { class: "wb-table wb-methods", role: "table", onkeydown: (event) => this.move(event) }, h("caption", { class: "wb-live" }, "Directions by method"),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col", title: titles[text] }, text)))), h("tbody", {}, lines)));
    if (focused) this.table.querySelector(`[data-direction="${CSS.escape(focused)}"]`)?.focus();
  }

  drawChips() {
    const all = this.state.get("options")?.methods || [], own = this.state.get("methods") || [];
    this.chips.hidden = this.isStill() || !all.length;
    const key = JSON.stringify([all.map((one) => one.name), own]);
    if (key === this.key) return;
    this.key = key;
    const at = [...this.chips.children].indexOf(document.activeElement);
    replace(this.chips, all.map(({ name, text }) => {
      const on = own.includes(name);
      return h("button", { type: "button", class: "wb-chip", "aria-pressed": String(on), onclick: () => this.toggle(name) }, text);
    }));
    if (at >= 0) this.chips.children[at]?.focus();
  }

  toggle(name) {
    const own = this.state.get("methods"), on = own.includes(name);
    if (on && own.length === 1) return this.frame.say("One method at least stays");
    this.state.put({ methods: on ? own.filter((one) => one !== name) : [...own, name] });
  }

  show(row) {
    if (!this.state.put({ direction: row.direction })) return;
    this.frame.say(`${this.text(row.method)}: held-out area ${number(row.auc)}, spread ${row.stability === null ? "unknown" : degrees(row.stability)}`);
  }

  move(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const all = [...this.table.querySelectorAll(".wb-method")], at = all.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    const next = all[(at + step + all.length) % all.length];
    next.focus();
    next.click();
  }
}

export const degrees = (cosine) => `${Math.round((Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI)}°`;

// From chance, one half, to all
function meter(value) {
  const share = value === null ? 0 : Math.max(0, Math.min(1, (value - 0.5) * 2));
  return h("span", { class: "wb-meter", "aria-hidden": "true" }, h("i", { style: { width: `${100 * share}%` } }));
}
