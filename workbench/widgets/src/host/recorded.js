// The other end of a widget in an exported file: answers from what was recorded, and says where it has nothing.
import { membersOf } from "../common/members.js";
import { twinOf } from "../common/twin.js";

const SETS = new Set(["components", "samples"]);

export class Recorded {
  constructor({ recordings = [], answers = [], saved = "" }, whole, buffers) {
    this.saved = saved;
    this.answers = new Map(answers.map(({ question, result, at }) => [canonical(question), { result, buffers: at.map((i) => buffers[i]) }]));
    // Recordings by what they depend on: all that depend on component and order are looked up by these two.
    this.tables = new Map();
    for (const one of recordings) {
      const names = Object.keys(one.when).sort(), key = names.join();
      if (!this.tables.has(key)) this.tables.set(key, { names, found: new Map() });
      this.tables.get(key).found.set(canonical(names.map((name) => one.when[name])), one);
    }
    this.whole = (one) => (one.done ||= whole(one));
  }

  follow(model) {
    this.model = model;
    const twin = twinOf(model.get("_group"));
    for (const field of model.get("_follows") || []) {
      twin.listen(() => {
        const value = twin.get(field), own = model.get(field);
        if (canonical(SETS.has(field) ? membersOf(own) : own) === canonical(value)) return;
        model.put({ [field]: value });
        this.look([field]);
      });
    }
    model.put({ message: this.saved });
  }

  save(model, changed) {
    this.look(Object.keys(changed));
  }

  // Show what was recorded for the present state, where it depends on one of the names.
  look(names) {
    const missing = [];
    for (const table of this.tables.values()) {
      if (!table.names.some((name) => names.includes(name))) continue;
      const values = table.names.map((name) => this.model.get(name) ?? null);
      const one = table.found.get(canonical(values));
      if (one) this.model.put(this.whole(one));
      else if (values.every((value) => value !== null && value !== "")) missing.push(table.names.map((name, i) => `${name} ${values[i]}`).join(", "));
    }
    const message = missing.length ? `Not in this page: ${missing[0]}. It needs the session.` : this.saved;
    if (message !== this.model.get("message")) this.model.put({ message });
  }

  // Whether anything was recorded for the present state with these values in it.
  has(model, values) {
    for (const table of this.tables.values()) {
      if (!table.names.some((name) => name in values)) continue;
      if (table.found.has(canonical(table.names.map((name) => (name in values ? values[name] : model.get(name)) ?? null)))) return true;
    }
    return false;
  }

  send(model, { kind, id, body }) {
    const found = this.answers.get(canonical([kind, body]));
    const head = { kind: "answer", to: id, part: 0, of: 1 };
    // Later, as from a kernel: who asks does not expect the answer before the question has ended.
    queueMicrotask(() => {
      if (found) model.emit("msg:custom", { ...head, ok: true, result: found.result, pieces: found.buffers.map((_, i) => i) }, found.buffers);
      else model.emit("msg:custom", { ...head, ok: false, dropped: true });
    });
  }
}

// JSON with sorted names, so that equal things have equal text
function canonical(value) {
  return JSON.stringify(value, (_, one) => (one && typeof one === "object" && !Array.isArray(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one));
}
