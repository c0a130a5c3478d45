// SteeringPanel: interventions on components, and what becomes of one sample and of a population.
import { address, array, bitmap, button, choice, empty, h, nameOf, number, paced, plural, replace, rove, sampleSteps, segmented, set, settled, shell, signed, thumb, uid } from "../common/index.js";
import { activeOf, listOf, suppressesAll } from "./acts.js";
import { outputsOf } from "./outputs.js";
import { panesOf } from "./panes.js";
import { populationOf } from "./population.js";

const KEYS = [
  ["hold Space", "see the results without interventions"], ["← →", "strength, on a slider; sample, on the results"], ["Space", "switch an intervention on or off"],
  ["Delete", "remove an intervention, on its slider"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"], ["B", "bypass all"], ["arrows in a list, Enter", "move, choose"],
];
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "steering", label: "Steering", keys: KEYS });
  const { state, body, tools, note, root } = frame;
  const local = { records: null, dragged: null, held: false, told: null };
  const isStill = () => state.get("status") === "still";
  const labelOf = (id) => (state.get("labels")?.[id] ? ` · ${state.get("labels")[id]}` : "");

  // What is done, here first -------------------------------------------------------------------------------------------
  const send = paced(60, (records) => state.put({ interventions: records }));
  const acts = {
    records: () => local.records || state.get("interventions") || [],
    dragged: () => local.dragged,
    drag(records) {
      local.dragged = document.activeElement;
      local.records = records;
      drawResults();
      send(records);
    },
    change(records) {
      local.records = null;
      local.dragged = null;
      send.stop();
      state.put({ interventions: records });
      draw();
    },
    region: (index) => frame.ask("region", { index }),
    focus: () => root.querySelector(".wb-act input, .wb-add input")?.focus(),
  };
  const active = () => activeOf(acts.records());
  const target = () => state.get("target") || "top";
  const isBefore = () => local.held || state.get("bypass");
  const isSame = (given) => Boolean(given && given.acts && given.sample === state.get("sample") && given.target === target() && same(given.acts, active()));
  const isHidden = () => state.get("predict_first") && !(state.get("expected") || "").trim() && active().length > 0;

  // Tools --------------------------------------------------------------------------------------------------------------
  const steps = sampleSteps(frame);
  const undo = button("undo", "Undo (Ctrl+Z)", () => go("undo")), redo = button("undo", "Redo (Ctrl+Shift+Z)", () => go("redo"), { class: "wb-button wb-icon-only wb-mirrored" });
  const bypass = h("button", { type: "button", class: "wb-button", title: "Show all as it is without interventions (B); hold space to look only for a moment", onclick: () => setBypass(!state.get("bypass")) }, "Bypass all");
  const compare = segmented("Maps", [{ value: "beside", text: "Beside", title: "Before, after and their difference" }, { value: "flip", text: "Flip", title: "One map; hold space to see it before" }], (value) => state.put({ compare: value }));
  tools.append(steps.node, h("div", { class: "wb-group" }, undo, redo), bypass, compare.node);

  // Interventions ------------------------------------------------------------------------------------------------------
  const list = listOf({ state, acts });
  const addBox = h("input", { type: "text", class: "wb-text", placeholder: "layer/unit/17", "aria-label": "Address of a component", spellcheck: false, onkeydown: (event) => event.key === "Enter" && add() });
  const addRow = h("div", { class: "wb-add" }, addBox, h("button", { type: "button", class: "wb-button wb-small", onclick: add }, "Add"));
  const top = h("button", { type: "button", class: "wb-button wb-small", title: "Of the layer below, for this sample", onclick: () => frame.ask("suppress_top", {}, { topic: "preset" }) }, "Suppress the top component");
  const chosenSet = h("button", { type: "button", class: "wb-button wb-small", title: "The components chosen in a map or an atlas", onclick: suppressSet }, "Suppress the chosen set");
  const presets = h("div", { class: "wb-presets", role: "group", "aria-label": "Presets" }, top, chosenSet);

  const layer = choice("Layer", (value) => state.put({ layer: value }));
  const leading = h("div", { class: "wb-leading", role: "listbox", "aria-label": "Leading components, each left out alone", "aria-multiselectable": "true", onkeydown: (event) => rove(event, leading) });
  const leadingNote = h("p", { class: "wb-quiet" });
  const these = h("button", { type: "button", class: "wb-button wb-small", onclick: suppressThese }, "Suppress all");
  const leadingBox = h("section", {}, h("div", { class: "wb-column-head" }, h("h3", { class: "wb-h" }, "Each left out alone"), layer.node), leading, leadingNote, h("div", { class: "wb-add" }, these));

  const expectId = uid("expect");
  const expect = h("input", { id: expectId, type: "text", class: "wb-text", maxLength: 500, placeholder: "zebra falls, horse rises", onchange: () => state.put({ expected: expect.value }) });
  const first = h("input", { type: "checkbox", onchange: () => { state.put({ predict_first: first.checked }); draw(); } });
  const expectSaid = h("p", { class: "wb-quiet" });
  const predict = h("section", { class: "wb-predict" }, h("label", { class: "wb-h", htmlFor: expectId }, "What do you expect?"), expect, h("label", { class: "wb-tick" }, first, "Hide results until I have written it"), expectSaid);

  const keepBox = h("input", { type: "text", class: "wb-text", maxLength: 60, placeholder: "name of the edit", "aria-label": "Name of the edit", spellcheck: false, onkeydown: (event) => event.key === "Enter" && keep() });
  const keepButton = h("button", { type: "button", class: "wb-button wb-small", onclick: keep }, "Keep as edit");
  const kept = h("ul", { class: "wb-kept" });
  const keeping = h("section", {}, h("div", { class: "wb-add" }, keepBox, keepButton), kept);

  // Results ------------------------------------------------------------------------------------------------------------
  const outputs = outputsOf({ onpick: (index) => pickOutput(index) });
  const watchBox = h("input", { type: "text", class: "wb-text wb-watch", placeholder: "also show …", "aria-label": "Output to show always, by name or number; again to hide it", onkeydown: (event) => event.key === "Enter" && watch() });
  const panes = panesOf();
  const hold = h("button", { type: "button", class: "wb-button wb-small", title: "Or hold space", onpointerdown: () => setHeld(true), onpointerup: () => setHeld(false), onpointerleave: () => setHeld(false), onkeydown: (event) => (event.key === " " || event.key === "Enter") && (event.preventDefault(), setHeld(true)), onkeyup: () => setHeld(false) }, "Hold for before");
  const population = populationOf({ state, onpick: (values) => state.put(values), measure: () => frame.ask("measure") });
  const looks = h("div", { class: "wb-looks", tabIndex: 0, role: "group", "aria-label": "This sample: outputs and maps. Hold space to see it without interventions, arrows change the sample.", onkeydown: looksKey },
    h("div", { class: "wb-column-head" }, h("h3", { class: "wb-h" }, "This sample"), h("span", { class: "wb-pop-tools" }, watchBox, hold)), outputs.node, h("div", { class: "wb-dimmable" }, panes.node));
  const covered = h("div", { class: "wb-covered", hidden: true }, h("strong", {}, "Predict first"), h("p", {}, "Write what you expect of these interventions; then the results show."));
  const results = h("div", { class: "wb-results" }, covered, looks, population.node);
  const content = h("div", { class: "wb-steer" },
    h("div", { class: "wb-do" }, h("section", {}, h("h3", { class: "wb-h" }, "Interventions"), ...list.nodes, addRow, presets), predict, leadingBox, keeping), results);
  const nothing = empty("No sample selected", "Click one in a grid or on a card, or type a sample's number above.");

  // Drawing ------------------------------------------------------------------------------------------------------------
  function draw() {
    const sample = state.get("sample");
    steps.draw();
    if (sample === null || sample === undefined) {
      frame.title("Steering");
      return replace(body, nothing);
    }
    if (!content.isConnected) replace(body, content);
    const picture = state.get("picture") || {};
    frame.title(`Steering sample ${sample}`, picture.sample === sample ? [picture.label ? `labelled ${picture.label}` : "", picture.key].filter(Boolean).join(" · ") : "\u00a0");
    list.draw();
    drawTools();
    drawLeading();
    drawKept();
    drawResults();
  }

  function drawTools() {
    const steps_ = state.get("steps") || {}, still = isStill();
    set(undo, { disabled: still || !steps_.undo });
    set(redo, { disabled: still || !steps_.redo });
    set(bypass, { "aria-pressed": String(Boolean(state.get("bypass"))) });
    compare.update(state.get("compare"));
    const set_ = list.groupsOfSet();
    set(top, { disabled: still });
    set(chosenSet, { disabled: still || !set_ });
    chosenSet.textContent = set_ ? `Suppress the chosen set (${set_})` : "Suppress the chosen set";
    addRow.hidden = presets.hidden = still;
    watchBox.hidden = still;
    keepBox.hidden = keepButton.hidden = still;
    set(keepButton, { disabled: !active().length });
    first.checked = Boolean(state.get("predict_first"));
    if (document.activeElement !== expect) expect.value = state.get("expected") || "";
    set(expect, { disabled: still });
    set(first, { disabled: still });
    const when = state.get("expected_when");
    expectSaid.hidden = !when;
    replace(expectSaid, when === "before" ? "Written before the result was shown." : when === "after" ? "Written after the result was seen." : "");
    replace(note, [list.words(), state.get("bypass") ? "bypassed" : ""].filter(Boolean).join(", "));
  }

  function drawResults() {
    const given = state.get("outputs") || {}, maps = state.get("maps") || {}, effect = state.get("effect") || {};
    const hidden = isHidden();
    covered.hidden = !hidden;
    looks.hidden = population.node.hidden = hidden;
    const before = isBefore(), still = isStill(), hasActs = active().length > 0;
    root.classList.toggle("wb-before", before);
    const isShown = given.sample === state.get("sample") && given.target === target();
    if (!isShown && still) replace(outputs.node.querySelector(".wb-outs"), h("p", { class: "wb-quiet" }, "Not in this page."));
    else if (given.rows) outputs.draw(given, { isBefore: before, target: target(), isMine: isSame(given) });
    panes.draw(maps, { isMine: isSame(maps), isBefore: before, flip: state.get("compare") === "flip", isStill: still, isQuiet: state.get("status") === "failed", hasActs });
    const isMine = hasActs && same(effect.acts, active()) && effect.target === target() && effect.population === state.get("population");
    population.draw({ isMine, isRunning: ["running", "waiting"].includes(state.get("status")) && hasActs && state.get("population") !== 0, isStill: still, hasActs });
  }

  async function drawLeading() {
    const given = state.get("leading") || {}, layers = state.get("layers") || [], own = state.get("layer");
    layer.update([...(own ? [] : [{ value: "", text: given.layer || "choose …" }]), ...layers.map((name) => ({ value: name, text: name }))], own);
    layer.select.disabled = isStill();
    leadingBox.hidden = !state.get("n_leading");
    const fits = given.sample === state.get("sample") && given.target === target() && (!own || own === given.layer);
    leading.hidden = !given.components || (!fits && isStill());
    leading.classList.toggle("wb-old", !fits);
    these.hidden = isStill() || !given.components?.length;
    these.textContent = `Suppress these ${given.components?.length || ""}`;
    these.disabled = !fits;
    if (!given.components) return replace(leadingNote, "Choose a layer, or select a component.");
    replace(leadingNote, fits ? `Change of ${given.name || target()} without it.${isStill() ? "" : " Click to suppress it."}` : isStill() ? "Not in this page." : "\u00a0");
    const image = await bitmap(given.sheet.jpeg);
    if (state.get("leading") !== given) return;
    const most = Math.max(...Array.from(array(given.change), Math.abs)) || 1;
    const focused = leading.contains(document.activeElement) ? [...leading.children].indexOf(document.activeElement) : -1;
    const on = (id) => acts.records().some((one) => one.on && suppressesAll(one) && one.address.length === 1 && one.address[0] === id);
    replace(leading, given.components.map((id, i) => {
      const change = array(given.change)[i], name = nameOf(id, state.get("labels")), label = `${id}${labelOf(id)}: ${signed(change)} without it, relevance ${signed(array(given.relevance)[i])}`;
      return h("div", { class: "wb-comp", role: "option", "data-id": id, "aria-selected": String(on(id)), "aria-label": label, title: label, tabIndex: i === Math.max(0, focused) ? 0 : -1, onclick: () => toggle(id) },
        thumb(image, given.sheet, i, "wb-comp-picture"), h("span", { class: "wb-comp-name" }, name), h("span", { class: "wb-comp-share" }, signed(change)),
        h("span", { class: "wb-comp-bar" }, h("i", { class: change < 0 ? "wb-fall" : "wb-rise", style: { width: `${(100 * Math.abs(change)) / most}%` } })));
    }));
    if (focused >= 0) leading.children[Math.min(focused, leading.children.length - 1)]?.focus();
  }

  function drawKept() {
    const all = state.get("kept") || [];
    kept.hidden = !all.length;
    replace(kept, all.map((one) => h("li", { title: one.code }, h("b", {}, one.name), h("span", { class: "wb-quiet" }, ` ${one.text}`))));
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  function pickOutput(index) {
    const rows = (state.get("outputs") || {}).rows || [];
    const isTop = rows.length && index === rows[0].index;
    state.put({ target: isTop ? null : `logit:${index}` });
  }

  async function add() {
    const component = addBox.value.trim();
    if (component && (await frame.ask("add", { component }))) addBox.value = "";
  }

  async function watch() {
    const name = watchBox.value.trim();
    if (name && (await frame.ask("watch", { name }))) watchBox.value = "";
  }

  async function keep() {
    const name = keepBox.value.trim();
    if (!name) return keepBox.focus();
    const found = await frame.ask("keep", { name });
    if (!found) return;
    keepBox.value = "";
    frame.say(`Kept as ${found.result.name}`);
  }

  function suppressSet() {
    const groups = new Map();
    for (const one of state.get("components") || []) {
      const { layer: of, basis } = address(one);
      groups.set(`${of}/${basis}`, [...(groups.get(`${of}/${basis}`) || []), one]);
    }
    const made = [...groups.values()].map((one) => ({ address: one, operation: "suppress", strength: 1, on: true }));
    const left = acts.records().filter((one) => !(suppressesAll(one) && made.some((other) => same(other.address, one.address))));
    acts.change([...left, ...made]);
  }

  function toggle(id) {
    if (isStill()) return;
    const at = acts.records().findIndex((one) => suppressesAll(one) && one.address.length === 1 && one.address[0] === id);
    if (at < 0) acts.change([...acts.records(), { address: [id], operation: "suppress", strength: 1, on: true }]);
    else acts.change(acts.records().map((one, i) => (i === at ? { ...one, on: !one.on } : one)));
    state.put({ component: id });
  }

  function suppressThese() {
    const ids = (state.get("leading") || {}).components || [], isOne = (one) => suppressesAll(one) && one.address.length === 1;
    const have = new Set(acts.records().filter(isOne).map((one) => one.address[0]));
    const kept_ = acts.records().map((one) => (isOne(one) && ids.includes(one.address[0]) ? { ...one, on: true, strength: 1 } : one));
    acts.change([...kept_, ...ids.filter((id) => !have.has(id)).map((id) => ({ address: [id], operation: "suppress", strength: 1, on: true }))]);
  }

  const go = (way) => !isStill() && frame.ask(way).then(() => frame.say(way === "undo" ? "Undone" : "Redone"));
  function setBypass(on) {
    state.put({ bypass: on });
    frame.say(on ? "All interventions bypassed" : "Interventions in place");
  }

  function setHeld(on) {
    if (local.held === on) return;
    local.held = on;
    drawResults();
    if (on) frame.say("Before");
  }

  const IS_TEXT = /^(text|number|search)$/;
  state.listen(root, "keydown", (event) => {
    const at = event.target, isText = at.tagName === "TEXTAREA" || (at.tagName === "INPUT" && IS_TEXT.test(at.type));
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !isText) {
      event.preventDefault();
      event.stopPropagation();
      return go(event.shiftKey ? "redo" : "undo");
    }
    if (isText || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && (at.type === "range" || at === looks || at.classList.contains("wb-acc"))) {
      event.preventDefault();
      if (!event.repeat) setHeld(true);
    } else if (event.key.toLowerCase() === "b" && at.tagName !== "SELECT") setBypass(!state.get("bypass"));
    else if (event.key === "Delete" && at.type === "range" && !isStill()) {
      const i = acts.records().findIndex((_, k) => list.inputOf(k) === at);
      if (i >= 0) acts.change(acts.records().filter((_, k) => k !== i));
      acts.focus();
    }
  });
  state.listen(root, "keyup", (event) => event.key === " " && setHeld(false));
  state.listen(root, "focusout", () => setHeld(false));

  function looksKey(event) {
    if (event.target !== looks) return;
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    steps.step(by);
  }

  // Once the outputs have settled, the followed one is told: what it was, and what it is.
  const tell = settled(500, () => {
    const given = state.get("outputs") || {}, one = (given.rows || []).find((row) => row.index === given.index);
    if (!one || isHidden() || !isSame(given) || !given.acts.length || one.after === null) return;
    const key = JSON.stringify([given.sample, given.acts, given.index]);
    if (local.told === key) return;
    local.told = key;
    const way = one.after < one.before ? "fell" : one.after > one.before ? "rose" : "stayed";
    frame.say(way === "stayed" ? `${one.name} stayed at ${number(one.after)}` : `${one.name} ${way} from ${number(one.before)} to ${number(one.after)}`);
  });
  state.later(tell.stop);

  state.on("interventions", () => {
    if (!local.dragged) local.records = null;
    draw();
  });
  state.listen(root, "pointerup", () => (local.dragged = null));
  state.on("picture", () => panes.take(state.get("picture")).then(draw));
  state.on("labels", () => content.isConnected && draw());
  state.on("outputs", () => { drawResults(); tell(); });
  state.on(["maps", "compare", "bypass"], () => { drawTools(); drawResults(); });
  state.on("effect", () => {
    const given = state.get("effect") || {};
    drawResults();
    if (given.is_complete && !isHidden()) frame.say(`${plural(given.n, "sample")}: mean change ${signed(given.mean)}${given.changed === null ? "" : `, ${plural(given.changed, "decision")} changed`}`);
  });
  state.on("leading", drawLeading);
  state.on(["sample", "target"], draw);
  state.on(["component", "components"], () => { list.drawOffers(); drawTools(); population.mark(); });
  state.on(["layer", "layers", "n_leading"], drawLeading);
  state.on(["population", "samples", "tags", "n_samples"], drawResults);
  state.on(["steps", "expected_when"], drawTools);
  state.on(["expected", "predict_first"], draw);
  state.on(["ranges", "region"], () => content.isConnected && list.draw());
  state.on("kept", drawKept);
  state.on("status", () => content.isConnected && drawResults());
  draw();
  panes.take(state.get("picture")).then(draw);
  return () => {
    send.stop();
    frame.close();
  };
}

export default { render };
