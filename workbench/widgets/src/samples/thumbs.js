// Thumbnails: one JPEG sheet for each page of the order, those in view first, dropped when they are far away.
import { Cache, bitmap, paced, tileOf } from "../common/index.js";

const PAGE = 64;
const AT_ONCE = 2;
const KEPT = 24; // pages: about 1,500 thumbnails

export class Thumbs {
  constructor(ask, onload) {
    Object.assign(this, { ask, onload });
    this.place = new Map(); // sample -> its sheet and its number there
    this.sheets = new Cache(KEPT, (sheet) => this.forget(sheet));
    this.failed = new Set();
    this.pending = new Set();
    this.queue = [];
    this.busy = 0;
    this.wants = paced(60, (...range) => this.plan(...range));
  }

  load({ digest, recorded, masks }) {
    if (recorded) masks = recorded.masks;
    const key = `${digest} ${Boolean(recorded)} ${masks}`;
    if (this.key !== key) {
      this.sheets.clear();
      this.failed.clear();
      this.queue = [];
    }
    Object.assign(this, { key, digest, masks });
    // A page without a kernel has recorded whole pages of small thumbnails, and a few single ones.
    this.recorded = null;
    if (recorded) {
      this.recorded = new Map();
      for (let start = 0; start < recorded.samples.length; start += recorded.page) {
        const page = Array.from(recorded.samples.subarray(start, start + recorded.page));
        for (const sample of page) this.recorded.set(sample, page);
      }
    }
  }

  // What is in view, from and to, and around it: places in the order.
  want(order, size, from, to, low, high) {
    this.wants(order, size, from, to, low, high);
  }

  plan(order, size, from, to, low, high) {
    this.size = this.recorded ? 64 : size;
    const middle = (from + to) / 2, pages = [];
    for (let page = Math.floor(low / PAGE); page * PAGE < high; page++) {
      const missing = [];
      for (let at = page * PAGE; at < Math.min(order.length, (page + 1) * PAGE); at++) {
        const known = this.place.get(order[at]);
        if (known && known.sheet.size >= this.size) this.sheets.get(known.sheet.key); // in use: not to be dropped
        else if (!this.failed.has(order[at]) && !this.pending.has(order[at])) missing.push(order[at]);
      }
      const isInView = page * PAGE < to && (page + 1) * PAGE > from;
      if (missing.length) pages.push([isInView ? 0 : 1, Math.abs((page + 0.5) * PAGE - middle), missing]);
    }
    pages.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    this.queue = this.recorded ? this.whole(pages.flatMap(([, , missing]) => missing)) : pages.map(([, , missing]) => missing);
    this.pump();
  }

  whole(samples) {
    return [...new Set(samples.map((sample) => this.recorded.get(sample) || this.single(sample)))];
  }

  single(sample) {
    this.singles ||= new Map();
    if (!this.singles.has(sample)) this.singles.set(sample, [sample]);
    return this.singles.get(sample);
  }

  pump() {
    while (this.busy < AT_ONCE && this.queue.length) this.bring(this.queue.shift());
  }

  async bring(samples) {
    const { digest, size, masks, key } = this;
    samples.forEach((sample) => this.pending.add(sample));
    this.busy++;
    const answer = await this.ask("thumbnails", { digest, samples, size, masks });
    const made = answer?.result.sheet.n ? { ...answer.result.sheet, size, samples, key: Symbol() } : null;
    if (made) made.picture = await bitmap(answer.buffers[answer.result.sheet.jpeg.buffer]);
    this.busy--;
    samples.forEach((sample) => this.pending.delete(sample));
    if (this.isClosed) return made?.picture?.close?.();
    if (key === this.key) {
      if (made) {
        samples.forEach((sample, k) => this.place.set(sample, { sheet: made, k }));
        this.sheets.set(made.key, made);
      } else samples.forEach((sample) => this.failed.add(sample)); // not asked again and again
    } else made?.picture?.close?.();
    this.onload();
    this.pump();
  }

  forget(sheet) {
    for (const sample of sheet.samples) if (this.place.get(sample)?.sheet === sheet) this.place.delete(sample);
    sheet.picture?.close?.();
  }

  draw(ctx, sample, x, y, side) {
    const known = this.place.get(sample);
    if (!known?.sheet.picture) return false;
    ctx.drawImage(known.sheet.picture, ...tileOf(known.sheet, known.k), x, y, side, side);
    return true;
  }

  close() {
    this.isClosed = true;
    this.wants.stop();
    this.queue = [];
    this.sheets.clear();
  }
}
