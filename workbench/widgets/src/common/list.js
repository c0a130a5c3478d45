// The list beside the board: the same components in order, as text. Only the rows in sight are elements.
import { eachFrame, h, set, uid } from "./index.js";

const ROW = 44;

export class List {
  constructor({ onselect, onopen, onhover, row, label = "Components" }) {
    Object.assign(this, { onselect, onopen, onhover, row });
    this.items = [];
    this.selected = -1;
    this.members = new Set();
    this.rows = new Map();
    this.id = uid("row");
    this.space = h("div", { class: "wb-rows", role: "presentation" });
    this.node = h("div", { class: "wb-list-scroll", role: "listbox", tabIndex: 0, "aria-label": label, "aria-multiselectable": "true", onkeydown: (event) => this.key(event), onscroll: () => this.draw() }, this.space);
    this.draw = eachFrame(() => this.paint());
  }

  load(items) {
    this.items = items;
    this.place = new Map(items.map((item, at) => [item, at]));
    this.space.style.height = `${items.length * ROW}px`;
    this.refresh();
  }

  refresh() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.draw();
  }

  select(i, { scroll = true } = {}) {
    this.selected = i;
    const at = this.place?.get(i);
    if (scroll && at !== undefined && this.node.clientHeight) {
      const top = at * ROW, { scrollTop, clientHeight } = this.node;
      if (top < scrollTop || top + ROW > scrollTop + clientHeight) this.node.scrollTop = top - clientHeight / 2 + ROW / 2;
    }
    this.mark();
  }

  mark() {
    for (const [at, row] of this.rows) {
      const i = this.items[at], on = i === this.selected;
      set(row, { "aria-selected": String(on || this.members.has(i)) });
      row.classList.toggle("wb-current", on);
    }
    const at = this.place?.get(this.selected);
    set(this.node, { "aria-activedescendant": at !== undefined && this.rows.has(at) ? `${this.id}-${at}` : null });
  }

  get inSight() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / ROW) - 4);
    const last = Math.min(this.items.length, Math.ceil((this.node.scrollTop + this.node.clientHeight) / ROW) + 4);
    return [first, last];
  }

  paint() {
    const [first, last] = this.inSight;
    for (const [at, row] of this.rows) {
      if (at < first || at >= last) {
        row.remove();
        this.rows.delete(at);
      }
    }
    for (let at = first; at < last; at++) {
      if (this.rows.has(at)) continue;
      const i = this.items[at];
      const row = h("div", {
        class: "wb-row", role: "option", id: `${this.id}-${at}`, "aria-posinset": at + 1, "aria-setsize": this.items.length,
        style: { top: `${at * ROW}px` },
        onclick: (event) => (this.node.focus({ preventScroll: true }), this.onselect(i, event)),
        ondblclick: () => this.onopen?.(i),
        onpointerenter: () => this.onhover(i), onpointerleave: () => this.onhover(-1),
      }, this.row(i));
      this.rows.set(at, row);
      this.space.append(row);
    }
    this.mark();
    this.onsight?.(this.items.slice(first, last));
  }

  key(event) {
    if (event.key === "Enter" && this.place?.has(this.selected)) {
      event.preventDefault();
      return this.onopen?.(this.selected, false);
    }
    const at = this.place?.get(this.selected) ?? -1, page = Math.max(1, Math.floor(this.node.clientHeight / ROW) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.items.length - 1 }[event.key];
    if (to === undefined || !this.items.length) return;
    event.preventDefault();
    const next = this.items[Math.max(0, Math.min(this.items.length - 1, to))];
    this.onselect(next, event);
    this.select(next);
  }
}
