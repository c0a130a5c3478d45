// Drawing many small symbols without a graphics card: each is stamped, pixel by pixel, from a few masks.

export const SYMBOLS = ["circle", "square", "triangle", "diamond", "plus", "cross", "triangle down", "star"];

// The outline of a symbol of radius r around (x, y); areas are about equal.
export function trace(ctx, symbol, x, y, r) {
  const polygon = (points) => points.forEach(([px, py], i) => ctx[i ? "lineTo" : "moveTo"](x + px * r, y + py * r));
  ctx.beginPath();
  if (symbol === 0) ctx.arc(x, y, r, 0, 2 * Math.PI);
  else if (symbol === 1) ctx.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
  else if (symbol === 2) polygon([[0, -1.25], [1.15, 0.8], [-1.15, 0.8]]);
  else if (symbol === 3) polygon([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]);
  else if (symbol === 6) polygon([[0, 1.25], [1.15, -0.8], [-1.15, -0.8]]);
  else if (symbol === 7) polygon(Array.from({ length: 10 }, (_, i) => [(i % 2 ? 0.58 : 1.35) * Math.sin((i * Math.PI) / 5), -(i % 2 ? 0.58 : 1.35) * Math.cos((i * Math.PI) / 5)]));
  else {
    const [a, b] = [0.4, 1.2];
    const arms = [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]];
    const turn = symbol === 5 ? Math.SQRT1_2 : 0;
    polygon(turn ? arms.map(([px, py]) => [(px - py) * turn, (px + py) * turn]) : arms);
  }
  ctx.closePath();
}

const PHASES = 2; // places between two pixels, along each side

export class Stamps {
  constructor() {
    this.brushes = new Map();
    this.sketch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  }

  // A picture of `width` by `height` pixels to stamp on, filled with an opaque colour, or clear.
  begin(width, height, ground) {
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = new ImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
      this.brushes.clear(); // they know where the next line of pixels begins
    }
    this.words.fill(ground ? word(ground) : 0);
    this.isClear = !ground;
  }

  put(ctx) {
    ctx.putImageData(this.image, 0, 0);
  }

  // What stamps a symbol of radius r within a rim, sizes in pixels of the picture: how far body and rim cover each pixel,
  // for each place between two pixels.
  brush(symbol, r, rim) {
    const key = `${symbol} ${r} ${rim}`;
    if (!this.brushes.has(key)) {
      if (this.brushes.size > 400) this.brushes.clear();
      this.brushes.set(key, Array.from({ length: PHASES * PHASES }, (_, k) => this.mask(symbol, r, rim, (k % PHASES) / PHASES, Math.floor(k / PHASES) / PHASES)));
    }
    return this.brushes.get(key);
  }

  mask(symbol, r, rim, px, py) {
    const half = Math.ceil((r + rim) * 1.4 + 1), side = 2 * half + 1, { sketch } = this;
    const coverage = (radius) => {
      sketch.canvas.width = sketch.canvas.height = side; // which clears it
      trace(sketch, symbol, half + 0.5 + px, half + 0.5 + py, radius);
      sketch.fill();
      return sketch.getImageData(0, 0, side, side).data;
    };
    const inner = coverage(r), outer = rim ? coverage(r + rim) : inner;
    const at = [], offset = [], body = [], whole = [];
    for (let i = 0; i < side * side; i++) {
      if (outer[4 * i + 3] < 8) continue;
      const [dx, dy] = [(i % side) - half, Math.floor(i / side) - half];
      at.push(dx, dy);
      offset.push(dy * this.image.width + dx);
      body.push(inner[4 * i + 3]);
      whole.push(Math.max(outer[4 * i + 3], inner[4 * i + 3]));
    }
    return { half, at: Int16Array.from(at), offset: Int32Array.from(offset), body: Uint8Array.from(body), whole: Uint8Array.from(whole) };
  }

  // Stamp at (x, y) in a colour, with the rim in another.
  stamp(brush, x, y, [red, green, blue], [redRim, greenRim, blueRim]) {
    const { words, isClear, image: { width, height } } = this;
    const left = Math.floor(x), top = Math.floor(y);
    const { half, at, offset, body, whole } = brush[Math.floor((x - left) * PHASES) + PHASES * Math.floor((y - top) * PHASES)];
    if (left < -half || top < -half || left >= width + half || top >= height + half) return;
    const inside = left >= half && top >= half && left < width - half && top < height - half;
    const solid = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0, start = top * width + left;
    for (let k = 0; k < body.length; k++) {
      if (!inside) {
        const px = left + at[2 * k], py = top + at[2 * k + 1];
        if (px < 0 || py < 0 || px >= width || py >= height) continue;
      }
      const i = start + offset[k], b = body[k], a = whole[k];
      if (b > 247) {
        words[i] = solid;
        continue;
      }
      const old = words[i], e = a - b, rest = 255 - a, before = old >>> 24;
      if (isClear && before < 255) { // over what is clear or half clear: colours weigh as much as they cover
        const under = (before * rest) / 255, sum = a + under || 1;
        const mix = (c, edge, o) => (c * b + edge * e + o * under) / sum;
        words[i] = ((Math.min(255, sum) << 24) | (mix(blue, blueRim, (old >> 16) & 255) << 16) | (mix(green, greenRim, (old >> 8) & 255) << 8) | mix(red, redRim, old & 255)) >>> 0;
        continue;
      }
      // x / 255 as a product and a shift
      const nb = ((blue * b + blueRim * e + ((old >> 16) & 255) * rest) * 257) >> 16;
      const ng = ((green * b + greenRim * e + ((old >> 8) & 255) * rest) * 257) >> 16;
      const nr = ((red * b + redRim * e + (old & 255) * rest) * 257) >> 16;
      words[i] = 0xff000000 | (nb << 16) | (ng << 8) | nr;
    }
  }
}

const word = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
