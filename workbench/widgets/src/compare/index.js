// CompareView: a base model beside a variant, differences first.
import { button, choice, empty, h, plural, replace, sampleSteps, settled, shell } from "../common/index.js";
import { changedOf } from "./changed.js";
import { movedOf } from "./moved.js";
import { outputsOf } from "./outputs.js";
import { panesOf } from "./panes.js";
import { reportOf } from "./report.js";

const KEYS = [
  ["← →", "former or next sample, on the sample"], ["arrows in a list, Enter", "move, choose"], ["Home, End", "first and last of a list"],
];

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "compare", label: "Comparison of models", keys: KEYS });
  const { state, body, tools, note } = frame;
  const local = { told: null };
  const isStill = () => state.get("status") === "still";
  const isBusy = () => ["running", "waiting"].includes(state.get("status"));
  const target = () => state.get("target") || "top";
  const chosen = () => (state.get("variants") || []).find((one) => one.name === state.get("variant")) || null;
  const names = () => [state.get("base") || "base", state.get("variant")];
  // Whether a payload belongs to the variant on show; one that was made anew under its name has another digest.
  const isOfVariant = (given) => Boolean(given && given.variant === state.get("variant") && (!chosen() || given.digest === chosen().digest));
  const isOfSample = (given) => isOfVariant(given) && given.sample === state.get("sample") && given.target === target();

  // Tools --------------------------------------------------------------------------------------------------------------
  const which = choice("Variant", (value) => state.put({ variant: value }));
  const steps = sampleSteps(frame);
  tools.append(which.node, steps.node);

  // Parts --------------------------------------------------------------------------------------------------------------
  const edits = h("div", { class: "wb-edits" });
  const warnings = h("ul", { class: "wb-warnings", "aria-label": "What to know of this variant" });
  const verdict = h("p", { class: "wb-verdict" });
  const outputs = outputsOf({ onpick: pickOutput });
  const panes = panesOf();
  const moved = movedOf({ state, onpick: (component) => state.put({ component }) });
  const changed = changedOf({ state, onpick: (sample) => state.put({ sample }), measure: () => frame.ask("measure") });
  const report = reportOf();
  const reset = h("button", { type: "button", class: "wb-button wb-small", onclick: () => state.put({ target: null }) }, "What the base says");
  const looks = h("section", { class: "wb-looks", tabIndex: 0, role: "group", "aria-label": "This sample under both models. Arrows change the sample.", onkeydown: looksKey },
    h("div", { class: "wb-column-head" }, h("h3", { class: "wb-h" }, "This sample"), reset), verdict, outputs.node, h("div", { class: "wb-dimmable" }, panes.node), moved.node);
  const models = h("div", { class: "wb-models" }, h("div", { class: "wb-models-names" }), edits, warnings);
  const both = h("div", { class: "wb-both" }, changed.node, looks);
  const none = h("p", { class: "wb-quiet wb-nothing" });
  const content = h("div", { class: "wb-compare-body" }, models, none, both, report.node);

  function draw() {
    const given = state.get("report") || {}, base = state.get("base"), variant = state.get("variant"), sample = state.get("sample");
    const all = state.get("variants") || [], one = chosen();
    const hasSession = Boolean(base), hasReport = Boolean(given.models);
    which.update([...(variant ? [] : [{ value: "", text: "none open" }]), ...all.map(({ name, is_open }) => ({ value: name, text: is_open ? name : `${name} (closed)` }))], variant);
    which.node.hidden = !hasSession;
    which.select.disabled = !all.length;
    steps.node.hidden = !hasSession || !variant;
    steps.draw();
    const words = variant ? `${variant} against ${base}` : hasReport ? `Models with and without ${given.artifact}` : "Comparison";
    frame.title(words, variant ? (sample === null || sample === undefined ? "no sample selected" : sampleWords(sample)) : hasReport ? plural(given.n, "pair") : "\u00a0");
    replace(note, all.length > 1 ? plural(all.length, "variant") : "");
    if (!variant && !hasReport) return replace(body, empty("No variant to compare with", isStill() ? "There was none when this page was saved." : "s.variant(name, edits) makes one, and so does “Keep as edit” in a SteeringPanel: it appears here."));
    if (!content.isConnected) replace(body, content);
    models.hidden = both.hidden = !variant;
    none.hidden = Boolean(variant) || !hasSession;
    replace(none, "No variant is open, so that samples cannot be compared now.");
    replace(models.firstChild, h("b", {}, names()[0]), h("span", { class: "wb-quiet" }, " → "), h("b", {}, names()[1]));
    replace(edits, one?.changes?.length ? one.changes.map((text) => h("span", { class: "wb-edit" }, text)) : h("span", { class: "wb-quiet" }, "Another model: no edits are known."));
    warnings.hidden = !one?.warnings?.length;
    replace(warnings, (one?.warnings || []).map((text) => h("li", {}, text)));
    drawSample();
    drawChanged();
    report.draw(given, names());
  }

  function sampleWords(sample) {
    const picture = state.get("picture") || {};
    return [`sample ${sample}`, ...(picture.sample === sample ? [picture.label ? `labelled ${picture.label}` : "", picture.key] : [])].filter(Boolean).join(" · ");
  }

  function drawSample() {
    if (!state.get("variant")) return;
    const given = state.get("outputs") || {}, maps = state.get("maps") || {};
    const isMine = isOfSample(given), hasMaps = isOfSample(maps), still = isStill();
    const isClosed = chosen() && !chosen().is_open;
    const gone = still ? "Not in this page" : isClosed ? "Not computed: the variant is closed" : state.get("status") === "failed" ? "No map: see above" : "";
    looks.classList.toggle("wb-lacking", !isMine && !isBusy());
    reset.hidden = target() === "top" || still;
    verdict.className = `wb-verdict ${isMine ? `wb-is-${given.kind || "none"}` : ""}`;
    replace(verdict, isMine ? decision(given) : gone && !isBusy() ? gone.replace("No map", "No outputs") : "\u00a0");
    outputs.draw(given, { isMine, names: names() });
    panes.draw(maps, { isMine: hasMaps, gone: isBusy() ? "" : gone, names: names() });
    moved.draw(maps, { isMine: hasMaps, isStill: still });
  }

  function decision(given) {
    const [before, after] = given.decisions || [];
    if (!given.kind) return "This model takes no decision.";
    const label = given.label ? `, labelled ${given.label}` : "";
    if (before === after) return [h("b", {}, "Decision unchanged"), `: ${before}${label}.`];
    const what = { lost: "right, and now wrong", gained: "wrong, and now right", other: given.label ? "wrong before and after" : "no label tells which is right" }[given.kind];
    return [h("b", {}, "Decision changed"), `: ${before} → ${after}${label}: ${what}.`];
  }

  function drawChanged() {
    if (!state.get("variant")) return;
    const given = state.get("differences") || {};
    const isMine = isOfVariant(given) && given.population === state.get("population");
    changed.draw(given, { isMine, isStill: isStill(), isRunning: isBusy(), isClosed: Boolean(chosen() && !chosen().is_open), names: names() });
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  function pickOutput(index) {
    state.put({ target: `logit:${index}` });
  }

  function looksKey(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.target !== looks || !by) return;
    event.preventDefault();
    steps.step(by);
  }

  const tell = settled(500, () => {
    const given = state.get("outputs") || {};
    if (!isOfSample(given)) return;
    const key = JSON.stringify([given.sample, given.digest]);
    if (local.told === key) return;
    local.told = key;
    frame.say(`Sample ${given.sample}: ${given.summary}`);
  });
  state.later(tell.stop);

  state.on("picture", () => panes.take(state.get("picture")).then(draw));
  state.on("outputs", () => { drawSample(); tell(); });
  state.on(["maps", "labels"], drawSample);
  state.on("differences", () => {
    drawChanged();
    if (state.get("differences")?.summary) frame.say(state.get("differences").summary);
  });
  state.on(["variant", "variants", "base", "sample", "target", "report", "n_samples"], draw);
  state.on(["population", "samples", "tags", "kind"], drawChanged);
  state.on(["component", "layer", "layers", "n_moved"], drawSample);
  state.on("sample", () => changed.mark());
  state.on("component", () => moved.mark());
  state.on("status", () => { if (content.isConnected) { drawSample(); drawChanged(); } });
  draw();
  panes.take(state.get("picture")).then(draw);
  return () => frame.close();
}

export default { render };
