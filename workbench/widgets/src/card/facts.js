// Classes, relatives and look-alikes of one component.
import { grouped, h, number, percent, plural, replace } from "../common/index.js";
import { fill, listbox, put, putWords } from "../common/options.js";

const WHERE = { near: "Near in meaning", before: "Before", after: "After" };

export function classesTable(node, given) {
  if (given.why || !given.classes.length) return replace(node, h("p", { class: "wb-none" }, given.why || "No classes are known."));
  const largest = Math.max(...given.classes.map((one) => Math.abs(one.mean ?? 0))) || 1;
  const grouping = given.by === "activation" ? "label" : "explained output";
  const rows = given.classes.map(({ name, mean, n }) => {
    const bar = h("i", { class: mean < 0 ? "wb-less" : "", style: { width: `${mean ? Math.max(2, (100 * Math.abs(mean)) / largest) : 0}%` } });
    return h("tr", {}, h("th", { scope: "row", title: name }, name), h("td", { class: "wb-class-bar", "aria-hidden": "true" }, bar), h("td", {}, number(mean)), h("td", {}, grouped(n)));
  });
  const head = h("tr", {}, h("th", { scope: "col" }, "Class"), h("th", { scope: "col", class: "wb-class-bar", "aria-hidden": "true" }), h("th", { scope: "col" }, "Mean"), h("th", { scope: "col" }, "Samples"));
  return replace(node,
    h("table", { class: "wb-classes" }, h("thead", {}, head), h("tbody", {}, rows)),
    h("p", { class: "wb-origin" }, `Mean ${given.by} per ${grouping}; ${number(given.mean)} over all ${plural(given.n_classes, "class", "classes")}.`));
}

export function relatedLists(node, given, { go, hover, nameOf, selected }) {
  if (given.why) return replace(node, h("p", { class: "wb-none" }, given.why));
  const canvases = [];
  const parts = given.groups.map(({ where, layer, components, correlation, n }) => {
    const title = h("h4", { class: "wb-h4" }, WHERE[where], h("span", {}, layer || ""));
    if (!layer) return h("div", { class: "wb-relation" }, title, h("p", { class: "wb-origin" }, `No layer ${where === "before" ? "before" : "after"} this one is stored.`));
    if (!components.length) return h("div", { class: "wb-relation" }, title, h("p", { class: "wb-origin" }, "None."));
    const list = listbox(`${WHERE[where]}: ${layer}`, "wb-relatives");
    put(list, components.map((component, i) => {
      const canvas = h("canvas", { width: 64, height: 64, "aria-hidden": "true" });
      canvases.push(canvas);
      const text = `${nameOf(component)}, correlation ${correlation[i].toFixed(2)}`;
      return h("div", {
        class: "wb-relative", role: "option", "data-id": component, "aria-label": text, "aria-selected": String(component === selected), title: `${component}\ncorrelation ${correlation[i].toFixed(3)} over ${n} samples`,
        onclick: () => go(component), onpointerenter: () => hover(component), onpointerleave: () => hover(null),
      }, canvas, h("span", { class: "wb-relative-name" }, nameOf(component)), h("span", { class: "wb-relative-value" }, correlation[i].toFixed(2)));
    }));
    return h("div", { class: "wb-relation" }, title, list);
  });
  const n = given.groups.find((group) => group.n)?.n;
  replace(node, h("div", { class: "wb-relations" }, parts), n ? h("p", { class: "wb-origin" }, `By the correlation of pooled activations over ${plural(n, "sample")}, which is no connection: two may answer to the same pictures without one feeding the other.`) : null);
  fill(given.sheet, canvases);
}

export function contrastGrid(grid, line, given, { pick, hover }) {
  if (given.why || !given.samples.length) {
    putWords(grid, h("p", { class: "wb-none" }, given.why || "None was found."));
    return replace(line);
  }
  const canvases = [];
  put(grid, given.samples.map((sample, i) => {
    const canvas = h("canvas", { width: given.sheet.width, height: given.sheet.height, "aria-hidden": "true" });
    canvases.push(canvas);
    const text = `Sample ${sample}, ${given.names[i]}: activation ${number(given.values[i])}, looks like reference sample ${given.like[i]}, cosine ${number(given.alike[i], 2)}`;
    return h("div", { class: "wb-alike", role: "option", "data-sample": sample, "aria-label": text, title: text, onclick: () => pick(sample), onpointerenter: () => hover(sample), onpointerleave: () => hover(null) },
      canvas, h("div", { class: "wb-ref-line" }, h("span", {}, `like ${given.like[i]}`), h("span", { class: "wb-ref-end" }, number(given.values[i]))), h("div", { class: "wb-ref-caption" }, given.names[i]));
  }));
  fill(given.sheet, canvases);
  const quiet = given.threshold > 0
    ? `It is seldom silent: taken are the ${plural(given.n_quiet, "sample")} on which its activation is at most ${number(given.threshold)}, the ${percent(given.low)} quantile.`
    : `Taken are the ${plural(given.n_quiet, "sample")} on which its activation is at most ${number(given.threshold)}.`;
  return replace(line, `Nearest to the three strongest references by the cosine of pooled activations of ${given.layer}. ${quiet}`);
}
