// The virtual grid: rows of tiles and headings of groups; only those in sight, and half a screen more, are elements.
import { eachFrame, h, replace, set, uid } from "../common/index.js";

const PAD = 5; // around a thumbnail
const GAP = 5; // between a thumbnail and its words
const BELOW = 7;

export class Grid {
  constructor({ thumbs, lines, reading, heading, onfocus, ondraw }) {
    Object.assign(this, { thumbs, lines, reading, heading, onfocus, ondraw });
    this.order = new Uint32Array(0);
    this.place = new Map();
    this.member = new Uint8Array(0);
    this.current = this.hover = -1;
    this.focus = 0;
    this.tile = 96;
    this.isActive = false;
    this.rows = new Map();
    this.pools = { tiles: [], heading: [] };
    this.id = uid("tile");
    this.em = h("div", { class: "wb-sg-em", "aria-hidden": "true" });
    this.space = h("div", { class: "wb-sg-space", role: "presentation" });
    this.box = h("div", { class: "wb-sg-box", hidden: true, "aria-hidden": "true" });
    this.top = h("div", { class: "wb-sg-sticky", hidden: true, "aria-hidden": "true" });
    this.space.append(this.box);
    this.node = h("div", { class: "wb-sg-scroll", role: "grid", tabIndex: 0, "aria-label": "Samples", "aria-multiselectable": "true", onscroll: () => this.draw() }, this.space);
    this.draw = eachFrame(() => this.paint());
  }

  // Layout -------------------------------------------------------------------------------------------------------------

  load(order, groups) {
    this.order = order;
    this.groups = groups;
    this.placed = null;
    this.layout();
  }

  // Where a sample stands in the order, -1 if it is not on show
  at(sample) {
    if (!this.placed || this.placed.length < this.n) {
      this.placed = new Int32Array(this.n).fill(-1);
      this.order.forEach((s, at) => (this.placed[s] = at));
    }
    return sample >= 0 && sample < this.n ? this.placed[sample] : -1;
  }

  layout() {
    const width = this.space.clientWidth, { tile } = this;
    this.line = Math.round((this.em.offsetHeight || 13) * 1.32);
    this.columns = Math.max(1, Math.floor(width / (tile + 2 * PAD)));
    this.cell = width ? Math.floor(width / this.columns) : tile + 2 * PAD;
    this.height = PAD + tile + GAP + this.nLines * this.line + BELOW;
    this.head = this.line + 14;
    const starts = [], tops = [];
    let y = 2;
    const { order, groups, columns } = this;
    this.sections = [];
    for (let from = 0; from < order.length; ) {
      let to = order.length;
      if (groups) {
        const code = groups.codes[order[from]];
        to = from;
        while (to < order.length && groups.codes[order[to]] === code) to++;
        this.sections.push({ row: starts.length, from, to, code, y });
        starts.push(-this.sections.length); // a heading
        tops.push(y);
        y += this.head;
      }
      for (let k = from; k < to; k += columns) {
        starts.push(k);
        tops.push(y);
        y += this.height;
      }
      from = to;
    }
    this.starts = Int32Array.from(starts);
    this.tops = Float64Array.from([...tops, y]);
    this.space.style.height = `${y + 4}px`;
    this.node.style.setProperty("--tile", `${tile}px`);
    this.node.style.setProperty("--cell", `${this.cell}px`);
    set(this.node, { "aria-rowcount": starts.length, "aria-colcount": this.columns });
    this.refresh();
  }

  refresh() {
    for (const at of [...this.rows.keys()]) this.release(at);
    this.draw();
  }

  // The last row that begins above y
  rowAt(y) {
    let low = 0, high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  endOf(row) {
    const next = row + 1 < this.starts.length && this.starts[row + 1] >= 0 ? this.starts[row + 1] : this.nextStart(row);
    return Math.min(this.starts[row] + this.columns, next);
  }

  nextStart(row) {
    if (row + 1 >= this.starts.length) return this.order.length;
    return this.sections[-this.starts[row + 1] - 1].from;
  }

  rowOf(at) {
    let low = 0, high = this.starts.length - 1;
    const first = (row) => (this.starts[row] >= 0 ? this.starts[row] : this.sections[-this.starts[row] - 1].from - 0.5);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (first(middle) <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // Drawing ------------------------------------------------------------------------------------------------------------

  paint() {
    const { node, starts } = this;
    const high = node.clientHeight, top = node.scrollTop;
    if (!high) return;
    if (!starts.length) {
      for (const at of [...this.rows.keys()]) this.release(at);
      return this.ondraw();
    }
    const first = this.rowAt(top - high / 2), last = this.rowAt(top + high * 1.5);
    for (const at of [...this.rows.keys()]) if (at < first || at > last) this.release(at);
    for (let at = first; at <= last; at++) if (!this.rows.has(at)) this.put(at);
    this.stick(top);
    const [from, to] = [this.placeAt(this.rowAt(top)), this.placeAt(this.rowAt(top + high) + 1)];
    const [low, end] = [this.placeAt(this.rowAt(top - high)), this.placeAt(this.rowAt(top + 2 * high) + 1)];
    this.thumbs.want(this.order, this.tile * (devicePixelRatio || 1) > 80 ? 96 : 64, from, to, low, end);
    this.ondraw();
  }

  placeAt(row) {
    if (row >= this.starts.length) return this.order.length;
    return this.starts[row] >= 0 ? this.starts[row] : this.sections[-this.starts[row] - 1].from;
  }

  // The heading of the group in view stays in sight.
  stick(top) {
    const { sections } = this;
    let low = 0, high = sections.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (sections[middle].y <= top) low = middle;
      else high = middle - 1;
    }
    const section = sections[low];
    this.top.hidden = !section || section.y >= top;
    if (!this.top.hidden && this.stuck !== section) replace(this.top, this.heading(section));
    this.stuck = this.top.hidden ? null : section;
  }

  release(at) {
    const row = this.rows.get(at);
    this.rows.delete(at);
    row.node.hidden = true;
    this.pools[row.kind].push(row);
  }

  put(at) {
    const kind = this.starts[at] < 0 ? "heading" : "tiles";
    const row = this.pools[kind].pop() || this.make(kind);
    row.node.hidden = false;
    row.node.style.transform = `translateY(${this.tops[at]}px)`;
    set(row.node, { "aria-rowindex": at + 1 });
    if (kind === "heading") {
      const section = this.sections[-this.starts[at] - 1];
      row.node.style.height = `${this.head}px`;
      replace(row.cell, this.heading(section));
    } else this.fill(row, at);
    this.rows.set(at, row);
  }

  make(kind) {
    const node = h("div", { class: "wb-sg-row", role: "row" });
    const row = { kind, node };
    if (kind === "heading") node.append((row.cell = h("div", { class: "wb-sg-heading", role: "rowheader" })));
    else {
      row.canvas = h("canvas", { class: "wb-sg-pictures", "aria-hidden": "true" });
      row.cells = [];
      node.append(row.canvas);
    }
    this.space.append(node);
    return row;
  }

  fill(row, at) {
    const from = this.starts[at], to = this.endOf(at), { cells } = row;
    row.from = from;
    row.node.style.height = `${this.height}px`;
    while (cells.length < to - from) {
      const cell = h("div", { class: "wb-sg-cell", role: "gridcell" }, h("div", { class: "wb-sg-picture" }));
      cells.push(cell);
      row.node.append(cell);
    }
    cells.forEach((cell, k) => {
      const isUsed = k < to - from;
      if (cell.hidden === isUsed) cell.hidden = !isUsed;
      if (!isUsed) return;
      const sample = this.order[from + k], lines = this.lines(sample);
      cell.id = `${this.id}-${from + k}`;
      cell.dataset.at = from + k;
      cell.setAttribute("aria-label", this.reading(sample));
      cell.setAttribute("aria-colindex", k + 1);
      while (cell.children.length - 1 < lines.length) cell.append(h("div", { class: "wb-sg-line" }));
      while (cell.children.length - 1 > lines.length) cell.lastChild.remove();
      lines.forEach(({ text, kind = "" }, l) => {
        const line = cell.children[l + 1];
        if (line.textContent !== text) line.textContent = text;
        if (line.dataset.kind !== kind) line.dataset.kind = kind;
      });
    });
    this.mark(row);
    this.picture(row);
  }

  picture(row) {
    const { canvas, from, cells } = row, ratio = devicePixelRatio || 1, { tile, cell, columns } = this;
    const [width, height] = [Math.round(columns * cell * ratio), Math.round(tile * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      Object.assign(canvas.style, { width: `${columns * cell}px`, height: `${tile}px` });
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, columns * cell, tile);
    row.isWhole = true;
    for (let k = 0; k < cells.length && !cells[k].hidden; k++) {
      const sample = this.order[from + k], isDrawn = this.thumbs.draw(ctx, sample, k * cell + PAD, 0, tile);
      const state = isDrawn ? "there" : this.thumbs.failed.has(sample) ? "missing" : "waiting";
      if (cells[k].dataset.picture !== state) cells[k].dataset.picture = state;
      row.isWhole &&= isDrawn;
    }
  }

  // Thumbnails have come.
  pictures() {
    for (const row of this.rows.values()) if (row.kind === "tiles" && !row.isWhole) this.picture(row);
    this.draw();
  }

  mark(row) {
    for (let k = 0; k < row.cells.length && !row.cells[k].hidden; k++) {
      const at = row.from + k, sample = this.order[at], cell = row.cells[k];
      const isMember = Boolean(this.member[sample]), isCurrent = sample === this.current;
      const looks = `wb-sg-cell${isMember ? " wb-member" : ""}${isCurrent ? " wb-current" : ""}${sample === this.hover ? " wb-hover" : ""}${this.isActive && at === this.focus ? " wb-focus" : ""}`;
      if (cell.className !== looks) cell.className = looks;
      const chosen = String(isMember || isCurrent);
      if (cell.getAttribute("aria-selected") !== chosen) cell.setAttribute("aria-selected", chosen);
    }
  }

  marks() {
    for (const row of this.rows.values()) if (row.kind === "tiles") this.mark(row);
    const row = this.order.length ? this.rows.get(this.rowOf(this.focus)) : null;
    set(this.node, { "aria-activedescendant": row?.kind === "tiles" ? `${this.id}-${this.focus}` : null });
  }

  // Moving about -------------------------------------------------------------------------------------------------------

  reveal(at, { middle = false } = {}) {
    if (at < 0 || at >= this.order.length) return;
    const row = this.rowOf(at), { node } = this, top = this.tops[row], below = top + this.height;
    const above = this.groups ? this.head : 0;
    if (top - above < node.scrollTop) node.scrollTop = middle ? top - node.clientHeight / 2 + this.height / 2 : top - above - 2;
    else if (below > node.scrollTop + node.clientHeight) node.scrollTop = middle ? top - node.clientHeight / 2 + this.height / 2 : below - node.clientHeight + 2;
  }

  isInSight(at) {
    if (at < 0) return false;
    const row = this.rowOf(at), { node } = this;
    return this.tops[row] + this.height > node.scrollTop && this.tops[row] < node.scrollTop + node.clientHeight;
  }

  // The place above or below, in the nearest column
  beside(at, way) {
    const row = this.rowOf(at), column = at - this.starts[row];
    let next = row + way;
    while (next >= 0 && next < this.starts.length && this.starts[next] < 0) next += way;
    if (next < 0 || next >= this.starts.length) return at;
    return Math.min(this.starts[next] + column, this.endOf(next) - 1);
  }

  inRow(at) {
    const row = this.rowOf(at);
    return [this.starts[row], this.endOf(row) - 1];
  }

  get perScreen() {
    return Math.max(1, Math.floor(this.node.clientHeight / this.height) - 1);
  }

  // Places within a rectangle of the space
  within({ left, top, right, bottom }) {
    const found = [];
    if (!this.starts.length) return found;
    for (let row = this.rowAt(top); row < this.starts.length && this.tops[row] < bottom; row++) {
      if (this.starts[row] < 0 || this.tops[row] + this.height - BELOW < top) continue;
      for (let at = this.starts[row], k = 0; at < this.endOf(row); at++, k++) {
        if (k * this.cell + PAD + this.tile > left && k * this.cell + PAD < right) found.push(at);
      }
    }
    return found;
  }
}
