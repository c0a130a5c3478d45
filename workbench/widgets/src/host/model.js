// What stands in for a notebook's model of a widget: get, set, on, off, save_changes, send.

export class Model {
  // `link.save(model, changed)` and `link.send(model, content, buffers)` are the other end.
  constructor(id, state, link) {
    Object.assign(this, { id, state, link, changed: {}, calls: new Map() });
  }

  get(name) {
    return this.state[name];
  }

  set(name, value) {
    if (equal(this.state[name], value)) return;
    this.changed[name] = value;
    this.put({ [name]: value });
  }

  // What comes from the other end: changes nothing there.
  put(state) {
    for (const [name, value] of Object.entries(state)) this.state[name] = value;
    for (const name of Object.keys(state)) this.emit(`change:${name}`);
  }

  save_changes() {
    const changed = this.changed;
    this.changed = {};
    if (Object.keys(changed).length) this.link.save(this, changed);
  }

  send(content, callbacks, buffers = []) {
    this.link.send(this, content, buffers);
  }

  // Whether there is something to show for these values, on a page that knows.
  isRecorded(values) {
    return this.link.has ? this.link.has(this, values) : true;
  }

  on(name, call) {
    if (!this.calls.has(name)) this.calls.set(name, new Set());
    this.calls.get(name).add(call);
  }

  off(name, call) {
    this.calls.get(name)?.delete(call);
  }

  emit(name, ...args) {
    for (const call of [...(this.calls.get(name) || [])]) call(...args);
  }
}

function equal(a, b) {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  if (ArrayBuffer.isView(a) || ArrayBuffer.isView(b)) return ArrayBuffer.isView(a) && ArrayBuffer.isView(b) && isSameBytes(bytes(a), bytes(b));
  const [keys, others] = [Object.keys(a), Object.keys(b)];
  return Array.isArray(a) === Array.isArray(b) && keys.length === others.length && keys.every((key) => equal(a[key], b[key]));
}

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const isSameBytes = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
