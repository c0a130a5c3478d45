// What is known of components, by what each record belongs to: what was seen once is drawn again at once.
import { Cache } from "../common/index.js";

const KEYS = {
  references: (one) => [one.component, one.by, one.mode, one.n, one.quantile],
  spread: (one) => [one.component, one.quantity],
  mark: (one) => [one.component, one.quantity, one.sample],
  classes: (one) => [one.component, one.by],
  related: (one) => [one.component],
  contrast: (one) => [one.component],
};

export const KINDS = Object.keys(KEYS);

export class Records {
  constructor() {
    this.kept = Object.fromEntries(KINDS.map((kind) => [kind, new Cache(kind === "references" ? 64 : 160)]));
  }

  take(kind, record) {
    if (!record?.component) return;
    const key = JSON.stringify(KEYS[kind](record)), old = this.kept[kind].get(key);
    if (!(record.is_preview && old && !old.is_preview)) this.kept[kind].set(key, record);
  }

  get(kind, ...key) {
    return this.kept[kind].get(JSON.stringify(key));
  }
}
