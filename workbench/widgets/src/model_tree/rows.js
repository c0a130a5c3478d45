// The rows of the tree as data: who is below whom, what a query leaves, what is checked below each.

export class Rows {
  constructor(tree, components, parents) {
    Object.assign(this, { names: tree.names || [], labels: tree.labels || [], kinds: tree.kinds || [], reasons: tree.reasons || [], shapes: tree.shapes || [], components, parents });
    this.n = this.names.length;
    this.place = new Map(this.names.map((name, i) => [name, i]));
    this.below = this.names.map(() => []);
    this.depth = new Array(this.n).fill(0);
    for (let i = 1; i < this.n; i++) {
      this.below[parents[i]].push(i);
      this.depth[i] = this.depth[parents[i]] + 1;
    }
    this.text = this.names.map((name, i) => `${name} ${this.kinds[i]}`.toLowerCase());
    this.filter("");
  }

  isLayer(i) {
    return this.kinds[i] !== "" || this.components[i] > 0;
  }

  isUsable(i) {
    return this.isLayer(i) && !this.reasons[i];
  }

  // Rows with all words of the query, and what leads to them.
  filter(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    this.isFiltered = words.length > 0;
    this.fits = this.text.map((text, i) => this.isLayer(i) && words.every((word) => text.includes(word)));
    this.leads = [...this.fits];
    for (let i = this.n - 1; i > 0; i--) if (this.leads[i]) this.leads[this.parents[i]] = true;
    if (this.n) this.leads[0] = true;
    this.count = this.fits.filter(Boolean).length;
  }

  // As many levels as are easy to survey.
  easy(most = 60) {
    const levels = [];
    for (const depth of this.depth) levels[depth] = (levels[depth] || 0) + 1;
    let open = 1, shown = (levels[0] || 0) + (levels[1] || 0);
    while (open < levels.length && shown + (levels[open + 1] || 0) <= most) {
      open += 1;
      shown += levels[open] || 0;
    }
    return this.names.filter((_, i) => this.below[i].length && this.depth[i] < open);
  }

  // What is on show, from the top; a query unfolds what leads to its rows.
  shown(expanded) {
    const found = [], open = new Set(expanded);
    const walk = (i) => {
      found.push(i);
      if (this.isFiltered || open.has(this.names[i])) for (const child of this.below[i]) if (this.leads[child]) walk(child);
    };
    if (this.n) walk(0);
    return found;
  }

  // The usable layers at and below a row that the query leaves.
  under(i) {
    const found = [];
    const walk = (at) => {
      if (this.fits[at] && this.isUsable(at)) found.push(at);
      for (const child of this.below[at]) walk(child);
    };
    walk(i);
    return found;
  }

  // For each row: how many usable layers at and below it the query leaves, and how many of these are in a set.
  counts(names) {
    const total = new Uint32Array(this.n), inside = new Uint32Array(this.n);
    for (let i = this.n - 1; i >= 0; i--) {
      if (this.fits[i] && this.isUsable(i)) {
        total[i] += 1;
        if (names.has(this.names[i])) inside[i] += 1;
      }
      if (i > 0) {
        total[this.parents[i]] += total[i];
        inside[this.parents[i]] += inside[i];
      }
    }
    return { total, inside };
  }
}
