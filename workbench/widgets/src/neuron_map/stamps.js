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
    this.masks = new Map();
    this.sketch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  }

  // A picture of `width` by `height` pixels to stamp on, filled with an opaque colour, or clear.
  begin(width, height, ground) {
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = new ImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    this.words.fill(ground ? word(ground) : 0);
    this.isClear = !ground;
  }

  put(ctx) {
    ctx.putImageData(this.image, 0, 0);
  }

  // fill: the symbol itself; ring: a band around it, `gap` outside of its edge. Sizes in pixels of the picture.
  mask(symbol, r, ring, px, py) {
    const key = `${symbol} ${r} ${ring} ${px} ${py}`;
    let mask = this.masks.get(key);
    if (mask) return mask;
    const half = Math.ceil(r * 1.4 + ring + 1), side = 2 * half + 1, { sketch } = this;
    sketch.canvas.width = sketch.canvas.height = side; // which clears it
    trace(sketch, symbol, half + 0.5 + px / PHASES, half + 0.5 + py / PHASES, r);
    sketch.lineJoin = "round";
    if (ring) {
      sketch.lineWidth = ring;
      sketch.stroke();
    } else sketch.fill();
    const pixels = sketch.getImageData(0, 0, side, side).data;
    const at = [], alpha = [];
    for (let i = 0; i < side * side; i++) {
      if (pixels[4 * i + 3] < 8) continue;
      at.push((i % side) - half, Math.floor(i / side) - half);
      alpha.push(pixels[4 * i + 3]);
    }
    mask = { half, at: Int16Array.from(at), alpha: Uint8Array.from(alpha) };
    if (this.masks.size > 600) this.masks.clear();
    this.masks.set(key, mask);
    return mask;
  }

  stamp(symbol, r, ring, x, y, red, green, blue) {
    const { width, height } = this.image;
    const fx = Math.floor(x * PHASES) / PHASES, fy = Math.floor(y * PHASES) / PHASES;
    const left = Math.floor(fx), top = Math.floor(fy);
    const mask = this.mask(symbol, r, ring, Math.round((fx - left) * PHASES), Math.round((fy - top) * PHASES));
    const { half, at, alpha } = mask;
    if (left < -half || top < -half || left >= width + half || top >= height + half) return;
    const inside = left >= half && top >= half && left < width - half && top < height - half;
    const { words, isClear } = this, solid = 0xff000000 | (blue << 16) | (green << 8) | red;
    for (let k = 0, j = 0; k < alpha.length; k++, j += 2) {
      const px = left + at[j], py = top + at[j + 1];
      if (!inside && (px < 0 || py < 0 || px >= width || py >= height)) continue;
      const i = py * width + px, a = alpha[k];
      if (a > 247) {
        words[i] = solid;
        continue;
      }
      const old = words[i];
      if (isClear && old >>> 24 === 0) {
        words[i] = (a << 24) | (blue << 16) | (green << 8) | red;
        continue;
      }
      const b = 255 - a, full = isClear ? Math.max(a, old >>> 24) : 255;
      words[i] = (full << 24) | (((blue * a + ((old >> 16) & 255) * b) / 255) << 16) | (((green * a + ((old >> 8) & 255) * b) / 255) << 8) | ((red * a + (old & 255) * b) / 255);
    }
  }
}

const word = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
