// Crops of components: pages of neighbouring cells, one JPEG sheet each, fetched for what is on screen and dropped when
// far away; and a few single ones for the list and the readout.
import { Cache, bitmap, settled, tileOf } from "./index.js";

const SIDE = { 64: 16, 128: 8 }; // cells along a page: at most 256 tiles
const AT_ONCE = 2;

export class Tiles {
  constructor(ask, onload) {
    this.ask = ask;
    this.onload = onload;
    this.pages = new Cache(28, (page) => page.bitmap?.close?.());
    this.loose = new Cache(600);
    this.pending = new Set();
    this.failed = new Set();
    this.queue = [];
    this.missing = new Set();
    this.fetchLoose = settled(40, () => this.loadLoose());
  }

  // A page without a kernel has recorded whole pages of small crops, and nothing else.
  load({ digest, cells, grid, n, isAvailable, isRecorded = false }) {
    Object.assign(this, { digest, cells, grid, n, isAvailable, isRecorded });
    this.members = { 64: new Map(), 128: new Map() };
    for (const size of [64, 128]) {
      for (let i = 0; i < n; i++) {
        const key = this.key(i, size);
        if (!this.members[size].has(key)) this.members[size].set(key, []);
        this.members[size].get(key).push(i);
      }
    }
    this.pages.clear();
    this.loose.clear();
    this.failed.clear();
    this.queue = [];
  }

  key(i, size) {
    return `${size}:${Math.floor(this.cells[2 * i] / SIDE[size])}:${Math.floor(this.cells[2 * i + 1] / SIDE[size])}`;
  }

  // Ask for the pages that cover a part of the board, those in its middle first.
  want({ left, top, right, bottom }, size) {
    if (!this.isAvailable) return;
    if (this.isRecorded && size !== 64) return this.want({ left, top, right, bottom }, 64);
    const side = SIDE[size], wanted = [];
    const [cx, cy] = [(left + right) / 2 / side - 0.5, (top + bottom) / 2 / side - 0.5];
    for (let py = Math.floor(top / side); py <= Math.floor(bottom / side); py++) {
      for (let px = Math.floor(left / side); px <= Math.floor(right / side); px++) {
        const key = `${size}:${px}:${py}`;
        if (!this.members[size].has(key)) continue;
        this.pages.get(key); // in use: not to be dropped
        if (!this.pages.has(key) && !this.pending.has(key) && !this.failed.has(key)) wanted.push([(px - cx) ** 2 + (py - cy) ** 2, key]);
      }
    }
    this.queue = wanted.sort((a, b) => a[0] - b[0]).map(([, key]) => key);
    this.pump();
  }

  pump() {
    while (this.pending.size < AT_ONCE && this.queue.length) this.loadPage(this.queue.shift());
  }

  async loadPage(key) {
    const size = Number(key.split(":")[0]), components = this.members[size].get(key), digest = this.digest;
    this.pending.add(key);
    const page = await this.sheet(components, size);
    this.pending.delete(key);
    if (digest === this.digest) {
      if (page) this.pages.set(key, { ...page, slot: new Map(components.map((c, i) => [c, i])) });
      else this.failed.add(key); // not asked again and again; another board or the reader's "retry" clears it
    }
    this.onload();
    this.pump();
  }

  async sheet(components, size) {
    const answer = await this.ask("tiles", { digest: this.digest, components, size });
    const sheet = answer?.result.sheet;
    if (!sheet?.n) return null;
    return { sheet, bitmap: await bitmap(answer.buffers[sheet.jpeg.buffer]) };
  }

  // Draw a component's crop, from the best page at hand; false if there is none yet.
  draw(ctx, i, x, y, width, height) {
    const ratio = devicePixelRatio || 1;
    const order = width * ratio > 84 ? [128, 64] : [64, 128];
    for (const size of order) {
      const page = this.pages.items.get(this.key(i, size));
      if (page?.bitmap) {
        ctx.drawImage(page.bitmap, ...middle(tileOf(page.sheet, page.slot.get(i)), width / height), x, y, width, height);
        return true;
      }
    }
    const loose = this.loose.items.get(i);
    if (!loose) return false;
    ctx.drawImage(loose.bitmap, ...middle(tileOf(loose.sheet, loose.slot), width / height), x, y, width, height);
    return true;
  }

  has(i) {
    return this.loose.has(i) || [64, 128].some((size) => this.pages.has(this.key(i, size)));
  }

  // Ask for single components; several requests within a moment go as one.
  wantLoose(components) {
    if (!this.isAvailable) return;
    if (this.isRecorded) {
      for (const i of components) {
        const key = this.key(i, 64);
        if (!this.pages.has(key) && !this.pending.has(key) && !this.failed.has(key) && !this.queue.includes(key)) this.queue.push(key);
      }
      return this.pump();
    }
    for (const i of components) if (!this.has(i)) this.missing.add(i);
    if (this.missing.size) this.fetchLoose();
  }

  async loadLoose() {
    const components = [...this.missing].slice(-48), digest = this.digest;
    this.missing.clear();
    if (!components.length) return;
    const page = await this.sheet(components, 64);
    if (!page || digest !== this.digest) return;
    components.forEach((c, slot) => this.loose.set(c, { ...page, slot }));
    this.onload();
  }

  close() {
    this.fetchLoose.stop();
    this.pages.clear();
    this.loose.clear();
  }
}

// The middle band of a tile, where the peak is, for a frame that is wider than high.
function middle([x, y, width, height], aspect) {
  const band = Math.min(height, width / aspect);
  return [x, y + (height - band) / 2, width, band];
}
