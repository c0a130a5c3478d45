// The page's half of a selection: what widgets of one group share without asking the kernel.
//
// Each widget brings its own copy of this module, so the twins of a page live where all copies find them. A change made
// on the page reaches the other widgets at once and Python afterwards, with the page's name and a running number. Python
// says with everything it sends which number it has heard last; what it says of a field that the page has changed since
// is an echo of the past, and is dropped. Hovering never leaves the page, unless Python listens to it or the page is a
// frame among others.

const HOME = Symbol.for("workbench.twins.1");
const page = (globalThis[HOME] ||= { name: `page-${Math.random().toString(36).slice(2, 10)}`, twins: new Map(), count: 0 });

export const pageName = page.name;
export const isFramed = globalThis.top !== globalThis.self;
const EMPTY = { components: [], samples: [] };

class Twin {
  constructor() {
    this.values = new Map();
    this.changed = new Map(); // field -> number of the page's last change
    this.calls = new Set();
  }

  get(field) {
    return this.values.has(field) ? this.values.get(field) : EMPTY[field] ?? null;
  }

  // A change made on this page; returns its number, or 0 where nothing changes.
  put(field, value, origin) {
    if (same(this.get(field), value)) return 0;
    const number = ++page.count;
    this.changed.set(field, number);
    this.set(field, value, origin);
    return number;
  }

  // What Python says, having heard of the page's changes up to `heard`.
  take(field, value, heard, origin) {
    if ((this.changed.get(field) || 0) > heard) return;
    if (!same(this.get(field), value)) this.set(field, value, origin);
  }

  // What Python or another page points at: there is one pointer, so the last word holds.
  point(id) {
    if (!same(this.get("hover"), id)) this.set("hover", id, null);
  }

  set(field, value, origin) {
    this.values.set(field, value);
    for (const call of [...this.calls]) call(field, origin);
  }

  listen(call) {
    this.calls.add(call);
    return () => this.calls.delete(call);
  }
}

// The twin of a group on this page; the empty name is nobody's but the caller's.
export function twinOf(group) {
  if (!group) return new Twin();
  if (!page.twins.has(group)) page.twins.set(group, new Twin());
  return page.twins.get(group);
}

export function same(a, b) {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => item === b[i]);
  return JSON.stringify(a) === JSON.stringify(b);
}
