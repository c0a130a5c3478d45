// The traits of the model, and what must be undone when the view goes.

export class State {
  constructor(model) {
    this.model = model;
    this.undo = [];
  }

  get(name) {
    return this.model.get(name);
  }

  // Set view state and tell Python of it, once.
  put(values) {
    let changed = false;
    for (const [name, value] of Object.entries(values)) {
      if (same(this.model.get(name), value)) continue;
      this.model.set(name, value);
      changed = true;
    }
    if (changed) this.model.save_changes();
    return changed;
  }

  // Call back on changes of any of the names, and once now.
  watch(names, call) {
    this.on(names, call);
    call();
  }

  on(names, call) {
    for (const name of [names].flat()) {
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

function same(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
