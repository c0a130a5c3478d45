// Evidence of findings: those on show and the five that follow are fetched and decoded before they are wanted.
import { Cache, bitmap } from "../common/index.js";

const AHEAD = 5;
const KEPT = 40;

export class Cases {
  constructor(ask, onload) {
    Object.assign(this, { ask, onload });
    this.kept = new Cache(KEPT, (one) => one.pictures.forEach((picture) => picture?.close?.()));
    this.missing = new Set();
    this.queue = [];
    this.busy = null;
  }

  get(id) {
    return this.kept.get(id);
  }

  // What Python put into a trait; its pictures are decoded as those of an answer.
  async take(record) {
    if (!record?.id || this.kept.has(record.id)) return;
    await this.put(record, [record.large?.jpeg, record.sheet?.jpeg]);
  }

  async put(record, jpegs) {
    const pictures = await Promise.all(jpegs.map((jpeg) => (jpeg ? bitmap(jpeg) : null)));
    if (this.isClosed) return pictures.forEach((picture) => picture?.close?.());
    this.missing.delete(record.id);
    this.kept.set(record.id, { ...record, pictures });
    this.onload(record.id);
  }

  // The finding on show first, then those that follow it.
  want(ids) {
    this.queue = ids.slice(0, AHEAD + 1).filter((id) => id && !this.kept.has(id) && !this.missing.has(id) && id !== this.busy);
    this.next();
  }

  async next() {
    if (this.busy || !this.queue.length || this.isClosed) return;
    const id = (this.busy = this.queue.shift());
    const answer = await this.ask("evidence", { id });
    this.busy = null;
    if (this.isClosed) return;
    if (answer) await this.put(answer.result, [answer.result.large, answer.result.sheet].map((sheet) => (sheet.n ? answer.buffers[sheet.jpeg.buffer] : null)));
    else {
      this.missing.add(id); // not in this page, or refused: not asked again and again
      this.onload(id);
    }
    this.next();
  }

  clear() {
    this.kept.clear();
    this.missing.clear();
    this.queue = [];
  }

  close() {
    this.isClosed = true;
    this.clear();
  }
}
