// What the interventions do to many samples: decisions, mean change with its interval and controls, accuracy, spill-over.
import { bitmap, button, choice, grouped, h, nameOf, percent, plural, replace, rove, signed, thumb } from "../common/index.js";

const NUMBERS = [64, 256, 1000];
const share = (value) => percent(value, 1).replace(".0", "");

export function populationOf({ state, onpick, measure }) {
  const which = choice("On", (value) => state.put({ population: /^\d+$/.test(value) ? Number(value) : value }));
  const count = h("span", { class: "wb-quiet wb-count" });
  const again = button("again", "Measure again", measure, { class: "wb-button wb-icon-only wb-bare" });
  const evidence = h("p", { class: "wb-evidence" });
  const figures = h("div", { class: "wb-figures" });
  const strip = h("div", { class: "wb-mean" });
  const table = h("div", { class: "wb-acc", tabIndex: 0, role: "group", "aria-label": "Accuracy per class" });
  const moved = h("div", { class: "wb-comps", role: "listbox", "aria-label": "Components that moved most although nobody touched them", onkeydown: (event) => rove(event, moved) });
  const movedBox = h("section", { class: "wb-column" }, h("h4", { class: "wb-h" }, "Moved, though nobody touched them"), moved);
  const worse = h("div", { class: "wb-worse", role: "listbox", "aria-label": "Samples that got worse most", onkeydown: (event) => rove(event, worse) });
  const takeAll = h("button", { type: "button", class: "wb-button wb-small", onclick: () => state.put({ samples: state.get("effect").worse.samples }) }, "Choose all");
  const worseNote = h("p", { class: "wb-quiet" });
  const worseBox = h("section", { class: "wb-column" }, h("div", { class: "wb-column-head" }, h("h4", { class: "wb-h" }, "Got worse most"), takeAll), worse, worseNote);
  const result = h("div", { class: "wb-pop-result wb-dimmable" }, figures, strip, h("div", { class: "wb-pop-columns" }, h("section", { class: "wb-column" }, h("h4", { class: "wb-h" }, "Accuracy"), table), worseBox, movedBox));
  const node = h("section", { class: "wb-pop" }, h("div", { class: "wb-column-head" }, h("h3", { class: "wb-h" }, "On the population"), h("span", { class: "wb-pop-tools" }, which.node, count, again)), evidence, result);

  function draw({ isMine, isRunning, isStill, hasActs }) {
    const given = state.get("effect") || {}, chosen = state.get("population"), n = state.get("n_samples");
    const options = [...new Set([...NUMBERS.filter((one) => one < n), ...(typeof chosen === "number" && chosen > 0 ? [chosen] : [])])].sort((a, b) => a - b);
    const named = options.map((one) => ({ value: String(one), text: `${grouped(Math.min(one, n))} samples` }));
    if ((state.get("samples") || []).length || chosen === "selected") named.push({ value: "selected", text: "the chosen samples" });
    for (const tag of state.get("tags") || []) named.push({ value: `tag:${tag}`, text: `tagged ${tag}` });
    if (typeof chosen === "string" && !named.some((one) => one.value === chosen) && chosen !== "all") named.push({ value: chosen, text: chosen });
    which.update([...named, { value: "all", text: `all ${grouped(n)}` }, { value: "0", text: "none" }], String(chosen));
    which.select.disabled = isStill;
    again.hidden = isStill || isRunning || (isMine && given.is_complete) || !hasActs || chosen === 0;
    const none = !given.n || (!isMine && !isRunning);
    evidence.hidden = !(none && !isRunning);
    replace(evidence, h("b", {}, "One image is not evidence"), `: no population was run${hasActs ? (isStill ? " for this setting, which needs the session." : ".") : ", since nothing is changed."}`);
    result.hidden = !given.n || (none && !isRunning);
    result.classList.toggle("wb-old", Boolean(given.n) && !isMine);
    replace(count, !given.n ? "" : isMine && !given.is_complete ? `${grouped(given.n)} of ${grouped(given.n_planned)} so far` : isMine ? `${plural(given.n, "sample")}${given.n_originals < given.n ? ` of ${plural(given.n_originals, "original")}` : ""}` : isRunning ? "of the former setting" : "");
    if (!given.n) return;
    replace(figures,
      given.changed === null ? item("Decisions", "none", "the outputs are no choice among classes") : item("Decisions changed", share(given.changed_share), `${grouped(given.changed)} of ${grouped(given.n)}`),
      item(`Mean change of ${given.target_text === "top" ? "the former top output" : given.target_text}`, given.mean === null ? "–" : signed(given.mean), between(given.interval)),
      given.is_beyond === null ? null : item("Random controls", given.is_beyond ? "beyond them" : "within them", `${between(given.band)}${given.empty_share > 0 ? `; ${share(given.empty_share)} found nothing active` : ""}`, given.is_beyond ? "" : "wb-doubt"),
      given.n_left_out ? item("Left out", grouped(given.n_left_out), "whose label names no output") : null);
    drawStrip(given);
    drawTable(given.accuracy || [], given.decides);
    drawMoved(given.moved);
    drawWorse(given.worse);
  }

  const between = (pair) => (pair && pair[0] !== null && pair[1] !== null ? `${signed(pair[0])} to ${signed(pair[1])}` : "interval unknown");
  const item = (word, value, more, kind = "") => h("span", { class: `wb-figure ${kind}` }, h("span", { class: "wb-quiet" }, word), " ", h("b", {}, value), " ", h("span", { class: "wb-quiet" }, more));

  // Mean, interval and band on one axis with zero.
  function drawStrip(given) {
    const ends = [given.mean, ...(given.interval || []), ...(given.band || []), 0].filter((v) => v !== null && v !== undefined);
    let low = Math.min(...ends), high = Math.max(...ends);
    const room = 0.06 * (high - low || 1);
    low -= room;
    high += room;
    const at = (value) => (100 * (value - low)) / (high - low);
    const bar = (kind, pair) => pair && pair[0] !== null && pair[1] !== null && h("i", { class: kind, style: { left: `${at(pair[0])}%`, width: `${at(pair[1]) - at(pair[0])}%` } });
    const words = `Mean change ${signed(given.mean)}, interval ${between(given.interval)}${given.band ? `, random controls ${between(given.band)}` : ""}`;
    replace(strip,
      h("div", { class: "wb-mean-track", role: "img", "aria-label": words }, bar("wb-band", given.band), h("i", { class: "wb-zero", style: { left: `${at(0)}%` } }), bar("wb-interval", given.interval), given.mean !== null && h("i", { class: "wb-point", style: { left: `${at(given.mean)}%` } })),
      h("div", { class: "wb-mean-ends", "aria-hidden": "true" }, h("span", {}, signed(low + room)), h("span", { class: "wb-legend" }, h("i", { class: "wb-point" }), "mean, 95 % interval", given.band ? [h("i", { class: "wb-swatch" }), `${grouped(given.n_controls)} random controls`] : null), h("span", {}, signed(high - room))));
  }

  const points = (value) => `${value > 0 ? "+" : ""}${share(value)}`, bare = (value) => (value ? points(value).replace(/\s*%/, "") : "0");
  function drawTable(rows, decides) {
    if (!rows.length) return replace(table, h("p", { class: "wb-quiet" }, decides ? "No true classes are known." : "The output is no choice among classes: there are no decisions."));
    const sorted = [...rows.slice(-1), ...rows.slice(0, -1)];
    const change = (one) => one.after - one.before;
    replace(table, h("table", { class: "wb-table" },
      h("thead", {}, h("tr", {}, ["class", "n", "before", "after", "change", "95 %"].map((word) => h("th", { scope: "col", title: word === "95 %" ? "interval of the change in points, paired by sample; views of one original are drawn together" : null }, word)))),
      h("tbody", {}, sorted.map((one) => h("tr", { class: one === rows.at(-1) ? "wb-all" : "" }, h("th", { scope: "row", title: one.name }, one.name), h("td", {}, grouped(one.n)), h("td", {}, share(one.before)), h("td", {}, share(one.after)),
        h("td", { class: change(one) < 0 ? "wb-down" : change(one) > 0 ? "wb-up" : "" }, change(one) ? points(change(one)) : "0"),
        h("td", { class: "wb-quiet" }, one.interval.includes(null) ? "–" : one.interval.map(bare).join(" to ")))))));
  }

  async function drawMoved(given) {
    movedBox.hidden = !given || !given.components.length;
    if (movedBox.hidden) return;
    const image = await bitmap(given.sheet.jpeg);
    if (state.get("effect")?.moved !== given) return;
    const most = Math.max(...given.change.map(Math.abs)) || 1;
    options(moved, given.components, (id, i) => [
      thumb(image, given.sheet, i, "wb-comp-picture"),
      h("span", { class: "wb-comp-name" }, nameOf(id, state.get("labels"))), h("span", { class: "wb-comp-share", title: "mean change in units of its spread" }, signed(given.change[i], 2)),
      h("span", { class: "wb-comp-bar" }, h("i", { class: given.change[i] < 0 ? "wb-fall" : "wb-rise", style: { width: `${(100 * Math.abs(given.change[i])) / most}%` } })),
    ], (id, i) => `${id}${state.get("labels")?.[id] ? ` · ${state.get("labels")[id]}` : ""}, moved by ${signed(given.change[i], 2)} spreads`, "wb-comp", state.get("component"), (id) => onpick({ component: id }));
  }

  async function drawWorse(given) {
    const isKnown = given && given.n_lost !== null;
    worseBox.hidden = !isKnown;
    if (!isKnown) return;
    worse.hidden = !given.samples.length;
    takeAll.hidden = !given.samples.length || state.get("population") === "selected";
    replace(worseNote, !given.samples.length ? "None got worse." : given.n_lost ? `${plural(given.n_lost, "sample")} lost the right decision.` : "None lost the right decision.");
    const image = await bitmap(given.sheet.jpeg);
    if (state.get("effect")?.worse !== given) return;
    options(worse, given.samples, (id, i) => [
      thumb(image, given.sheet, i, "wb-worse-picture"),
      h("span", { class: "wb-worse-text" }, given.before[i] === given.after[i] ? given.after[i] || `sample ${id}` : `${given.before[i]} → ${given.after[i]}`),
      h("span", { class: "wb-quiet" }, `margin ${signed(given.margin[i], 2)}`),
    ], (id, i) => `Sample ${id}, labelled ${given.label[i] || "unknown"}: ${given.before[i]} before, ${given.after[i]} after, margin ${signed(given.margin[i], 2)}${given.lost[i] ? ", lost" : ""}`, "wb-bad", state.get("sample"), (id) => onpick({ sample: id }), (id, i) => given.lost[i]);
  }

  function options(list, ids, parts, label, kind, chosen, pick, isMarked = () => false) {
    const at = ids.indexOf(chosen);
    const focused = list.contains(document.activeElement) ? [...list.children].indexOf(document.activeElement) : -1;
    replace(list, ids.map((id, i) => h("div", { class: `${kind} ${isMarked(id, i) ? "wb-lost" : ""}`, role: "option", "data-id": id, "aria-selected": String(id === chosen), "aria-label": label(id, i), title: label(id, i), tabIndex: i === Math.max(0, at) ? 0 : -1, onclick: () => pick(id) }, parts(id, i))));
    if (focused >= 0) list.children[Math.min(focused, ids.length - 1)]?.focus();
  }

  function mark() {
    for (const [list, chosen] of [[moved, state.get("component")], [worse, state.get("sample")]]) {
      for (const one of list.children) one.setAttribute("aria-selected", String(one.dataset.id === String(chosen)));
    }
  }
  return { node, draw, mark };
}
