// The samples that are decided otherwise, or changed most; accuracy of both models, and what each class gained and lost.
import { bitmap, button, choice, grouped, h, number, percent, plural, replace, rove, segmented, signed, thumb } from "../common/index.js";

const NUMBERS = [64, 256, 1000];
const WORDS = { lost: "now wrong", gained: "now right", other: "decided otherwise", same: "same decision" };
const MARKS = { lost: "✕", gained: "✓", other: "≠", same: "" };
const share = (value) => percent(value, 1).replace(".0", "");
const points = (value) => `${value > 0 ? "+" : value < 0 ? "\u2212" : ""}${Number(Math.abs(100 * value).toFixed(1))}`;

export function changedOf({ state, onpick, measure }) {
  const which = choice("On", (value) => state.put({ population: /^\d+$/.test(value) ? Number(value) : value }));
  const count = h("span", { class: "wb-quiet wb-count" });
  const again = button("again", "Compare again", measure, { class: "wb-button wb-icon-only wb-bare" });
  const figures = h("div", { class: "wb-figures" });
  const filter = segmented("List", [
    { value: "all", text: "All", title: "Other decisions first, then what changed most" }, { value: "lost", text: "Lost", title: "Right under the base, wrong under the variant" },
    { value: "gained", text: "Gained", title: "Wrong under the base, right under the variant" }, { value: "other", text: "Other", title: "Another decision, neither lost nor gained" },
  ], (value) => state.put({ kind: value }));
  const list = h("div", { class: "wb-flips", role: "listbox", "aria-label": "Samples by how much they changed, other decisions first", onkeydown: (event) => rove(event, list) });
  const none = h("p", { class: "wb-quiet wb-none" });
  const takeAll = h("button", { type: "button", class: "wb-button wb-small", title: "Make them the chosen samples, for other views", onclick: () => state.put({ samples: shown() }) }, "Choose all");
  const classes = h("details", { class: "wb-classes" });
  const evidence = h("p", { class: "wb-evidence" });
  const result = h("div", { class: "wb-changed-result wb-dimmable" }, figures, h("div", { class: "wb-column-head" }, filter.node, takeAll), list, none, classes);
  const node = h("section", { class: "wb-changed", "aria-label": "Samples that changed" }, h("div", { class: "wb-column-head" }, h("h3", { class: "wb-h" }, "Samples that changed"), h("span", { class: "wb-pop-tools" }, which.node, count, again)), evidence, result);
  let drawn = null, image = null;

  const rows = () => state.get("differences")?.rows || { samples: [], kind: [] };
  const shown = () => rows().samples.filter((_, i) => state.get("kind") === "all" || rows().kind[i] === state.get("kind"));

  function draw(given, { isMine, isStill, isRunning, isClosed, names }) {
    const chosen = state.get("population"), n = state.get("n_samples");
    const options = [...new Set([...NUMBERS.filter((one) => one < n), ...(typeof chosen === "number" && chosen > 0 ? [chosen] : [])])].sort((a, b) => a - b);
    const named = options.map((one) => ({ value: String(one), text: one >= n ? `all ${grouped(n)}` : `${grouped(one)} samples` }));
    if ((state.get("samples") || []).length || chosen === "selected") named.push({ value: "selected", text: "the chosen samples" });
    for (const tag of state.get("tags") || []) named.push({ value: `tag:${tag}`, text: `tagged ${tag}` });
    if (typeof chosen === "string" && chosen !== "all" && !named.some((one) => one.value === chosen)) named.push({ value: chosen, text: chosen });
    if (!options.some((one) => one >= n)) named.push({ value: "all", text: `all ${grouped(n)}` });
    which.update([...named, { value: "0", text: "none" }], String(chosen));
    which.select.disabled = isStill || isClosed;
    again.hidden = isStill || isRunning || isMine || isClosed || chosen === 0;
    const has = Boolean(given.n);
    evidence.hidden = has && (isMine || isRunning);
    replace(evidence, h("b", {}, "One image is not evidence"), isStill ? ": these samples are not in this page." : chosen === 0 ? ": choose samples to compare the models on." : isClosed ? ": the variant is closed." : isRunning ? ": both models are being run on the samples." : ": the models were not compared on these samples.");
    result.hidden = !has || (!isMine && !isRunning);
    result.classList.toggle("wb-old", has && !isMine);
    replace(count, !has || !isMine ? "" : `${given.n < given.n_planned ? `${grouped(given.n)} of ${grouped(given.n_planned)} readable` : plural(given.n, "sample")}${given.n_originals < given.n ? ` of ${plural(given.n_originals, "original")}` : ""}`);
    if (!has) return;
    drawFigures(given, names);
    drawClasses(given, names);
    drawList(given);
  }

  const item = (word, value, more, kind = "") => h("span", { class: `wb-figure ${kind}` }, h("span", { class: "wb-quiet" }, word), " ", h("b", {}, value), " ", h("span", { class: "wb-quiet" }, more));

  function drawFigures(given, names) {
    const flips = given.n - given.counts.same, [change, low, high, p] = given.change;
    const isClear = p !== null && p < 0.05;
    replace(figures,
      given.has_decisions ? item("Decided otherwise", grouped(flips), `of ${grouped(given.n)}`) : item("Decisions", "none", "are taken by these models"),
      given.n_labelled ? item("Gained", grouped(given.counts.gained), "wrong → right", "wb-is-gained") : null,
      given.n_labelled ? item("Lost", grouped(given.counts.lost), "right → wrong", "wb-is-lost") : null,
      given.n_labelled && given.counts.other ? item("Other", grouped(given.counts.other), "neither") : null,
      given.n_labelled ? item("Accuracy", `${share(given.accuracy[0])} → ${share(given.accuracy[1])}`, given.n_labelled < given.n ? `of ${grouped(given.n_labelled)} labelled` : "") : given.has_decisions ? item("Accuracy", "unknown", "no sample has a label that is an output") : null,
      given.n_labelled ? item("Change", `${points(change)} points`, `${low === null ? "" : `${points(low)} to ${points(high)}, `}McNemar p ${p < 0.001 ? "< 0.001" : `= ${number(p, 2)}`}${isClear ? "" : ", could be chance"}`, isClear ? "" : "wb-doubt") : null,
      given.outputs.length && given.outputs[0].change ? item("Mean change", given.outputs.filter((one) => one.change).slice(0, 2).map((one) => `${one.name} ${signed(one.change, 2)}`).join(", "), "") : null);
  }

  function drawClasses(given, names) {
    const rows = given.classes || [];
    classes.hidden = !rows.length;
    const more = given.n_classes > rows.length ? `, the first ${rows.length} of ${grouped(given.n_classes)}` : "";
    const cell = (text, kind = "") => h("td", { class: kind }, text);
    replace(classes, h("summary", {}, `By class${more}`),
      h("div", { class: "wb-scroll", tabIndex: 0, role: "group", "aria-label": "Accuracy by class" }, h("table", { class: "wb-table" },
        h("thead", {}, h("tr", {}, ["Class", "n", names[0], names[1], "gained", "lost"].map((word) => h("th", { scope: "col" }, word)))),
        h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row", title: one.name }, one.name), cell(grouped(one.n)), cell(share(one.before)), cell(share(one.after)), cell(one.gained ? `✓ ${grouped(one.gained)}` : "0"), cell(one.lost ? `✕ ${grouped(one.lost)}` : "0")))))));
  }

  async function drawList(given) {
    const { counts } = given, kind = state.get("kind"), own = given.rows;
    const texts = { all: "All", lost: `Lost ${grouped(counts.lost)}`, gained: `Gained ${grouped(counts.gained)}`, other: `Other ${grouped(counts.other)}` };
    filter.update(kind);
    filter.node.hidden = !given.has_decisions;
    [...filter.node.querySelectorAll("button")].forEach((one, i) => (one.textContent = Object.values(texts)[i]));
    if (drawn !== given) {
      const found = await bitmap(own.sheet.jpeg);
      if (state.get("differences") !== given) return;
      image = found;
      drawn = given;
    }
    const ids = shown(), sample = state.get("sample"), at = ids.indexOf(sample);
    const focused = list.contains(document.activeElement) ? [...list.children].indexOf(document.activeElement) : -1;
    replace(list, ids.map((id, k) => {
      const i = own.samples.indexOf(id), what = own.kind[i];
      const said = own.before[i] === own.after[i] ? own.after[i] || `sample ${id}` : `${own.before[i]} → ${own.after[i]}`;
      const size = own.shift[i] === null ? `${own.output[i]} ${signed(own.change[i], 2)}` : `${share(own.shift[i])} of probability moved`;
      const chance = own.probability_before[i] === null ? "" : `${share(own.probability_before[i])} → ${share(own.probability_after[i])}`;
      const label = `Sample ${id}, ${WORDS[what]}: ${said.replace("→", "to")}${own.label[i] ? `, labelled ${own.label[i]}` : ""}, ${size}`;
      return h("div", { class: `wb-flip wb-is-${what}`, role: "option", "data-id": id, "aria-selected": String(id === sample), "aria-label": label, title: `${label}${chance ? `; probability of the decision ${chance}` : ""}`, tabIndex: k === Math.max(0, at) ? 0 : -1, onclick: () => onpick(id) },
        thumb(image, own.sheet, i, "wb-flip-picture"),
        h("span", { class: "wb-flip-text" }, MARKS[what] ? h("span", { class: "wb-mark" }, MARKS[what]) : null, said),
        h("span", { class: "wb-flip-more wb-quiet" }, what === "other" && own.label[i] ? `labelled ${own.label[i]} · ` : "", size));
    }));
    if (focused >= 0) list.children[Math.min(focused, list.children.length - 1)]?.focus();
    list.hidden = !ids.length;
    takeAll.hidden = !ids.length || state.get("population") === "selected";
    takeAll.textContent = `Choose these ${ids.length}`;
    const total = kind === "all" ? given.n : counts[kind];
    none.hidden = ids.length === total && ids.length > 0;
    replace(none, !total ? { lost: "No sample was lost.", gained: "No sample was gained.", other: "No other decision." }[kind] || "No sample." : `${grouped(ids.length)} of ${grouped(total)} are listed; view.table() has all.`);
  }

  function mark() {
    for (const one of list.children) one.setAttribute("aria-selected", String(one.dataset.id === String(state.get("sample"))));
  }
  return { node, draw, mark };
}
