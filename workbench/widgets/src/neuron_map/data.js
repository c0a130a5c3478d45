// What the map shows: points with their ids and columns, and what colour, size, symbol and filter make of them.
import { array, membersOf, nameOf, number, scaleOf } from "../common/index.js";

export const SIZES = 8; // steps of size
const LEVELS = 65535; // of a coordinate that is sent in 16 bits

const step = (part, span) => Math.round(Math.max(0, Math.min(1, part / (span || 1))) * (SIZES - 1));

export class Data {
  constructor() {
    Object.assign(this, { n: 0, columns: [], values: {}, names: [], digest: "", of: "components", only: null, written: {} });
  }

  load(given, values) {
    const packed = array(given.position);
    this.position = packed instanceof Float32Array ? packed : Float32Array.from(packed, (v) => v / LEVELS);
    Object.assign(this, { n: given.n, of: given.of, layer: given.layer, basis: given.basis, digest: given.digest, names: given.cluster_names, labels: given.labels || null });
    this.prefix = given.of === "components" ? `${given.layer}/${given.basis}/` : "";
    this.index = given.index ? array(given.index) : null;
    this.rows = this.index ? new Map(Array.from(this.index, (number, row) => [number, row])) : null;
    this.apart = given.apart ? array(given.apart) : null;
    this.block = given.block ? array(given.block) : null;
    this.columns = this.plain = given.columns;
    this.largest = null;
    this.known = this.digest;
    this.values = {};
    this.take(values);
    this.shown = new Uint8Array(this.n).fill(1);
    this.nShown = this.n;
  }

  // Columns come one by one where there are many; those that have come stay.
  take(values) {
    for (const [name, packed] of Object.entries(values || {})) this.values[name] = array(packed);
    if (values?.class_relevance) this.largest = null;
  }

  // The relevance for one class stands in the column of the largest over all classes, until another is chosen.
  takeClass(given) {
    const is = Boolean(given?.facts) && given.values.shape[0] === this.n;
    if (is || this.largest) {
      this.largest ||= this.values.class_relevance || null;
      this.values.class_relevance = is ? array(given.values) : this.largest;
    }
    this.columns = this.plain.map((one) => (is && one.name === "class_relevance" ? { ...given.facts, title: `relevance for ${given.name}` } : one));
    if (!is) this.largest = null;
  }

  id(row) {
    const number = this.index ? this.index[row] : row;
    return this.prefix ? this.prefix + number : number;
  }

  // The label that people gave to a component.
  label(row) {
    return (this.of === "components" && this.written[this.id(row)]) || "";
  }

  row(id) {
    if (id === null || id === undefined || id === "") return -1;
    if (this.prefix ? !String(id).startsWith(this.prefix) : typeof id !== "number") return -1;
    const number = this.prefix ? Number(String(id).slice(this.prefix.length)) : id;
    if (this.rows) return this.rows.get(number) ?? -1;
    return number < this.n ? number : -1;
  }

  rowsOf(ids) {
    return membersOf(ids).map((id) => this.row(id)).filter((row) => row >= 0);
  }

  name(row) {
    const number = this.index ? this.index[row] : row;
    if (this.labels) return this.labels[row];
    return this.of === "components" ? nameOf(this.id(row), this.written) : this.layer ? `sample ${number}` : `point ${number}`;
  }

  column(name) {
    return this.columns.find((one) => one.name === name) || null;
  }

  reading(row, name) {
    const column = this.column(name), values = this.values[name];
    if (!column || !values) return "";
    return column.kind === "category" ? column.names?.[values[row]] ?? "–" : number(values[row]);
  }

  cluster(row) {
    return this.values.cluster ? this.names[this.values.cluster[row]] || "" : "";
  }

  // Groups of a column of words, largest first.
  order(column) {
    if (column.order && column.at === this.values[column.name]) return column.order;
    const values = this.values[column.name], sizes = new Map();
    if (!values) return [];
    for (let i = 0; i < this.n; i++) if (values[i] >= 0) sizes.set(values[i], (sizes.get(values[i]) || 0) + 1);
    column.sizes = sizes;
    column.at = values;
    return (column.order = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || a - b));
  }

  // Colour: a code per point, 0 for "other" and for no number, and the colour of each code.
  colour(name, palette, dark) {
    const column = this.column(name), values = column && this.values[name];
    const codes = new Uint8Array(this.n);
    const scale = this.scaleOf(column, palette, dark);
    if (values) for (let i = 0; i < this.n; i++) codes[i] = scale.bucket(values[i]) + 1;
    const count = column?.kind === "category" ? 9 : 65;
    const colours = Array.from({ length: count }, (_, code) => (values && scale.colour(code - 1)) || [138, 138, 138]);
    if (!values) colours[0] = [86, 120, 160];
    return { column: values ? column : null, scale, codes, colours };
  }

  scaleOf(column, palette, dark) {
    if (!column) return scaleOf({ kind: "number", low: 0, high: 1 }, palette, dark);
    return scaleOf(column.kind === "category" ? { ...column, order: this.order(column) } : column, palette, dark);
  }

  // Size: steps from 0 to SIZES - 1; two-sided quantities by how far from zero they are, words by how many share them.
  size(name) {
    const column = this.column(name), values = column && this.values[name];
    if (!values) return null;
    if (column.kind === "category") {
      this.order(column);
      const counts = [...column.sizes.values()], [low, high] = [Math.min(...counts), Math.max(...counts)];
      return { column, low, high, steps: Uint8Array.from(values, (code) => step((column.sizes.get(code) ?? 0) - low, high - low)) };
    }
    const [low, high] = column.is_signed ? [0, Math.max(-column.bulk[0], column.bulk[1])] : column.bulk[1] > column.bulk[0] ? column.bulk : [column.low, column.high];
    const steps = new Uint8Array(this.n);
    for (let i = 0; i < this.n; i++) {
      const v = column.is_signed ? Math.abs(values[i]) : values[i];
      steps[i] = Number.isFinite(v) ? step(v - low, high - low) : 0;
    }
    return { column, steps, low, high };
  }

  // Symbol: one of eight; what is beyond the eighth group shares the last. Numbers are cut into four parts.
  symbol(name) {
    const column = this.column(name), values = column && this.values[name];
    if (!values) return null;
    const symbols = new Uint8Array(this.n);
    if (column.kind === "category") {
      const order = this.order(column), slot = new Map(order.map((code, at) => [code, order.length > 8 ? Math.min(at, 7) : at]));
      for (let i = 0; i < this.n; i++) symbols[i] = slot.get(values[i]) ?? 7;
      const labels = order.slice(0, order.length > 8 ? 7 : 8).map((code) => column.names?.[code] ?? String(code));
      return { column, symbols, labels: order.length > 8 ? [...labels, `${order.length - 7} others`] : labels };
    }
    const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
    const cuts = [0.25, 0.5, 0.75].map((q) => sorted[Math.floor(q * (sorted.length - 1))]);
    for (let i = 0; i < this.n; i++) symbols[i] = cuts.filter((cut) => values[i] > cut).length;
    return { column, symbols, labels: [`≤ ${number(cuts[0])}`, `≤ ${number(cuts[1])}`, `≤ ${number(cuts[2])}`, `> ${number(cuts[2])}`] };
  }

  // Which points pass: {column: [low, high]} for numbers, {column: [names]} for words; `only` a set besides.
  filter(filter, only) {
    const { n, shown } = this;
    shown.fill(1);
    for (const [name, wanted] of Object.entries(filter || {})) {
      const column = this.column(name), values = this.values[name];
      if (!column || !values) continue;
      if (column.kind === "category") {
        const names = new Set(wanted), passes = (column.names || []).map((one) => names.has(one));
        for (let i = 0; i < n; i++) if (!passes[values[i]]) shown[i] = 0;
      } else {
        const [low, high] = [wanted[0] ?? -Infinity, wanted[1] ?? Infinity];
        for (let i = 0; i < n; i++) if (!(values[i] >= low && values[i] <= high)) shown[i] = 0;
      }
    }
    if (only) for (let i = 0; i < n; i++) if (!only[i]) shown[i] = 0;
    this.nShown = 0;
    for (let i = 0; i < n; i++) this.nShown += shown[i];
  }

  // Rows that are shown, by a column: largest numbers first, groups as they are named.
  sorted(name) {
    const column = this.column(name), values = column && this.values[name], rows = new Uint32Array(this.nShown);
    for (let i = 0, at = 0; i < this.n; i++) if (this.shown[i]) rows[at++] = i;
    if (!values) return Array.from(rows);
    const place = column.kind === "category" ? new Map(this.order(column).map((code, at) => [code, at])) : null;
    const worth = new Float64Array(this.n);
    for (let i = 0; i < this.n; i++) worth[i] = place ? place.get(values[i]) ?? 1e9 : Number.isFinite(values[i]) ? -values[i] : Infinity;
    return Array.from(rows.sort((a, b) => (worth[a] === worth[b] ? a - b : worth[a] < worth[b] ? -1 : 1)));
  }
}
