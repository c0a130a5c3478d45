// Buffers into typed arrays and pictures, and questions to Python.
import { h } from "./dom.js";

const TYPES = {
  float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array,
};

// {dtype, shape, data | buffer} -> a typed array with its shape
export function array(packed, buffers) {
  if (!packed) return null;
  const raw = packed.data ?? buffers?.[packed.buffer];
  if (!raw) return null;
  const bytes = bytesOf(raw);
  const type = TYPES[packed.dtype];
  const aligned = bytes.byteOffset % type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  const found = new type(aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / type.BYTES_PER_ELEMENT));
  found.shape = packed.shape;
  return found;
}

export function bytesOf(raw) {
  if (raw instanceof ArrayBuffer) return new Uint8Array(raw);
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
}

// JPEG bytes -> something that can be drawn
export async function bitmap(raw) {
  if (!raw || !raw.byteLength) return null;
  const blob = new Blob([bytesOf(raw)], { type: "image/jpeg" });
  if (self.createImageBitmap) return createImageBitmap(blob);
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  await image.decode();
  URL.revokeObjectURL(image.src);
  return image;
}

// Where tile `i` lies on a sheet: the arguments of drawImage for its source
export function tileOf(sheet, i) {
  return [(i % sheet.columns) * sheet.width, Math.floor(i / sheet.columns) * sheet.height, sheet.width, sheet.height];
}

// One tile as a picture of its own size; nothing where the sheet has not come.
export function thumb(image, sheet, i, kind) {
  if (!image || i >= sheet.n) return null;
  const canvas = h("canvas", { width: sheet.width, height: sheet.height, class: kind, "aria-hidden": "true" });
  canvas.getContext("2d").drawImage(image, ...tileOf(sheet, i), 0, 0, sheet.width, sheet.height);
  return canvas;
}

export class Dropped extends Error {}
export class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.problem = error;
  }
}

// Questions: each gets a number and exactly one answer. With a topic, only the newest counts.
export class Questions {
  constructor(model) {
    this.model = model;
    this.mine = Math.random().toString(36).slice(2, 8);
    this.count = 0;
    this.open = new Map();
    this.newest = new Map();
    this.listen = (message, buffers) => this.take(message, buffers);
    model.on("msg:custom", this.listen);
  }

  get waiting() {
    return this.open.size;
  }

  ask(kind, body = {}, { topic = null, buffers = [] } = {}) {
    const id = `${this.mine}-${++this.count}`;
    if (topic) {
      const old = this.newest.get(topic);
      this.finish(old, (question) => question.no(new Dropped()));
      this.newest.set(topic, id);
    }
    return new Promise((yes, no) => {
      this.open.set(id, { yes, no, pieces: [] });
      try {
        this.model.send({ kind, id, body }, undefined, buffers);
      } catch (error) {
        this.finish(id, () => no(new Refused({ message: "There is no kernel to ask.", hint: "Start one and run the cells again." })));
      }
    });
  }

  take(message, buffers) {
    if (message?.kind !== "answer" || !this.open.has(message.to)) return; // another page's, or no longer wanted
    const question = this.open.get(message.to);
    if (message.dropped) return this.finish(message.to, () => question.no(new Dropped()));
    if (!message.ok) return this.finish(message.to, () => question.no(new Refused(message.error)));
    message.pieces.forEach((number, i) => (question.pieces[number] ||= []).push(bytesOf(buffers[i])));
    if (message.part < message.of - 1) return;
    const whole = question.pieces.map(join);
    this.finish(message.to, () => question.yes({ result: message.result, buffers: whole }));
  }

  finish(id, tell) {
    const question = this.open.get(id);
    if (!question) return;
    this.open.delete(id);
    tell(question);
  }

  close() {
    this.model.off("msg:custom", this.listen);
    this.open.clear();
  }
}

function join(pieces) {
  if (pieces.length === 1) return pieces[0];
  const whole = new Uint8Array(pieces.reduce((n, piece) => n + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

// Keeps the most recently used of what costs memory, and releases the rest.
export class Cache {
  constructor(limit, release = () => {}) {
    this.limit = limit;
    this.release = release;
    this.items = new Map();
  }

  get(key) {
    const item = this.items.get(key);
    if (item !== undefined) {
      this.items.delete(key);
      this.items.set(key, item);
    }
    return item;
  }

  has(key) {
    return this.items.has(key);
  }

  set(key, item) {
    this.items.delete(key);
    this.items.set(key, item);
    while (this.items.size > this.limit) {
      const [oldest, old] = this.items.entries().next().value;
      this.items.delete(oldest);
      this.release(old);
    }
  }

  clear() {
    for (const item of this.items.values()) this.release(item);
    this.items.clear();
  }
}
