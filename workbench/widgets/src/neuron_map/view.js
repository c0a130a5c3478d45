// The view of a map, and what lies where: moving, zooming, pointing, and what a drawn shape holds.
import { SIZES } from "./data.js";

const PAD = 22; // around all points; below them there is also room for the controls
const BELOW = 46;
const NEAREST = 400; // times the scale at which all is shown

export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// What draws is left to who extends it: `draw` for marks, `drawAll` for points too.
export class View {
  constructor(above, { data, onview }) {
    Object.assign(this, { above, data, onview });
    this.width = this.height = 0;
    this.view = { x: 0.5, y: 0.5, s: 0 };
    this.bounds = [0, 0, 1, 1];
    this.isFitted = true;
    this.isGiven = false;
    this.paint = { codes: null, colours: [], steps: null, symbols: null };
    this.members = null; // Uint8Array, 1 for each member of the set
    this.nMembers = 0;
    this.selected = this.focus = this.hover = -1;
  }

  // Points ---------------------------------------------------------------------------------------------------------------

  load({ keepView = false } = {}) {
    const { data } = this, { position, n } = data;
    let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < 2 * n; i += 2) {
      if (position[i] < left) left = position[i];
      if (position[i] > right) right = position[i];
      if (position[i + 1] < bottom) bottom = position[i + 1];
      if (position[i + 1] > top) top = position[i + 1];
    }
    this.bounds = n ? [left, bottom, right, top] : [0, 0, 1, 1];
    this.place();
    this.members = new Uint8Array(n);
    this.nMembers = 0;
    this.selected = this.focus = this.hover = -1;
    if (!keepView || this.isFitted) {
      this.isFitted = true;
      this.fit();
    }
  }

  // A grid of lists of points, so that what lies at a place is found at once.
  place() {
    const { position, n } = this.data, [left, bottom, right, top] = this.bounds;
    const side = (this.side = clamp(Math.round(Math.sqrt(n / 3)), 1, 512));
    this.unit = [(right - left || 1) / side, (top - bottom || 1) / side];
    this.start = new Uint32Array(side * side + 1);
    this.cellOf = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      const cell = this.cell(1, position[2 * i + 1]) * side + this.cell(0, position[2 * i]);
      this.cellOf[i] = cell;
      this.start[cell + 1]++;
    }
    for (let c = 0; c < side * side; c++) this.start[c + 1] += this.start[c];
    this.listed = new Uint32Array(n);
    const fill = this.start.slice(0, -1);
    for (let i = 0; i < n; i++) this.listed[fill[this.cellOf[i]]++] = i;
  }

  cell(axis, value) {
    return clamp(Math.floor((value - this.bounds[axis]) / this.unit[axis]), 0, this.side - 1);
  }

  // Points within a box in coordinates, those that are filtered out left aside.
  each(left, bottom, right, top, call) {
    const { position, shown } = this.data;
    for (let row = this.cell(1, bottom), last = this.cell(1, top); row <= last; row++) {
      for (let column = this.cell(0, left), end = this.cell(0, right); column <= end; column++) {
        const cell = row * this.side + column;
        for (let k = this.start[cell]; k < this.start[cell + 1]; k++) {
          const i = this.listed[k], x = position[2 * i], y = position[2 * i + 1];
          if (shown[i] && x >= left && x <= right && y >= bottom && y <= top) call(i, x, y);
        }
      }
    }
  }

  // The view -------------------------------------------------------------------------------------------------------------

  resize(width, height) {
    if (width === this.width && height === this.height) return;
    [this.width, this.height] = [width, height];
    const ratio = devicePixelRatio || 1;
    this.above.width = Math.round(width * ratio);
    this.above.height = Math.round(height * ratio);
    if (this.wanted && width && height) this.box = this.wanted;
    else if (this.isFitted) this.fit();
    this.drawAll();
  }

  get fitting() {
    const [left, bottom, right, top] = this.bounds;
    const s = Math.min((this.width - 2 * PAD) / (right - left || 1e-9), (this.height - PAD - BELOW) / (top - bottom || 1e-9));
    return clamp(s, 20, 20_000);
  }

  get whole() {
    const [left, bottom, right, top] = this.bounds, s = this.fitting;
    return { x: (left + right) / 2, y: (bottom + top) / 2 - (BELOW - PAD) / 2 / s, s };
  }

  fit() {
    if (!this.width || !this.height) return;
    this.look(this.whole);
    this.isFitted = true;
  }

  look({ x = this.view.x, y = this.view.y, s = this.view.s }) {
    const [left, bottom, right, top] = this.bounds;
    this.view = { s: clamp(s, this.fitting * 0.8, this.fitting * NEAREST), x: clamp(x, left, right), y: clamp(y, bottom - BELOW / s, top) };
    this.isFitted = false;
    this.onview(this.isGiven);
    this.drawAll();
  }

  get box() {
    const { x, y, s } = this.view, [w, h] = [this.width / 2 / s, this.height / 2 / s];
    return [x - w, y - h, x + w, y + h];
  }

  set box([left, bottom, right, top]) {
    this.wanted = null;
    if (!this.width || !this.height) return void (this.wanted = [left, bottom, right, top]); // not in the document yet
    this.isGiven = true; // what is in view may be more, but what was asked for stays as it was said
    this.look({ x: (left + right) / 2, y: (bottom + top) / 2, s: Math.min(this.width / (right - left), this.height / (top - bottom)) });
    this.isGiven = false;
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.at(px, py), s = clamp(this.view.s * factor, this.fitting * 0.8, this.fitting * NEAREST);
    this.look({ s, x: x - (px - this.width / 2) / s, y: y + (py - this.height / 2) / s });
  }

  // Towards a point where it is in sight, else towards the middle.
  zoomAt(factor, i) {
    const [px, py] = i >= 0 ? this.screen(i) : [-1, -1];
    if (px >= 0 && py >= 0 && px <= this.width && py <= this.height) this.zoom(factor, px, py);
    else this.zoom(factor);
  }

  pan(dx, dy) {
    this.look({ x: this.view.x - dx / this.view.s, y: this.view.y + dy / this.view.s });
  }

  get isStill() {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  glide(to) {
    cancelAnimationFrame(this.gliding);
    if (!this.width || !this.view.s) return;
    if (this.isStill) return to.fitted ? this.fit() : this.look(to);
    const from = { ...this.view }, start = performance.now();
    const step = (now) => {
      const t = clamp((now - start) / 200, 0, 1), ease = t * (2 - t), s = from.s * (to.s / from.s) ** ease;
      const share = Math.abs(to.s - from.s) < 1e-6 ? ease : (1 / s - 1 / from.s) / (1 / to.s - 1 / from.s);
      this.look({ s, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share });
      if (t < 1) this.gliding = requestAnimationFrame(step);
      else if (to.fitted) this.isFitted = true;
    };
    this.gliding = requestAnimationFrame(step);
  }

  glideFit() {
    this.glide({ ...this.whole, fitted: true });
  }

  glideTo(i, s = this.view.s) {
    this.glide({ x: this.data.position[2 * i], y: this.data.position[2 * i + 1], s: clamp(s, this.fitting, this.fitting * NEAREST) });
  }

  reveal(i) {
    const [px, py] = this.screen(i);
    if (px >= 8 && py >= 8 && px <= this.width - 8 && py <= this.height - 8) this.draw();
    else this.glideTo(i);
  }

  at(px, py) {
    return [this.view.x + (px - this.width / 2) / this.view.s, this.view.y - (py - this.height / 2) / this.view.s];
  }

  screen(i) {
    const { x, y, s } = this.view, { position } = this.data;
    return [(position[2 * i] - x) * s + this.width / 2, this.height / 2 - (position[2 * i + 1] - y) * s];
  }

  // Radii of the steps of size, in pixels: larger when there are few, and nearer.
  get radii() {
    const zoom = this.view.s / (this.fitting || 1), crowd = Math.sqrt((this.width * this.height) / Math.max(1, this.data.nShown));
    const base = clamp(crowd * 0.13 * zoom ** 0.35, 1.6, 7.5);
    if (!this.paint.steps) return [base];
    return Array.from({ length: SIZES }, (_, k) => base * (0.55 + (1.35 * k) / (SIZES - 1)));
  }

  radius(i) {
    return this.radii[this.paint.steps ? this.paint.steps[i] : 0];
  }

  // Pointing -------------------------------------------------------------------------------------------------------------

  // The point under the pointer, or the next one within a few pixels.
  hit(px, py, reach = 9) {
    if (!this.data.n || this.moving) return -1;
    const thumb = this.thumbAt(px, py);
    if (thumb >= 0) return thumb;
    const [x, y] = this.at(px, py), r = (Math.max(...this.radii) + reach) / this.view.s;
    let best = -1, least = Infinity;
    this.each(x - r, y - r, x + r, y + r, (i, ix, iy) => {
      const d = Math.hypot(ix - x, iy - y) - this.radius(i) / this.view.s;
      if (d < least) [least, best] = [d, i];
    });
    return least * this.view.s <= reach ? best : -1;
  }

  thumbAt(px, py) {
    for (let k = (this.thumbsAt || []).length - 1; k >= 0; k--) {
      const [i, left, top, side] = this.thumbsAt[k];
      if (px >= left && px <= left + side && py >= top && py <= top + side) return i;
    }
    return -1;
  }

  // The next point in a direction on the screen: near, and rather straight ahead than aside.
  next(i, dx, dy) {
    const { position, shown, n } = this.data, [x, y] = [position[2 * i], position[2 * i + 1]];
    let best = -1, least = Infinity;
    for (let k = 0; k < n; k++) {
      if (k === i || !shown[k]) continue;
      const [ox, oy] = [position[2 * k] - x, y - position[2 * k + 1]];
      const ahead = ox * dx + oy * dy;
      if (ahead <= 0) continue;
      const cost = ahead + 2.5 * Math.abs(ox * dy + oy * dx);
      if (cost < least) [least, best] = [cost, k];
    }
    return best;
  }

  nearest(px = this.width / 2, py = this.height / 2) {
    const { position, shown, n } = this.data, [x, y] = this.at(px, py);
    let best = -1, least = Infinity;
    for (let k = 0; k < n; k++) {
      if (!shown[k]) continue;
      const d = (position[2 * k] - x) ** 2 + (position[2 * k + 1] - y) ** 2;
      if (d < least) [least, best] = [d, k];
    }
    return best;
  }

  // What a drawn shape holds: kind "box" with two corners, "lasso" with its path, "brush" with its path and radius.
  within({ kind, path, radius = 0 }) {
    const points = path.map(([px, py]) => this.at(px, py)), found = [];
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const r = radius / this.view.s;
    const area = [Math.min(...xs) - r, Math.min(...ys) - r, Math.max(...xs) + r, Math.max(...ys) + r];
    if (kind === "box") this.each(...area, (i) => found.push(i));
    else if (kind === "lasso") this.each(...area, (i, x, y) => isInside(points, x, y) && found.push(i));
    else {
      const seen = new Uint8Array(this.data.n);
      for (let k = 0; k < points.length; k++) {
        const [ax, ay] = points[Math.max(0, k - 1)], [bx, by] = points[k];
        this.each(Math.min(ax, bx) - r, Math.min(ay, by) - r, Math.max(ax, bx) + r, Math.max(ay, by) + r, (i, x, y) => {
          if (seen[i] || apart(x, y, ax, ay, bx, by) > r) return;
          seen[i] = 1;
          found.push(i);
        });
      }
      found.sort((a, b) => a - b);
    }
    return found;
  }

  setMembers(rows) {
    this.members.fill(0);
    for (const i of rows) this.members[i] = 1;
    this.nMembers = rows.length;
  }
}

function isInside(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

// How far a point is from a piece of a line
function apart(x, y, ax, ay, bx, by) {
  const [dx, dy] = [bx - ax, by - ay], long = dx * dx + dy * dy;
  const t = long ? clamp(((x - ax) * dx + (y - ay) * dy) / long, 0, 1) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}
