// The traits of the model, what the widget shares with others on the page, and what must be undone when the view goes.
import { paced } from "./dom.js";
import { membersOf, packMembers } from "./members.js";
import { isFramed, pageName, same, twinOf } from "./twin.js";

const SETS = new Set(["components", "samples"]);

export class State {
  constructor(model) {
    this.model = model;
    this.undo = [];
    this.twin = twinOf(model.get("_group"));
    this.shared = new Set([...(model.get("_follows") || []), "hover", "opened"]);
    this.calls = new Map();
    for (const field of model.get("_follows") || []) {
      const hear = () => this.hear(field);
      model.on(`change:${field}`, hear);
      this.undo.push(() => model.off(`change:${field}`, hear));
      hear();
    }
    this.undo.push(this.twin.listen((field, origin) => this.calls.get(field)?.forEach((call) => call(origin))));
    this.tellHover = paced(100, (hover) => this.say({ hover }));
    this.undo.push(() => this.tellHover.stop());
    const point = () => this.twin.point(model.get("_hover")?.id ?? null);
    model.on("change:_hover", point);
    this.undo.push(() => model.off("change:_hover", point));
    if (isFramed && model.get("_group")) this.introduce();
  }

  get(name) {
    return this.shared.has(name) ? this.twin.get(name) : this.model.get(name);
  }

  // Set view state and tell Python of it, once. What is shared reaches the other widgets of the page at once.
  put(values) {
    const changed = {}, said = {};
    for (const [name, value] of Object.entries(values)) {
      if (!this.shared.has(name)) {
        if (!same(this.model.get(name), value)) changed[name] = value;
      } else if (this.twin.put(name, value, this)) {
        said[name] = SETS.has(name) ? packMembers(value, this.model.get("_tables")) : value;
      }
    }
    for (const [name, value] of Object.entries(changed)) this.model.set(name, value);
    if (Object.keys(said).length) this.say(said);
    else if (Object.keys(changed).length) this.model.save_changes();
    return Object.keys(changed).length + Object.keys(said).length > 0;
  }

  // Whether a choice leads somewhere: on a page without a kernel only to what was recorded in it.
  leadsOn(values) {
    return this.get("status") !== "still" || (this.model.isRecorded?.(values) ?? true);
  }

  // What lies under the pointer: for the other widgets; for Python only if someone there listens, or if other widgets
  // may live in other frames, which it then tells.
  hover(id) {
    if (this.twin.put("hover", id, this) && (isFramed || this.model.get("_wants_hover"))) this.tellHover(id);
  }

  introduce() {
    this.model.set("_said", { page: pageName, number: 0, values: {} });
    this.model.save_changes();
  }

  // Bring the widgets of a kind that share this selection into sight: a double click opens the card.
  open(kind) {
    this.twin.put("opened", { kind, at: performance.now() }, this);
  }

  say(values) {
    const number = Math.max(...Object.keys(values).map((field) => this.twin.changed.get(field) || 0));
    // Also as traits, so that `jslink` and whoever else watches this model hears of it.
    for (const [name, value] of Object.entries(values)) if (name !== "hover") this.model.set(name, value);
    this.model.set("_said", { page: pageName, number, values });
    this.model.save_changes();
  }

  hear(field) {
    const value = this.model.get(field);
    const heard = this.model.get("_seen")?.[pageName] || 0;
    this.twin.take(field, SETS.has(field) ? membersOf(value) : value ?? null, heard, this);
  }

  // Call back on changes of any of the names, and once now.
  watch(names, call) {
    this.on(names, call);
    call();
  }

  on(names, call) {
    for (const name of [names].flat()) {
      if (this.shared.has(name)) {
        if (!this.calls.has(name)) this.calls.set(name, new Set());
        this.calls.get(name).add(call);
        this.undo.push(() => this.calls.get(name).delete(call));
        continue;
      }
      this.model.on(`change:${name}`, call);
      this.undo.push(() => this.model.off(`change:${name}`, call));
    }
  }

  listen(target, kind, call, options) {
    target.addEventListener(kind, call, options);
    this.undo.push(() => target.removeEventListener(kind, call, options));
  }

  later(undo) {
    this.undo.push(undo);
  }

  close() {
    for (const undo of this.undo.splice(0).reverse()) undo();
  }
}
