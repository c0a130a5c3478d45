// DirectionViewer: is there a direction for this concept, can it be relied on, and does the output depend on it?
import { choice, empty, grouped, h, membersOf, number, packMembers, plural, replace, segmented, set, settled, shell } from "../common/index.js";
import { Angles } from "./angles.js";
import { Classes } from "./classes.js";
import { Methods } from "./methods.js";
import { Place } from "./place.js";
import { Strip } from "./strip.js";
import { Tails } from "./tails.js";

const KEYS = [
  ["arrows", "walk over the samples by projection, over tiles, methods and cells"], ["Shift + arrows", "choose an interval of the strip; Enter selects its samples"],
  ["Enter", "select the sample, the method or the output"], ["drag on the strip", "select the samples of an interval"], ["Ctrl + click", "add a picture to the selected samples, or take it away"],
  ["Home, End", "first and last"], ["Escape", "leave the interval"],
];

function render({ model, el }) {
  let angles = null; // the theme is known before there are any
  const frame = shell({ model, el }, { kind: "cav", label: "Directions", keys: KEYS, onTheme: () => angles?.draw() });
  const { state, body, tools, note, root } = frame;
  const isStill = () => state.get("status") === "still";
  const chosen = () => state.get("samples") || [];
  const pack = (ids) => packMembers(ids, model.get("_tables"));

  // What is wanted -----------------------------------------------------------------------------------------------------
  const layer = choice("Layer", (value) => state.put({ layer: value }));
  const concept = choice("Concept", (value) => wish("concept", "positive_ids", value));
  const against = choice("Against", (value) => wish("negatives", "negative_ids", value));
  const use = h("button", { type: "button", class: "wb-button", onclick: () => state.put({ concept: "selected", positive_ids: pack(chosen()) }) });
  const scope = segmented("Compared", [
    { value: "within-class", text: "Within classes", title: "Samples of the same class are compared, so that the class does not become part of the direction" },
    { value: "all", text: "All", title: "All samples are compared with all" },
  ], (value) => state.put({ scope: value }));
  tools.append(layer.node, concept.node, use, against.node, scope.node);

  // The choice of selected samples takes those that are selected now.
  function wish(name, ids, value) {
    const own = chosen();
    state.put({ [name]: value, ...(value === "selected" && own.length ? { [ids]: pack(own) } : {}) });
  }

  function drawTools() {
    const options = state.get("options") || {}, own = chosen(), now = state.get("concept"), ids = membersOf(state.get("positive_ids"));
    const named = [
      ...(options.tags || []).map((tag) => ({ value: `tag:${tag.name}`, text: `Tag ${tag.name} (${grouped(tag.n)})` })),
      ...(options.masks || []).map((mask) => ({ value: `mask:${mask.name}`, text: `Mask ${mask.name}` })),
    ];
    const known = (list, value) => (value && !list.some((one) => one.value === value) ? [...list, { value, text: value.replace(":", " ") }] : list);
    layer.update((options.layers || [state.get("layer")]).map((name) => ({ value: name, text: name })), state.get("layer"));
    const count = now === "selected" ? ids.length : own.length;
    concept.update(known([
      { value: "", text: "Choose…" }, ...(options.given ? [{ value: "given", text: `As given: ${options.given}` }] : []),
      { value: "selected", text: `Selected samples (${grouped(count)})` }, ...named,
    ], now), now);
    const negatives = state.get("negatives");
    against.update(known([
      { value: "", text: now === "given" ? "As given" : "All others" }, ...(now === "given" ? [{ value: "others", text: "All others" }] : []),
      { value: "random", text: "Some others, at random" }, { value: "selected", text: `Selected samples (${grouped(negatives === "selected" ? membersOf(state.get("negative_ids")).length : own.length)})` }, ...named,
    ], negatives), negatives);
    scope.update(state.get("scope"));
    const isNew = own.length > 0 && !(now === "selected" && ids.length === own.length && [...own].sort((a, b) => a - b).every((id, i) => id === ids[i]));
    use.hidden = isStill() || !isNew || !state.get("found")?.rows; // before anything is found, the ways to begin have it
    replace(use, `Use the ${plural(own.length, "selected sample")}`);
    for (const select of [layer.select, concept.select, against.select]) set(select, { disabled: isStill() });
    scope.node.querySelectorAll("button").forEach((one) => set(one, { disabled: isStill() }));
  }

  // What was found -----------------------------------------------------------------------------------------------------
  const rows = () => (state.get("found")?.rows || []).filter((row) => row.direction);
  const shown = () => rows().find((row) => row.direction === state.get("direction")) || rows()[0] || null;
  const methods = new Methods({ frame, shown, isStill });
  const strip = new Strip({ frame, pick });
  const tails = new Tails({ frame, pick });
  angles = new Angles({ frame, shown });
  const classes = new Classes({ frame, isStill });
  const place = new Place({ frame, isStill });
  const keep = h("button", { type: "button", class: "wb-button wb-keep", onclick: () => keepIt() }, "Keep as component");
  const kept = h("span", { class: "wb-kept" });
  const against_ = h("p", { class: "wb-origin" });
  const warnings = h("ul", { class: "wb-warnings", "aria-label": "What speaks against it" });
  const section = (title, className, ...parts) => h("section", { "aria-label": title, class: className }, h("h3", { class: "wb-h" }, title), parts);
  const board = h("div", { class: "wb-cav-body" },
    section("Methods", "wb-cav-wide", methods.node, against_, warnings, h("div", { class: "wb-keep-row" }, keep, kept)),
    section("Samples along the direction", "wb-cav-wide wb-dimmable", strip.node, tails.node),
    section("Where it lies in a sample", "wb-dimmable", place.node),
    section("Which outputs depend on it", "wb-cav-tall wb-dimmable", classes.node),
    section("Angles between directions", "", angles.node));
  const nothing = h("div", {});

  function pick(sample, isAdded = false) {
    if (isAdded) {
      const own = chosen();
      state.put({ samples: own.includes(sample) ? own.filter((one) => one !== sample) : [...own, sample] });
      frame.say(`${plural(chosen().length, "sample")} selected`);
    } else {
      state.put({ sample });
      frame.say(`Sample ${sample} selected`);
    }
  }

  async function keepIt() {
    const row = shown();
    if (!row) return;
    keep.disabled = true;
    const answer = await frame.ask("keep", { direction: row.direction }, { topic: "keep" });
    keep.disabled = false;
    if (!answer) return;
    state.put({ component: row.direction });
    frame.say(`${row.direction} is kept and selected`);
  }

  function draw() {
    const found = state.get("found") || {}, row = shown();
    const name = found.name || state.get("layer");
    frame.title(row ? `Direction of ${name}` : "Directions", [found.layer || state.get("layer"), row ? plural(found.rows.length, "method") : ""].filter(Boolean).join(" · "));
    drawTools();
    if (!found.rows) return showNothing();
    if (!board.isConnected) replace(body, board);
    methods.draw(row);
    const asked = found.n_asked ?? row?.n_positive;
    replace(against_, row ? `${plural(row.n_positive, "sample")} with ${row.concept}${asked > row.n_positive && found.rows.length === rows().length && new Set(rows().map((one) => one.concept)).size === 1 ? ` (of ${grouped(asked)} chosen)` : ""}, against ${found.against}. ${found.pooling === "max" ? "Largest value" : found.pooling === "mean" ? "Mean" : "First token"} of each unit.${facts(row)}` : "");
    replace(warnings, (row?.warnings || []).map((text) => h("li", {}, h("span", { class: "wb-warn-sign", "aria-hidden": "true" }, "⚠"), text)));
    warnings.hidden = !row?.warnings?.length;
    keep.hidden = !row || isStill();
    const isKept = row && state.get("component") === row.direction;
    set(keep, { "aria-pressed": String(Boolean(isKept)) });
    const label = row && state.get("labels")?.[row.direction], called = row && [row.direction, label].filter(Boolean).join(" · ");
    replace(kept, isKept ? `${called} is selected` : called || "");
    strip.draw(row);
    tails.draw(row);
    angles.draw();
    classes.draw(row);
    place.draw(row);
  }

  // Nothing is fitted yet: how to begin, each way a button.
  function showNothing() {
    const options = state.get("options") || {}, own = chosen(), waits = state.get("concept") === "selected";
    const status = state.get("status");
    const busy = ["waiting", "running"].includes(status) && state.get("concept") && !waits;
    const begin = (text, values) => h("button", { type: "button", class: "wb-button", onclick: () => state.put(values) }, text);
    const ways = [
      own.length ? begin(`The ${plural(own.length, "selected sample")}`, { concept: "selected", positive_ids: pack(own) }) : null,
      ...(options.tags || []).slice(0, 6).map((tag) => begin(`Tagged ${tag.name} (${grouped(tag.n)})`, { concept: `tag:${tag.name}` })),
      ...(options.masks || []).slice(0, 6).map((mask) => begin(`With the mask ${mask.name}`, { concept: `mask:${mask.name}` })),
    ];
    const text = busy ? "The first direction is on its way." : status === "failed" ? "See above why there is none." : waits ? "Select samples, in a grid or on a map, and they become those with the concept."
      : "Say which samples show it: select some in a grid or on a map, give them a tag, or take those with a mask.";
    replace(nothing, empty(busy ? "Looking for a direction" : "No direction yet", text, h("div", { class: "wb-ways" }, isStill() ? null : ways)));
    if (!nothing.isConnected) replace(body, nothing);
  }

  let said = 0;
  function tell() {
    const found = state.get("found") || {}, row = shown();
    if (!row || found.made === said || found.lacking?.length) return;
    said = found.made;
    frame.say(`${row.concept}: held-out area ${number(row.auc)}, ${plural(row.warnings.length, "warning")}`);
  }

  const watch = new ResizeObserver(settled(60, () => board.isConnected && (strip.draw(shown(), true), place.draw(shown(), true))));
  watch.observe(root);
  state.on(["found", "direction", "status", "component", "labels"], draw);
  state.on("found", tell);
  state.on(["options", "layer", "concept", "negatives", "positive_ids", "negative_ids", "scope"], () => (board.isConnected ? drawTools() : draw()));
  state.on("samples", () => { board.isConnected ? drawTools() : draw(); strip.mark(); tails.mark(); });
  state.on("sample", () => { strip.mark(); tails.mark(); place.draw(shown()); });
  state.on("hover", () => strip.mark());
  state.on("strip", () => { strip.draw(shown(), true); place.draw(shown()); });
  state.on("bins", () => strip.draw(shown(), true));
  state.on(["tails", "strip"], () => tails.draw(shown()));
  state.on(["tested", "test_classes", "target"], () => { classes.draw(shown()); place.draw(shown()); });
  state.on("place", () => place.draw(shown()));
  state.on("methods", () => methods.draw(shown()));
  state.watch("message", () => replace(note, state.get("found")?.lacking?.length ? `Still to come: ${state.get("found").lacking.join(", ")}` : ""));
  draw();
  return () => {
    watch.disconnect();
    frame.close();
  };
}

function facts(row) {
  const parts = [
    row.agreement === null ? "" : `cosine of pattern and filter ${number(row.agreement, 2)}`,
    row.expected_cosine === null ? "" : `so many samples let one expect a cosine of ${number(row.expected_cosine, 2)} with the true direction`,
    row.alignment_overall === null ? "" : `cosine with the mean difference of pairs ${number(row.alignment_overall, 2)}`,
    row.class_auc === null ? "" : `the class alone tells the concept with an area of ${number(row.class_auc, 2)}`,
  ].filter(Boolean).join("; ");
  return parts ? ` ${parts[0].toUpperCase()}${parts.slice(1)}.` : "";
}

export default { render };
