// The map: points on one canvas, marks and pictures on another above it.
import { css, eachFrame } from "../common/index.js";
import { Stamps, trace } from "./stamps.js";
import { View, clamp } from "./view.js";
import { GLIDE, RIMS_BELOW, WebGL, isSupported } from "./webgl.js";

const THUMB = { least: 34, most: 110, inSight: 160 };

export class PointMap extends View {
  constructor(below, above, { data, thumbs, onview, oncontext, renderer }) {
    super(above, { data, onview });
    Object.assign(this, { below, thumbs, oncontext, renderer });
    this.ctx = above.getContext("2d");
    this.stamps = new Stamps();
    this.rings = new Stamps();
    this.near = null; // rows of the neighbours of the selected point
    this.showsThumbs = true;
    this.trail = null; // what a lasso, box or brush has drawn
    this.inks = {};
    this.webgl = null;
    this.isAsleep = false;
    this.draw = eachFrame(() => this.drawNow(false));
    this.drawAll = eachFrame(() => this.drawNow(true));
  }

  // New coordinates for the same points: they move there.
  move(from, then) {
    const to = this.data.position, { n } = this.data;
    if (this.webgl) {
      this.upload({ glides: true });
      this.moving = setTimeout(() => ((this.moving = 0), then(), this.drawAll()), GLIDE + 60);
      return;
    }
    const start = performance.now(), now = new Float32Array(2 * n);
    const step = (time) => {
      const t = clamp((time - start) / GLIDE, 0, 1), ease = t * t * (3 - 2 * t);
      for (let k = 0; k < 2 * n; k++) now[k] = from[k] + (to[k] - from[k]) * ease;
      this.passing = t < 1 ? now : null;
      this.moving = t < 1 ? requestAnimationFrame(step) : 0;
      if (t === 1) then();
      this.drawNow(true);
    };
    this.passing = from;
    this.moving = requestAnimationFrame(step);
  }

  // Which of the two draws: the graphics card where there is one, but not where points have symbols, which it lacks.
  choose() {
    const renderer = this.renderer(), isFree = renderer !== "canvas" && !this.isAsleep && !this.paint.symbols && this.data.n > 0;
    const wanted = isFree && isSupported(renderer === "webgl");
    if (wanted && !this.webgl) {
      try {
        this.webgl = new WebGL(this.below, {
          onready: () => this.afterContext?.(),
          ondrop: () => {
            this.webgl = null; // the canvas keeps its picture, and draws itself until the next gesture
            this.isAsleep = true;
            this.oncontext();
          },
        });
        this.upload();
      } catch {
        this.renderer = () => "canvas"; // no context, or the page's policy forbids compiling: the canvas serves
        this.webgl = null;
      }
      this.oncontext();
    } else if (!wanted && this.webgl) {
      const { webgl } = this;
      webgl.ondrop = null;
      this.webgl = null;
      webgl.close();
      this.oncontext();
    }
  }

  wake() {
    if (!this.isAsleep) return;
    this.isAsleep = false;
    this.drawAll();
  }

  sleep() {
    this.isAsleep = true;
    this.webgl?.close();
  }

  upload(how) {
    const { position, shown, n } = this.data, { codes, colours, steps } = this.paint;
    if (!this.webgl || !codes) return;
    this.webgl.load({ position, codes, colours, steps, shown, n, rim: rgb(this.inks.rimInk), dim: rgb(this.inks.dimInk) }, how);
  }

  recolour(paint) {
    this.paint = paint;
    this.choose();
    this.upload();
    this.drawAll();
  }

  drawNow(all) {
    const { ctx, data } = this, ratio = devicePixelRatio || 1;
    if (!this.width || !this.height || !this.view.s || !this.inks.bg) return;
    if (all) {
      this.choose();
      if (this.webgl) {
        this.webgl.resize(this.width, this.height);
        this.webgl.look(this.view, this.radii, 1.1);
      } else this.drawPoints(ratio);
    }
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    if (this.nMembers && !this.moving && data.n) this.drawRings(ratio);
    else ctx.clearRect(0, 0, this.above.width, this.above.height);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!data.n) return;
    if (!this.moving) {
      this.drawThumbs();
      this.drawMarks();
    }
    this.drawNames();
    if (this.trail) this.drawTrail();
  }

  drawPoints(ratio) {
    const { data, stamps, below, view: { x, y, s } } = this, { codes, colours, steps, symbols } = this.paint;
    if (below.width !== this.above.width || below.height !== this.above.height) [below.width, below.height] = [this.above.width, this.above.height];
    const { width, height } = below, position = this.passing || data.position;
    stamps.begin(width, height, rgb(this.inks.ground));
    const k = s * ratio, dx = width / 2 - x * k, dy = height / 2 + y * k;
    const radii = this.radii.map((r) => Math.round(4 * r * ratio) / 4), most = Math.max(...radii) * 1.5 + 2;
    const [faint, edge] = [rgb(this.inks.dimInk), rgb(this.inks.rimInk)];
    const rim = data.n <= RIMS_BELOW && radii[0] > 1.1 * ratio ? Math.max(0.75, 0.8 * ratio) : 0;
    const small = stamps.brush(0, Math.round(1.1 * ratio * 4) / 4, 0);
    const brushes = radii.map((r) => Array.from({ length: symbols ? 8 : 1 }, (_, symbol) => stamps.brush(symbol, r, rim)));
    const { shown, n } = data;
    for (let pass = data.nShown < n ? 0 : 1; pass < 2; pass++) {
      for (let i = 0; i < n; i++) {
        if (shown[i] !== pass) continue;
        const px = dx + position[2 * i] * k, py = dy - position[2 * i + 1] * k;
        if (px < -most || py < -most || px > width + most || py > height + most) continue;
        if (pass) stamps.stamp(brushes[steps ? steps[i] : 0][symbols ? symbols[i] : 0], px, py, colours[codes[i]], edge);
        else stamps.stamp(small, px, py, faint, faint);
      }
    }
    stamps.put(below.getContext("2d"));
  }

  // Members of the set: larger, with an outline.
  drawRings(ratio) {
    const { data, rings, view: { x, y, s } } = this, { codes, colours, steps, symbols } = this.paint;
    const { width, height } = this.above, k = s * ratio, dx = width / 2 - x * k, dy = height / 2 + y * k;
    const radii = this.radii.map((r) => Math.round(4 * (r + 1.2) * ratio) / 4), [bg, mark, faint] = [rgb(this.inks.bg), rgb(this.inks.mark), rgb(this.inks.dimInk)];
    rings.begin(width, height, null);
    const kinds = Array.from({ length: symbols ? 8 : 1 }, (_, symbol) => symbol);
    const outer = radii.map((r) => kinds.map((symbol) => rings.brush(symbol, r + 1.75 * ratio, ratio)));
    const inner = radii.map((r) => kinds.map((symbol) => rings.brush(symbol, r, 0)));
    for (let i = 0; i < data.n; i++) {
      if (!this.members[i]) continue;
      const px = dx + data.position[2 * i] * k, py = dy - data.position[2 * i + 1] * k;
      if (px < -20 || py < -20 || px > width + 20 || py > height + 20) continue;
      const step = steps ? steps[i] : 0, symbol = symbols ? symbols[i] : 0, colour = colours[codes[i]];
      rings.stamp(outer[step][symbol], px, py, mark, bg);
      const fill = data.shown[i] ? colour : faint;
      rings.stamp(inner[step][symbol], px, py, fill, fill);
    }
    rings.put(this.ctx);
  }

  // Near enough, pictures take the place of points; where two would overlap, the second stays a point.
  drawThumbs() {
    this.thumbsAt = [];
    const { thumbs, ctx } = this;
    if (!this.showsThumbs || !thumbs.isAvailable || this.view.s < this.fitting * 1.7) return;
    const [left, bottom, right, top] = this.box, inSight = [];
    this.each(left, bottom, right, top, (i) => inSight.length <= THUMB.inSight && inSight.push(i));
    if (inSight.length > THUMB.inSight) return;
    const side = clamp(0.62 * Math.sqrt((this.width * this.height) / Math.max(inSight.length, 4)), 0, THUMB.most);
    if (side < THUMB.least) return;
    inSight.sort((a, b) => (b === this.selected) - (a === this.selected) || this.members[b] - this.members[a] || a - b);
    const taken = [];
    for (const i of inSight) {
      const [px, py] = this.screen(i), x0 = px - side / 2, y0 = py - side / 2;
      if (taken.some(([tx, ty]) => Math.abs(tx - x0) < side + 6 && Math.abs(ty - y0) < side + 6)) continue;
      taken.push([x0, y0]);
      this.thumbsAt.push([i, x0, y0, side]);
    }
    thumbs.wantRows(this.thumbsAt.map(([i]) => i), side * (devicePixelRatio || 1) > 84 ? 128 : 64);
    for (const [i, x0, y0] of this.thumbsAt) {
      const colour = css(this.paint.colours[this.paint.codes[i]]), isMember = this.members[i] === 1;
      ctx.fillStyle = this.inks.bg;
      ctx.fillRect(x0 - 5, y0 - 5, side + 10, side + 10);
      ctx.fillStyle = this.inks.soft;
      ctx.fillRect(x0, y0, side, side);
      thumbs.draw(ctx, i, x0, y0, side, side);
      ctx.strokeStyle = isMember ? this.inks.mark : this.inks.edgeInk;
      ctx.lineWidth = isMember ? 7 : 5;
      ctx.strokeRect(x0 - 1.5, y0 - 1.5, side + 3, side + 3);
      ctx.strokeStyle = colour;
      ctx.lineWidth = 3;
      ctx.strokeRect(x0 - 1.5, y0 - 1.5, side + 3, side + 3);
    }
  }

  mark(i, colour, width, pad) {
    const { ctx } = this, [px, py] = this.screen(i), thumb = (this.thumbsAt || []).find(([k]) => k === i);
    const symbol = this.paint.symbols ? this.paint.symbols[i] : 0;
    for (const [ink, wide] of [[this.inks.bg, width + 2.5], [colour, width]]) {
      if (thumb) {
        ctx.beginPath();
        ctx.rect(thumb[1] - 5 - pad / 2, thumb[2] - 5 - pad / 2, thumb[3] + 10 + pad, thumb[3] + 10 + pad);
      } else trace(ctx, symbol, px, py, this.radius(i) + pad);
      ctx.lineJoin = "round";
      ctx.lineWidth = wide;
      ctx.strokeStyle = ink;
      ctx.stroke();
    }
  }

  drawMarks() {
    const { ctx, inks, data } = this;
    if (this.selected >= 0 && this.near?.length) {
      const [x, y] = this.screen(this.selected);
      const lines = (colour, width) => {
        ctx.strokeStyle = colour;
        ctx.lineWidth = width;
        ctx.beginPath();
        for (const i of this.near) {
          const [px, py] = this.screen(i);
          ctx.moveTo(x, y);
          ctx.lineTo(px, py);
        }
        ctx.stroke();
      };
      lines(inks.bg, 3.5);
      lines(inks.accent, 1.4);
      for (const i of this.near) {
        const [px, py] = this.screen(i), colour = this.paint.colours[this.paint.codes[i]];
        if ((this.thumbsAt || []).some(([k]) => k === i)) continue;
        trace(ctx, this.paint.symbols ? this.paint.symbols[i] : 0, px, py, this.radius(i) + 1);
        ctx.fillStyle = css(data.shown[i] ? colour : rgb(inks.dimInk));
        ctx.fill();
        this.mark(i, inks.accent, 1.2, 2);
      }
    }
    if (this.hover >= 0) this.mark(this.hover, inks.ink2, 1.75, 3);
    if (this.focus >= 0 && this.above.matches(":focus-visible")) this.mark(this.focus, inks.accent, 1.5, 8);
    if (this.selected >= 0) {
      const colour = this.paint.colours[this.paint.codes[this.selected]], [px, py] = this.screen(this.selected);
      if (!(this.thumbsAt || []).some(([k]) => k === this.selected)) {
        trace(ctx, this.paint.symbols ? this.paint.symbols[this.selected] : 0, px, py, this.radius(this.selected) + 2);
        ctx.fillStyle = css(colour);
        ctx.fill();
      }
      this.mark(this.selected, inks.accent, 2.75, 4);
    }
  }

  // Names of the groups where they lie, largest first; one that would cover another waits until there is room.
  drawNames() {
    if (!this.names?.length || this.moving || this.view.s > this.fitting * 3) return;
    const { ctx, inks, view: { x, y, s } } = this, taken = [];
    const most = Math.max(3, Math.round((this.width * this.height) / 40_000));
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.font = `600 ${Math.round(inks.size * 0.9)}px ${inks.font}`;
    for (const { name, at } of this.names) {
      const text = name.length > 34 ? `${name.slice(0, 33)}…` : name, half = ctx.measureText(text).width / 2 + 5, high = inks.size * 0.75;
      const sx = (at[0] - x) * s + this.width / 2, sy = this.height / 2 - (at[1] - y) * s - high - this.radii[0] - 2; // above its points
      if (sx < 0 || sy < 0 || sx > this.width || sy > this.height) continue;
      const px = clamp(sx, half + 2, Math.max(half + 2, this.width - half - 2)), py = clamp(sy, high + 2, this.height - high - 2);
      const area = [px - half, py - high, px + half, py + high];
      if (taken.some((t) => area[0] < t[2] && area[2] > t[0] && area[1] < t[3] && area[3] > t[1])) continue;
      taken.push(area);
      ctx.lineJoin = "round";
      ctx.lineWidth = 4;
      ctx.strokeStyle = inks.bg;
      ctx.globalAlpha = 0.85;
      ctx.strokeText(text, px, py + 0.5);
      ctx.globalAlpha = 1;
      ctx.fillStyle = inks.ink;
      ctx.fillText(text, px, py + 0.5);
      if (taken.length >= most) break;
    }
  }

  drawTrail() {
    const { ctx, inks, trail: { kind, path, radius, subtracts } } = this;
    ctx.strokeStyle = inks.accent;
    ctx.fillStyle = inks.accent;
    ctx.lineJoin = ctx.lineCap = "round";
    ctx.setLineDash(subtracts ? [3, 4] : []);
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    if (kind === "box") {
      const [[x0, y0]] = path, [x1, y1] = path.at(-1);
      ctx.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    } else path.forEach(([px, py], i) => ctx[i ? "lineTo" : "moveTo"](px, py));
    if (kind === "brush") {
      ctx.globalAlpha = 0.2;
      ctx.lineWidth = 2 * radius;
      if (path.length === 1) ctx.lineTo(path[0][0] + 0.1, path[0][1]);
      ctx.stroke();
    } else {
      ctx.globalAlpha = 0.1;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.stroke();
    }
    ctx.globalAlpha = 1;
    ctx.setLineDash([]);
  }

  close() {
    this.draw.stop();
    this.drawAll.stop();
    cancelAnimationFrame(this.gliding);
    cancelAnimationFrame(this.moving);
    clearTimeout(this.moving);
    if (this.webgl) {
      this.webgl.ondrop = null;
      this.webgl.close();
    }
  }
}

const known = new Map();

// "rgb(1, 2, 3)", or "color(srgb 0.1 0.2 0.3)" as mixed colours are given -> [1, 2, 3]
export function rgb(text) {
  if (!known.has(text)) {
    const parts = (text || "").match(/[\d.]+(?:e-?\d+)?/g)?.map(Number) || [128, 128, 128];
    known.set(text, parts.slice(0, 3).map((v) => Math.round(text?.startsWith("color") ? 255 * v : v)));
  }
  return known.get(text);
}
