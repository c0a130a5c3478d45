// What is known of the samples, and which of them are on show in which order: by the rules of `sample_rows.py`.
import { array, bytesOf, number } from "../common/index.js";

const QUOTE = "\"";
const TEST = /^([^:<>=]+)(:|<=|>=|<|>|=)([^]*)$/;

export class Rows {
  constructor() {
    this.n = 0;
    this.columns = new Map();
    this.tags = [];
    this.cache = new Map();
  }

  // The table as Python sent it; texts come compressed, and `onready` is called when they can be read.
  load({ n, columns = [], is_named: isNamed, digest }, values, onready) {
    Object.assign(this, { n: n || 0, isNamed, digest });
    this.columns = new Map();
    this.cache.clear();
    for (const facts of columns) {
      const column = { ...facts };
      const packed = values?.[facts.name];
      if (facts.kind === "text") {
        column.values = null;
        if (packed) inflated(packed).then((texts) => {
          if (this.columns.get(facts.name) !== column) return;
          column.values = texts;
          this.cache.clear();
          onready();
        });
      } else column.values = packed ? array(packed) : Int32Array.from({ length: this.n }, (_, i) => i);
      this.columns.set(facts.name, column);
    }
  }

  loadTags({ names = [], counts = [], bits }) {
    const all = array(bits), wide = Math.ceil(this.n / 8);
    this.tags = names.map((name, k) => ({ name, count: counts[k], bits: all?.subarray(k * wide, (k + 1) * wide) }));
    for (const key of [...this.cache.keys()]) if (/tag|haystack/.test(key)) this.cache.delete(key);
  }

  get names() {
    const own = [...this.columns.keys()], at = own.indexOf("origin") + 1 || own.length;
    return [...own.slice(0, at), "tags", ...this.tags.map((tag) => `tag:${tag.name}`), ...own.slice(at)];
  }

  keep(key, make) {
    if (!this.cache.has(key)) this.cache.set(key, make());
    return this.cache.get(key);
  }

  has(tag, i) {
    return (tag.bits[i >> 3] >> (7 - (i & 7))) & 1;
  }

  tagsOf(i) {
    return this.tags.filter((tag) => this.has(tag, i)).map((tag) => tag.name);
  }

  // A column as it is compared: kind, values, and names of categories; -1 where nothing is known.
  column(name) {
    if (name === "tags") return this.keep("column tags", () => category(Array.from({ length: this.n }, (_, i) => this.tagsOf(i).join(", "))));
    if (name.startsWith("tag:")) {
      return this.keep(`column ${name}`, () => {
        const tag = this.tags.find((one) => one.name === name.slice(4));
        return { kind: "category", names: ["yes", "no"], values: Int8Array.from({ length: this.n }, (_, i) => (tag && this.has(tag, i) ? 0 : 1)) };
      });
    }
    return this.columns.get(name);
  }

  text(name, i) {
    if (name === "tags") return this.tagsOf(i).join(", ");
    const column = this.column(name);
    if (!column) return "";
    const value = column.values?.[i];
    if (column.kind === "text") return value ?? "";
    if (column.kind === "category") return column.names[value] ?? "";
    return Number.isFinite(value) ? (column.is_whole ? String(value) : number(value)) : "";
  }

  // Filter -------------------------------------------------------------------------------------------------------------

  matching(query) {
    const tests = words(query).map((word) => {
      const isTurned = word.length > 1 && word[0] === "-";
      const test = this.test(isTurned ? word.slice(1) : word);
      return isTurned ? (i) => !test(i) : test;
    });
    return tests.length ? (i) => tests.every((test) => test(i)) : null;
  }

  test(word) {
    if (word.startsWith("tag:")) {
      const tag = this.tags.find((one) => one.name.toLowerCase().replaceAll(QUOTE, "") === word.slice(4));
      return tag ? (i) => this.has(tag, i) : () => false;
    }
    if (word === "is:tagged" || word === "is:untagged") {
      const wanted = word === "is:tagged";
      return (i) => this.tags.some((tag) => this.has(tag, i)) === wanted;
    }
    if (word === "is:wrong") return (i) => this.isWrong(i);
    const [, head, sign, value] = word.match(TEST) || [];
    const name = head && ["tags", ...this.columns.keys()].find((one) => one.toLowerCase() === head);
    if (!name) return (i) => this.haystack(i).includes(word);
    const column = this.column(name), { values } = column;
    if (column.kind === "number") {
      const limit = value.trim() === "" ? NaN : Number(value);
      if (sign === "<") return (i) => values[i] < limit;
      if (sign === ">") return (i) => values[i] > limit;
      if (sign === "<=") return (i) => values[i] <= limit;
      if (sign === ">=") return (i) => values[i] >= limit;
      return (i) => values[i] === limit;
    }
    if (sign !== ":" && sign !== "=") return () => false;
    const holds = (text) => (sign === "=" ? text.toLowerCase() === value : text.toLowerCase().includes(value));
    if (column.kind === "text") return (i) => holds(values?.[i] ?? "");
    const hits = column.names.map(holds), none = holds("");
    return (i) => hits[values[i]] ?? none;
  }

  isWrong(i) {
    const label = this.text("label", i), prediction = this.text("prediction", i);
    return label !== "" && prediction !== "" && label !== prediction;
  }

  haystack(i) {
    const texts = this.keep("haystack", () => {
      const parts = ["name", "label", "prediction", "tags"].filter((name) => name !== "name" || this.isNamed);
      return Array.from({ length: this.n }, (_, k) => parts.map((name) => this.text(name, k)).join("\0").toLowerCase());
    });
    return texts[i];
  }

  // Order and groups ---------------------------------------------------------------------------------------------------

  key(name) {
    return this.keep(`tag key ${name}`, () => {
      const column = this.column(name), key = new Float64Array(this.n).fill(Infinity);
      if (!column?.values) return key;
      if (column.kind === "text") {
        const rank = new Map([...new Set(column.values)].sort(compare).map((text, at) => [text, at]));
        column.values.forEach((text, i) => text && (key[i] = rank.get(text)));
      } else if (column.kind === "number") for (let i = 0; i < this.n; i++) key[i] = Number.isNaN(column.values[i]) ? Infinity : column.values[i];
      else for (let i = 0; i < this.n; i++) if (column.values[i] >= 0) key[i] = column.values[i];
      return key;
    });
  }

  groups(name) {
    return this.keep(`tag groups ${name}`, () => {
      let column = this.column(name);
      if (!column?.values) return { codes: new Int32Array(this.n), names: [""] };
      if (column.kind === "text") column = category(column.values.map((text) => text.slice(0, Math.max(0, text.lastIndexOf("/")))));
      else if (column.kind === "number" && column.is_whole) {
        const unique = [...new Set(column.values)].sort((a, b) => a - b), place = new Map(unique.map((v, k) => [v, k]));
        column = { names: unique.map(String), values: Int32Array.from(column.values, (v) => place.get(v)) };
      } else if (column.kind === "number") {
        const { low, high, bins } = column;
        const of = (v) => (Number.isFinite(v) ? Math.max(0, Math.min(bins.length - 1, Math.floor(((v - low) / (high - low || 1)) * bins.length))) : -1);
        column = { names: bins, values: Int32Array.from(column.values, of) };
      }
      return { codes: Int32Array.from(column.values, (v) => (v < 0 ? column.names.length : v)), names: [...column.names, ""] };
    });
  }

  // Positions of the samples on show, in the order on show; `only` marks those that may be.
  order({ filter, sort, ascending, group_by: groupBy }, only) {
    const fits = this.matching(filter);
    const found = new Uint32Array(this.n);
    let count = 0;
    for (let i = 0; i < this.n; i++) if ((!only || only[i]) && (!fits || fits(i))) found[count++] = i;
    const order = found.subarray(0, count);
    if (sort === "sample" && ascending && !groupBy) return order;
    const key = this.key(sort), way = ascending ? 1 : -1;
    const group = groupBy ? this.groups(groupBy).codes : null;
    return order.sort((a, b) => {
      if (group && group[a] !== group[b]) return group[a] - group[b];
      if (key[a] === key[b]) return a - b;
      if (key[a] === Infinity) return 1;
      if (key[b] === Infinity) return -1;
      return way * (key[a] - key[b]);
    });
  }
}

export function words(query) {
  return (query.toLowerCase().match(/(?:"[^"]*"?|[^\s"])+/g) || []).map((word) => word.replaceAll('"', "")).filter(Boolean);
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function category(texts) {
  const names = [...new Set(texts)].filter(Boolean).sort(compare);
  const code = new Map(names.map((name, k) => [name, k]));
  return { kind: "category", names, values: Int32Array.from(texts, (text) => code.get(text) ?? -1) };
}

async function inflated(packed) {
  const bytes = bytesOf(packed.data);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return (await new Response(stream).text()).split("\0");
}
