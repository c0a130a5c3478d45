// A re-evaluation: each measure as dots with intervals, a line for each model, and as a table.
import { grouped, h, number, percent, replace, signed } from "../common/index.js";

const share = (value) => percent(value, 1).replace(".0", "");
const SYMBOLS = ["wb-ring", "wb-point", "wb-square", "wb-diamond"];

export function reportOf() {
  const words = h("p", { class: "wb-report-words" });
  const warnings = h("ul", { class: "wb-warnings", "aria-label": "What to know of the re-evaluation" });
  const key = h("div", { class: "wb-legend", "aria-hidden": "true" });
  const measures = h("div", { class: "wb-measures" });
  const table = h("details", { class: "wb-report-table" });
  const head = h("h3", { class: "wb-h" });
  const node = h("section", { class: "wb-report", "aria-label": "Re-evaluation" }, h("div", { class: "wb-column-head" }, head, key), words, warnings, measures, table);

  function draw(given, names) {
    node.hidden = !given.models;
    if (!given.models) return;
    replace(head, "What it bought and cost ", h("span", { class: "wb-quiet" }, `${grouped(given.n)} pairs${given.n_origins < given.n ? ` of ${grouped(given.n_origins)} originals` : ""} with and without ${given.artifact}`));
    replace(key, given.models.flatMap((name, i) => [h("i", { class: SYMBOLS[i % SYMBOLS.length] }), h("span", { class: name === names[1] ? "wb-mine" : "" }, name)]));
    replace(words, given.changes.map((one) => h("span", { class: "wb-change" }, h("b", {}, one.model), ": ",
      sentence("clean", one.clean), "; ", sentence(`with ${given.artifact}`, one.attacked),
      given.others.length ? (one.unmoved.length ? h("b", { class: "wb-unmoved" }, `; still costs accuracy: ${one.unmoved.join(", ")}`) : "; no other artifact costs as much still") : "", ".")));
    warnings.hidden = !given.warnings.length;
    replace(warnings, given.warnings.map((text) => h("li", {}, text)));
    replace(measures, given.measures.map((one) => measure(one, given.models)));
    replace(table, h("summary", {}, "All numbers"), h("div", { class: "wb-scroll", tabIndex: 0, role: "group", "aria-label": "All numbers of the re-evaluation" },
      h("table", { class: "wb-table" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "model"), given.models.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, given.columns.map((name, k) => h("tr", {}, h("th", { scope: "row" }, name.replaceAll("_", " ")), given.table.map((row) => h("td", {}, number(row[k])))))))));
  }

  function sentence(kind, [change, low, high, p]) {
    const range = low === null ? "" : ` (${signed(100 * low, 2)} to ${signed(100 * high, 2)})`;
    return `${kind} ${signed(100 * change, 2)} points${range}, p ${p < 0.001 ? "< 0.001" : `= ${number(p, 2)}`}`;
  }

  function measure(one, models) {
    const text = one.unit === "share" ? share : (value) => number(value);
    const ends = one.rows.flat().filter((v) => v !== null);
    const low = Math.min(0, ...ends), high = one.unit === "share" || one.group === "probe" ? Math.max(1, ...ends) : Math.max(one.baseline || 0, ...ends) * 1.06 || 1;
    const isGap = one.group === "gap" || one.group === "relevance", top = isGap ? Math.max(0.05, ...ends, one.baseline || 0) * 1.06 : high;
    const at = (value) => (100 * (value - low)) / (top - low || 1);
    const better = { high: "higher is better", low: "lower is better" }[one.better] || "";
    const isBad = one.note.startsWith("Still costs");
    return h("div", { class: "wb-measure" },
      h("div", { class: "wb-measure-name" }, h("span", {}, one.name), h("span", { class: "wb-quiet" }, better)),
      h("div", { class: "wb-measure-rows", role: "list", "aria-label": one.name }, one.rows.map(([value, from, to], i) => {
        const range = value !== null && from !== null && to !== null ? `${text(from)} to ${text(to)}` : "";
        return h("div", { class: "wb-measure-row", role: "listitem", title: `${models[i]}: ${text(value)}${range ? `, ${range}` : ""}` },
          h("span", { class: "wb-measure-model" }, models[i]),
          h("span", { class: "wb-track" }, low < 0 && h("i", { class: "wb-zero", style: { left: `${at(0)}%` } }),
            one.baseline !== null && h("i", { class: "wb-base-line", style: { left: `${at(one.baseline)}%` } }),
            range && h("i", { class: "wb-interval", style: { left: `${at(from)}%`, width: `${at(to) - at(from)}%` } }),
            value !== null && h("i", { class: SYMBOLS[i % SYMBOLS.length], style: { left: `${at(value)}%` } })),
          h("span", { class: "wb-measure-value" }, h("b", {}, text(value)), range ? h("span", { class: "wb-quiet" }, ` ${range}`) : ""));
      })),
      one.note ? h("p", { class: isBad ? "wb-unmoved" : "wb-quiet" }, isBad ? "▲ " : "", one.note) : null);
  }
  return { node, draw };
}
