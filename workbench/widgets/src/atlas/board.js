// The board: a grid of cells on a canvas, its view, what is drawn at which zoom, and pointing at it.
import { css, eachFrame } from "../common/index.js";

export const DOTS_BELOW = 24; // pixels per cell, from where on pictures tell more than dots
export const CARDS_FROM = 104;
const MOST = 260;
const CAPTION = 34;

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

export class Board {
  constructor(canvas, { tiles, onview }) {
    this.canvas = canvas;
    this.ctx = canvas.getContext("2d");
    this.tiles = tiles;
    this.onview = onview;
    this.width = this.height = 0;
    this.view = { x: 0, y: 0, s: 0 };
    this.isFitted = true;
    this.level = "auto";
    this.n = 0;
    this.columns = this.rows = 1;
    this.selected = -1;
    this.focus = -1;
    this.hover = -1;
    this.members = new Set();
    this.shown = null; // Uint8Array: 1 where not dimmed
    this.scale = null;
    this.values = null;
    this.caption = () => "";
    this.names = [];
    this.inks = {};
    this.trail = null; // the box that is being drawn, as its two corners
    this.draw = eachFrame(() => this.paint());
  }

  load({ cells, grid, n, names }) {
    [this.columns, this.rows] = grid;
    this.n = n;
    this.cells = cells;
    this.at = new Int32Array(this.columns * this.rows).fill(-1);
    for (let i = 0; i < n; i++) this.at[cells[2 * i + 1] * this.columns + cells[2 * i]] = i;
    this.names = names;
    this.focus = this.hover = -1;
    this.fit();
  }

  // The view -----------------------------------------------------------------------------------------------------------

  resize(width, height) {
    if (width === this.width && height === this.height) return;
    const middle = this.view.s ? [this.view.x + this.width / 2 / this.view.s, this.view.y + this.height / 2 / this.view.s] : null;
    [this.width, this.height] = [width, height];
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (this.isFitted || !middle) this.fit();
    else this.look({ x: middle[0] - width / 2 / this.view.s, y: middle[1] - height / 2 / this.view.s });
  }

  get fitting() {
    return Math.min((this.width - 16) / this.columns, (this.height - 16) / this.rows, MOST);
  }

  fit() {
    if (!this.width || !this.n) return;
    const s = this.fitting;
    this.look({ s, x: this.columns / 2 - this.width / 2 / s, y: this.rows / 2 - this.height / 2 / s });
    this.isFitted = true;
  }

  look({ x = this.view.x, y = this.view.y, s = this.view.s }) {
    s = clamp(s, this.fitting * 0.9, MOST);
    const [across, down] = [this.width / s, this.height / s];
    // The middle of the screen stays on the board.
    this.view = { s, x: clamp(x, -across / 2, this.columns - across / 2), y: clamp(y, -down / 2, this.rows - down / 2) };
    this.isFitted = false;
    this.onview();
    this.draw();
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const { x, y, s } = this.view;
    const next = clamp(s * factor, this.fitting * 0.9, MOST);
    this.look({ s: next, x: x + px / s - px / next, y: y + py / s - py / next });
  }

  // By a key, about a cell that is in sight.
  zoomAt(factor, i) {
    if (i < 0) return this.zoom(factor);
    const [x, y] = this.cell(i), px = (x + 0.5 - this.view.x) * this.view.s, py = (y + 0.5 - this.view.y) * this.view.s;
    if (px >= 0 && py >= 0 && px <= this.width && py <= this.height) this.zoom(factor, px, py);
    else this.zoom(factor);
  }

  pan(dx, dy) {
    this.look({ x: this.view.x - dx / this.view.s, y: this.view.y - dy / this.view.s });
  }

  glide(to) {
    cancelAnimationFrame(this.gliding);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.look(to);
    const from = { ...this.view }, start = performance.now();
    const step = (now) => {
      const t = Math.min(1, (now - start) / 180), ease = t * (2 - t);
      const s = from.s * (to.s / from.s) ** ease;
      // Position follows the scale, so that the motion is straight on the screen.
      const share = to.s === from.s ? ease : (1 / s - 1 / from.s) / (1 / to.s - 1 / from.s);
      this.look({ s, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share });
      if (t < 1) this.gliding = requestAnimationFrame(step);
      else if (to.fitted) this.isFitted = true;
    };
    this.gliding = requestAnimationFrame(step);
  }

  glideFit() {
    const s = this.fitting;
    this.glide({ s, x: this.columns / 2 - this.width / 2 / s, y: this.rows / 2 - this.height / 2 / s, fitted: true });
  }

  glideTo(i, s = this.view.s) {
    const [x, y] = this.cell(i);
    this.glide({ s: clamp(s, this.fitting, MOST), x: x + 0.5 - this.width / 2 / clamp(s, this.fitting, MOST), y: y + 0.5 - this.height / 2 / clamp(s, this.fitting, MOST) });
  }

  // Bring a cell into view, moving as little as needed.
  reveal(i) {
    const [x, y] = this.cell(i), { s } = this.view;
    const [px, py] = [(x - this.view.x) * s, (y - this.view.y) * s];
    if (px >= 0 && py >= 0 && px + s <= this.width && py + s <= this.height) return this.draw();
    this.glideTo(i);
  }

  cell(i) {
    return [this.cells[2 * i], this.cells[2 * i + 1]];
  }

  hit(px, py) {
    const column = Math.floor(this.view.x + px / this.view.s), row = Math.floor(this.view.y + py / this.view.s);
    if (column < 0 || row < 0 || column >= this.columns || row >= this.rows) return -1;
    return this.at[row * this.columns + column];
  }

  within({ path: [[x0, y0], [x1, y1]] }) {
    const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)].map((p) => this.view.x + p / this.view.s);
    const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)].map((p) => this.view.y + p / this.view.s);
    const found = [];
    this.each(Math.floor(left), Math.floor(top), Math.floor(right), Math.floor(bottom), (i) => {
      if (!this.shown || this.shown[i]) found.push(i);
    });
    return found;
  }

  // The next component in a direction: near, and rather straight ahead than aside.
  next(i, dx, dy) {
    const [x, y] = this.cell(i);
    let best = -1, least = Infinity;
    for (let k = 0; k < this.n; k++) {
      if (k === i || (this.shown && !this.shown[k])) continue;
      const ahead = (this.cells[2 * k] - x) * dx + (this.cells[2 * k + 1] - y) * dy;
      const aside = Math.abs((this.cells[2 * k] - x) * dy) + Math.abs((this.cells[2 * k + 1] - y) * dx);
      if (ahead <= 0) continue;
      const cost = ahead + 2.5 * aside;
      if (cost < least) [least, best] = [cost, k];
    }
    return best;
  }

  nearest(px = this.width / 2, py = this.height / 2) {
    const x = this.view.x + px / this.view.s - 0.5, y = this.view.y + py / this.view.s - 0.5;
    let best = -1, least = Infinity;
    for (let k = 0; k < this.n; k++) {
      if (this.shown && !this.shown[k]) continue;
      const d = (this.cells[2 * k] - x) ** 2 + (this.cells[2 * k + 1] - y) ** 2;
      if (d < least) [least, best] = [d, k];
    }
    return best;
  }

  get visible() {
    const { x, y, s } = this.view;
    return {
      left: clamp(Math.floor(x), 0, this.columns - 1), top: clamp(Math.floor(y), 0, this.rows - 1),
      right: clamp(Math.floor(x + this.width / s), 0, this.columns - 1), bottom: clamp(Math.floor(y + this.height / s), 0, this.rows - 1),
    };
  }

  each(left, top, right, bottom, call) {
    left = clamp(left, 0, this.columns - 1);
    right = clamp(right, 0, this.columns - 1);
    top = clamp(top, 0, this.rows - 1);
    bottom = clamp(bottom, 0, this.rows - 1);
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const i = this.at[row * this.columns + column];
        if (i >= 0) call(i, column, row);
      }
    }
  }

  get mode() {
    if (this.level !== "auto") return this.level;
    return this.view.s < DOTS_BELOW ? "dots" : this.view.s < CARDS_FROM ? "tiles" : "cards";
  }

  // Drawing ------------------------------------------------------------------------------------------------------------

  paint() {
    const { ctx, view: { x, y, s } } = this;
    const ratio = devicePixelRatio || 1;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    if (!this.n || !this.scale) return;
    const mode = this.mode, { left, top, right, bottom } = this.visible;
    if (mode !== "dots") this.tiles.want(this.visible, s * ratio > 84 ? 128 : 64);
    const cards = [];
    const groups = new Map();
    this.each(left, top, right, bottom, (i, column, row) => {
      const dim = this.shown && !this.shown[i];
      if (mode === "cards" && !dim) return cards.push([i, column, row]);
      const bucket = this.scale.bucket(this.values[i]);
      const key = dim ? "dim" : bucket;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(i, (column - x) * s, (row - y) * s);
    });
    const inset = mode === "dots" ? Math.max(0.5, s * 0.08) : Math.max(0.75, s * 0.02);
    const size = s - 2 * inset, radius = size > 5 ? Math.min(size * 0.16, 6) : 0;
    ctx.strokeStyle = this.inks.rim;
    ctx.lineWidth = 1;
    for (const [key, list] of groups) {
      const rgb = key === "dim" ? null : this.scale.colour(key);
      ctx.fillStyle = rgb ? css(rgb) : this.inks.line;
      ctx.beginPath();
      for (let k = 0; k < list.length; k += 3) {
        const [px, py] = [list[k + 1] + inset, list[k + 2] + inset];
        if (key === "dim") ctx.rect(px + size * 0.36, py + size * 0.36, size * 0.28, size * 0.28);
        else if (radius) ctx.roundRect(px, py, size, size, radius);
        else ctx.rect(px, py, size, size);
      }
      ctx.fill();
      if (size > 6 && key !== "dim") ctx.stroke(); // the palest would be lost on the ground otherwise
      if (mode === "tiles" && key !== "dim") {
        const frame = clamp(s * 0.035, 1.5, 4);
        for (let k = 0; k < list.length; k += 3) {
          const side = size - 2 * frame;
          this.tiles.draw(ctx, list[k], list[k + 1] + inset + frame, list[k + 2] + inset + frame, side, side);
        }
      }
    }
    if (this.scale.kind === "two-sided" && size > 8) this.paintBelow(groups, inset, size);
    for (const [i, column, row] of cards) this.paintCard(i, (column - x) * s, (row - y) * s, s);
    this.paintMarks(mode);
    if (s < CARDS_FROM) this.paintNames(clamp((CARDS_FROM - s) / 12, 0, 1));
    if (this.trail) this.paintTrail();
  }

  // A stroke across the corner of what is below zero: sign is not told by colour alone.
  paintBelow(groups, inset, size) {
    const { ctx, inks } = this, side = clamp(size * 0.34, 4, 14);
    const paths = [[inks.bg, 3.5], [inks.ink, 1.5]];
    for (const [ink, width] of paths) {
      ctx.strokeStyle = ink;
      ctx.lineWidth = width;
      ctx.beginPath();
      for (const [key, list] of groups) {
        if (key === "dim") continue;
        for (let k = 0; k < list.length; k += 3) {
          if (!(this.values[list[k]] < 0)) continue;
          const [left, top] = [list[k + 1] + inset + 1, list[k + 2] + inset + 1];
          ctx.moveTo(left, top + side);
          ctx.lineTo(left + side, top);
        }
      }
      ctx.stroke();
    }
    ctx.strokeStyle = inks.rim;
    ctx.lineWidth = 1;
  }

  paintCard(i, px, py, s) {
    const { ctx, inks } = this, gap = Math.max(2, s * 0.025), side = s - 2 * gap;
    const pictureHeight = side - CAPTION;
    ctx.fillStyle = inks.bg;
    ctx.strokeStyle = inks.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.roundRect(px + gap + 0.5, py + gap + 0.5, side - 1, side - 1, 6);
    ctx.fill();
    ctx.stroke();
    const colour = this.scale.of(this.values[i]);
    const edge = Math.max(4, s * 0.03), width = side - 2 * edge, height = Math.min(width, pictureHeight - edge);
    const left = px + gap + edge;
    if (!this.tiles.draw(ctx, i, left, py + gap + edge, width, height)) {
      ctx.fillStyle = inks.soft;
      ctx.fillRect(left, py + gap + edge, width, height);
    }
    const base = py + gap + side;
    ctx.fillStyle = colour ? css(colour) : inks.line;
    ctx.fillRect(px + gap + edge, base - CAPTION + 4, 4, CAPTION - 10);
    const [name, detail] = this.caption(i);
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    ctx.fillStyle = inks.ink;
    ctx.font = `600 12px ${inks.font}`;
    const room = side - 2 * edge - 10;
    ctx.fillText(this.clip(name, room), px + gap + edge + 10, base - CAPTION + 15);
    ctx.fillStyle = inks.ink2;
    ctx.font = `11px ${inks.font}`;
    ctx.fillText(this.clip(detail, room), px + gap + edge + 10, base - CAPTION + 28);
  }

  clip(text, room) {
    if (this.ctx.measureText(text).width <= room) return text;
    let end = text.length;
    while (end > 1 && this.ctx.measureText(`${text.slice(0, end)}…`).width > room) end--;
    return `${text.slice(0, end)}…`;
  }

  // Outlines in two tones, so that they stand out on any picture.
  outline(i, inner, outer, width, pad) {
    const { ctx, view: { x, y, s } } = this, [column, row] = this.cell(i);
    const px = (column - x) * s - pad, py = (row - y) * s - pad, side = s + 2 * pad;
    ctx.beginPath();
    ctx.roundRect(px, py, side, side, Math.min(7, side * 0.2));
    ctx.lineWidth = width + 2.5;
    ctx.strokeStyle = outer;
    ctx.stroke();
    ctx.lineWidth = width;
    ctx.strokeStyle = inner;
    ctx.stroke();
  }

  paintMarks(mode) {
    const { inks, view: { s } } = this;
    const pad = s < 14 ? 2.5 : 0.5;
    for (const i of this.members) if (i < this.n) this.outline(i, inks.mark, inks.bg, 1.75, pad - 0.5);
    if (this.hover >= 0) this.outline(this.hover, inks.ink2, inks.bg, 1.5, pad);
    if (this.focus >= 0 && this.canvas.matches(":focus-visible")) this.outline(this.focus, inks.accent, inks.bg, 1.5, pad + 3);
    if (this.selected >= 0) this.outline(this.selected, inks.accent, inks.bg, s < 14 ? 2.5 : 3, pad + 1);
  }

  // Names of the clusters, largest first; one that would cover another is left out until there is room.
  paintNames(alpha) {
    const { ctx, inks, view: { x, y, s } } = this, taken = [];
    const most = Math.max(4, Math.round((this.width * this.height) / 34_000));
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    for (const { name, at, weight } of this.names) {
      const size = Math.round(clamp(10.5 + 2.5 * weight, 11, 13));
      ctx.font = `600 ${size}px ${inks.font}`;
      const text = this.clip(name, 230), half = ctx.measureText(text).width / 2 + 5;
      const px = clamp((at[0] - x) * s, half + 2, this.width - half - 2), py = (at[1] - y) * s;
      if (py < -10 || py > this.height + 10 || (at[0] - x) * s < -half || (at[0] - x) * s > this.width + half) continue;
      const area = [px - half, py - size * 0.8, px + half, py + size * 0.8];
      if (taken.some((t) => area[0] < t[2] && area[2] > t[0] && area[1] < t[3] && area[3] > t[1])) continue;
      taken.push(area);
      if (taken.length > most) break;
      ctx.globalAlpha = alpha * 0.86;
      ctx.fillStyle = inks.bg;
      ctx.beginPath();
      ctx.roundRect(area[0], area[1], area[2] - area[0], area[3] - area[1], 5);
      ctx.fill();
      ctx.globalAlpha = alpha;
      ctx.fillStyle = inks.ink;
      ctx.fillText(text, px, py + 0.5);
    }
    ctx.globalAlpha = 1;
  }

  paintTrail() {
    const { ctx, inks, trail: { path: [[x0, y0], [x1, y1]], subtracts } } = this;
    ctx.beginPath();
    ctx.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    ctx.fillStyle = ctx.strokeStyle = inks.accent;
    ctx.globalAlpha = 0.1;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.lineWidth = 1.5;
    ctx.setLineDash(subtracts ? [3, 4] : []);
    ctx.stroke();
    ctx.setLineDash([]);
  }
}
