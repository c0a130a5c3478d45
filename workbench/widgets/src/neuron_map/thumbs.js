// Pictures of points: blocks of neighbours on one sheet each, and single ones for the list and the readout.
import { bitmap } from "../common/index.js";
import { Tiles } from "../common/tiles.js";

export class Thumbs extends Tiles {
  load({ digest, block, n, isAvailable, isRecorded }) {
    this.of = Array.from({ length: n }, (_, i) => (block ? block[i] : Math.floor(i / 64)));
    // Blocks in a row, each as wide as a page of either size.
    super.load({ digest, cells: this.of.flatMap((b) => [16 * b, 0]), grid: [1, 1], n, isAvailable, isRecorded });
  }

  wantRows(rows, size) {
    if (!this.isAvailable) return;
    if (this.isRecorded) size = 64;
    const wanted = new Set();
    for (const i of rows) {
      const key = this.key(i, size);
      this.pages.get(key); // in use: not to be dropped
      if (!this.pages.has(key) && !this.pending.has(key) && !this.failed.has(key)) wanted.add(key);
    }
    this.queue = [...wanted];
    this.pump();
  }

  async sheet(rows, size) {
    const answer = await this.ask("tiles", { digest: this.digest, rows, size });
    const sheet = answer?.result.sheet;
    if (!sheet?.n) return null;
    return { sheet, bitmap: await bitmap(answer.buffers[sheet.jpeg.buffer]) };
  }
}
