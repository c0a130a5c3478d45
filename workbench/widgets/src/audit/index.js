// AuditPanel: one finding at a time, what speaks for it and against it, a verdict by one key.
import { address, button, choice, empty, grouped, h, icon, number, plural, replace, segmented, set, shell, tileOf, uid } from "../common/index.js";
import { Cases } from "./cases.js";

const KEYS = [
  ["A", "accept: the finding is right"], ["R", "reject: nothing is wrong"], ["U", "unsure: leave it to somebody else"], ["Z", "take the last decision back"],
  ["C", "correct: write what is put in its place"], ["N", "write a note"], ["Enter", "in a field: accept with what is written"],
  ["→, J", "next finding"], ["←, K", "previous finding"], ["Esc", "leave a field"],
];
const FILTERS = [
  { value: "open", text: "Open", title: "Not decided by anybody" }, { value: "second", text: "Second", title: "Decided by others and not by me: a second opinion" },
  { value: "disagreed", text: "Disagreed", title: "On which reviewers differ" }, { value: "decided", text: "Decided", title: "Decided by somebody" }, { value: "all", text: "All", title: "All findings" },
];
const VERDICTS = [["accepted", "Yes", "A"], ["rejected", "No", "R"], ["unsure", "Unsure", "U"]];
const SIGNS = { accepted: "✓", rejected: "✗", unsure: "?" };
const NOTHING = {
  open: ["Nothing is open", "All findings of these queues are decided."], second: ["No second opinion is wanted", "Nobody else has decided a finding that you have not."],
  disagreed: ["Reviewers agree", "No finding was decided in two ways."], decided: ["Nothing is decided yet", "Decisions are listed here once there are some."], all: ["There are no findings", "Nothing suspicious was found."],
};

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "audit", label: "Audit", keys: KEYS });
  const { state, root, body, tools, note } = frame;
  const isStill = () => state.get("status") === "still";

  let all = [], byId = new Map(), given = new Map(), last = "", drawn = "";
  const waiting = new Map(); // verdicts on their way: finding -> decision
  const cases = new Cases((kind, question) => frame.ask(kind, question), (id) => id === shown() && draw());

  // Parts --------------------------------------------------------------------------------------------------------------
  const queue = choice("Queue", (value) => go("", { queues: value ? [value] : [] }));
  const filter = segmented("Show", FILTERS, (value) => go("", { filter: value }));
  const who = h("input", { type: "text", class: "wb-au-input wb-au-who", maxLength: 80, placeholder: "no name", "aria-label": "Reviewer", autocomplete: "off", spellcheck: false, onchange: () => state.put({ reviewer: who.value.trim() }), onkeydown: leave });
  tools.append(queue.node, filter.node, h("div", { class: "wb-field" }, h("span", { class: "wb-label", "aria-hidden": "true" }, "Reviewer"), who));

  const back = button("left", "Previous finding", () => step(-1)), on = button("right", "Next finding", () => step(1));
  const place = h("span", { class: "wb-au-place" });
  const kind = h("span", { class: "wb-au-kind" });
  const bar = h("div", { class: "wb-au-bar" }, back, place, on, kind);
  const title = h("h3", { tabIndex: -1 }), reason = h("p", { class: "wb-au-reason" }), from = h("p", { class: "wb-au-quiet" });
  const large = h("canvas", { class: "wb-au-large", width: 224, height: 224, role: "img" });
  const facts = h("div", { class: "wb-au-quiet" });
  const members = h("button", { type: "button", class: "wb-button wb-small", onclick: () => choose() });
  const pro = side("for", "Speaks for it"), contra = side("against", "Speaks against it");
  const subject = h("div", { class: "wb-au-subject" }, large, h("div", {}, facts, members));
  const layout = h("div", { class: "wb-au-case wb-dimmable" }, subject, pro.node, contra.node);

  const question = h("h4");
  const answers = VERDICTS.map(([value, text, key]) => h("button", { type: "button", class: "wb-button", "aria-pressed": "false", "aria-keyshortcuts": key, "data-verdict": value, onclick: () => decide(value) }, text, h("kbd", { "aria-hidden": "true" }, key)));
  const undo = h("button", { type: "button", class: "wb-button", "aria-keyshortcuts": "Z", onclick: takeBack }, icon("undo"), "Undo", h("kbd", { "aria-hidden": "true" }, "Z"));
  const options = h("datalist", { id: uid("new") });
  const word = h("span");
  const fresh = h("input", { type: "text", class: "wb-au-input", maxLength: 120, list: options.id, autocomplete: "off", spellcheck: false, onkeydown: leave });
  const remark = h("input", { type: "text", class: "wb-au-input", maxLength: 2000, placeholder: "none", autocomplete: "off", onkeydown: leave });
  const said = h("ul", { class: "wb-au-said wb-au-quiet" });
  const off = h("p", { class: "wb-au-why wb-au-quiet" });
  const verdict = h("section", { class: "wb-au-verdict", "aria-label": "Verdict" }, question, h("div", { class: "wb-au-answers" }, answers, undo),
    h("div", { class: "wb-au-fields" }, h("label", {}, word, fresh, options), h("label", {}, h("span", {}, "Note"), remark)), said, off);
  const done = h("div", { class: "wb-au-done" });
  const heading = h("summary"), rows = h("tbody"), agreed = h("p", { class: "wb-au-quiet" });
  const list = h("details", {}, heading, agreed, h("div", { class: "wb-au-scroll", tabIndex: 0, role: "region", "aria-label": "Decisions" }, h("table", { class: "wb-au-table" },
    h("thead", {}, h("tr", {}, ["Subject", "Verdict", "Put in place", "Who", "When"].map((text) => h("th", { scope: "col" }, text)))), rows)));
  const nothing = h("div", {});
  const content = h("article", { class: "wb-au-content", "aria-label": "Finding" }, h("header", {}, title, reason, from), layout, verdict);
  const whole = h("div", { class: "wb-au" }, bar, content, nothing, done, list);
  const start = empty("Findings are on their way", "Samples and components that deserve a look appear here, one at a time.");

  function side(name, text) {
    const items = h("ul", { class: "wb-au-list" });
    return { node: h("section", { class: "wb-au-side", "data-side": name, "aria-label": text }, h("h4", {}, text), items), items };
  }

  // What is on show ----------------------------------------------------------------------------------------------------
  const mine = (one) => one.who === state.get("reviewer");

  function fits(finding, how) {
    const said = given.get(finding.id) || [], sure = new Set(said.filter((one) => one.verdict !== "unsure").map((one) => one.verdict));
    if (how === "open") return !said.some(mine) && !sure.size;
    if (how === "second") return said.length > 0 && !said.some(mine);
    if (how === "disagreed") return sure.size > 1;
    return how === "all" || said.length > 0;
  }

  const inQueue = (finding, kinds = state.get("queues")) => !kinds.length || kinds.includes(finding.kind);
  const onShow = () => all.filter((finding) => inQueue(finding) && fits(finding, state.get("filter")));

  function shown() {
    const cursor = state.get("cursor");
    return byId.has(cursor) ? cursor : onShow()[0]?.id || "";
  }

  function load() {
    const given = state.get("queue") || {};
    if (!given.kinds) {
      frame.title("Audit");
      return replace(body, start);
    }
    all = given.findings;
    byId = new Map(all.map((finding) => [finding.id, finding]));
    cases.clear();
    cases.take(state.get("shown"));
    if (given.why) return replace(body, lacking(given));
    if (!whole.isConnected) replace(body, whole);
    hear();
  }

  function lacking({ why, layers }) {
    frame.title("Audit", "no findings yet");
    const layer = choice("Layer", () => {});
    layer.update(layers.map((name) => ({ value: name, text: name })), layers[layers.length - 2] || layers[0] || "");
    const look = h("button", { type: "button", class: "wb-button", disabled: isStill() || !layers.length, onclick: () => state.put({ layer: layer.select.value }) }, "Look for findings");
    return empty("Nothing to look at yet", why, h("div", { class: "wb-au-bar" }, layer.node, look), isStill() ? h("p", {}, "Looking needs the session: it is not in this page.") : null);
  }

  // Decisions, those on their way included
  function hear() {
    given = new Map();
    const { rows: known = [] } = state.get("decisions") || {};
    for (const one of known) given.set(one.finding, [...(given.get(one.finding) || []), one]);
    for (const [id, one] of waiting) given.set(id, [...(given.get(id) || []).filter((other) => other.who !== one.who), one]);
    last = "";
    for (const one of known) if (mine(one)) last = one.finding;
    drawn = "";
    draw();
    drawTools();
    drawList();
  }

  function drawTools() {
    const kinds = state.get("queue").kinds || {}, how = state.get("filter");
    const counts = (kind) => all.filter((one) => (!kind || one.kind === kind) && fits(one, how)).length;
    const present = Object.keys(kinds).filter((kind) => all.some((one) => one.kind === kind));
    const chosen = state.get("queues");
    queue.update(
      [{ value: "", text: `All (${grouped(counts(""))})` }, ...present.map((kind) => ({ value: kind, text: `${kinds[kind].title} (${grouped(counts(kind))})` })), ...(chosen.length > 1 ? [{ value: "+", text: plural(chosen.length, "queue") }] : [])],
      chosen.length > 1 ? "+" : chosen[0] || "");
    filter.update(how);
    if (root.getRootNode().activeElement !== who) who.value = state.get("reviewer");
    who.disabled = isStill();
    const open = all.filter((one) => fits(one, "open")).length;
    frame.title("Audit", [`${grouped(open)} of ${plural(all.length, "finding")} open`, state.get("queue").layer].filter(Boolean).join(" · "));
  }

  // Drawing ------------------------------------------------------------------------------------------------------------
  function draw() {
    if (!whole.isConnected) return;
    const id = shown(), finding = byId.get(id), order = onShow(), at = order.findIndex((one) => one.id === id);
    const key = JSON.stringify([id, cases.get(id) ? 1 : cases.missing.has(id) ? 2 : 0, at, order.length, given.get(id) || [], isStill()]);
    if (drawn === key) return;
    const isNew = !drawn || JSON.parse(drawn)[0] !== id;
    drawn = key;
    content.hidden = !finding;
    kind.hidden = !finding;
    if (finding) drawCase(finding, isNew);
    place.textContent = at >= 0 ? `${grouped(at + 1)} of ${grouped(order.length)}` : finding ? `not among ${grouped(order.length)}` : "none";
    const from = all.indexOf(finding);
    set(back, { disabled: !neighbour(-1, from) });
    set(on, { disabled: !neighbour(1, from) });
    const left = state.get("queue").left_out || [];
    nothing.hidden = Boolean(finding);
    if (!finding) replace(nothing, empty(...NOTHING[state.get("filter")], ...left.map((line) => h("p", {}, `Not looked for: ${line}`))));
    const after = at >= 0 ? order.slice(at + 1) : order;
    cases.want([id, ...after.map((one) => one.id)]);
    mark();
  }

  function drawCase(finding, isNew) {
    const kinds = state.get("queue").kinds, case_ = cases.get(finding.id), isLost = cases.missing.has(finding.id);
    kind.textContent = kinds[finding.kind].title;
    title.textContent = typeof finding.subject === "number" ? finding.title[0].toUpperCase() + finding.title.slice(1) : finding.title;
    reason.textContent = finding.reason;
    from.textContent = [`Found by ${finding.method}`, finding.score === null ? "" : `score ${number(finding.score)}`].filter(Boolean).join(" · ");
    set(large, { "aria-label": `${finding.title}${case_ ? `, ${case_.words}` : ""}` });
    const pen = large.getContext("2d");
    pen.clearRect(0, 0, large.width, large.height);
    large.classList.toggle("wb-waiting", !case_ && !isLost);
    if (case_?.pictures[0]) pen.drawImage(case_.pictures[0], 0, 0, large.width, large.height);
    facts.textContent = case_ ? case_.words : isLost ? "The evidence is not in this page." : "";
    members.hidden = !(case_ && finding.n > 1);
    if (!members.hidden) members.textContent = `Choose these ${grouped(finding.n)} samples`;
    for (const [part, isFor] of [[pro, true], [contra, false]]) replace(part.items, case_ ? case_.sides.filter((one) => one.is_for === isFor).map((one) => item(case_, one)) : isLost ? h("li", { class: "wb-au-quiet" }, "Not in this page: it needs the session.") : null);
    drawVerdict(finding, isNew);
  }

  function item(case_, one) {
    const count = one.samples.length;
    const tiles = [...one.samples.map((sample, k) => tile(case_, one.at + k, { sample }, [`${sample}`, case_.names[sample]].filter(Boolean).join(" "))),
      ...one.components.map((component, k) => tile(case_, one.at + count + k, { component }, `${address(component).name}${one.values[k] === undefined ? "" : ` ${number(one.values[k])}`}`))];
    return h("li", {}, h("p", {}, one.text), tiles.length ? h("div", { class: "wb-au-tiles" }, tiles) : null);
  }

  function tile(case_, at, what, text) {
    const canvas = h("canvas", { width: 96, height: 96, "aria-hidden": "true" });
    if (case_.pictures[1]) canvas.getContext("2d").drawImage(case_.pictures[1], ...tileOf(case_.sheet, at), 0, 0, 96, 96);
    const isSample = what.sample !== undefined, name = isSample ? `sample ${text}` : text;
    return h("button", {
      type: "button", class: "wb-au-tile", "data-sample": isSample ? what.sample : null, "data-component": isSample ? null : what.component, title: name, "aria-label": `Select ${name}`,
      onclick: () => state.put(what), onpointerenter: () => state.hover(isSample ? what.sample : what.component), onpointerleave: () => state.hover(null),
    }, canvas, h("span", { "aria-hidden": "true" }, text));
  }

  function drawVerdict(finding, isNew) {
    const { kinds, classes } = state.get("queue"), { tags = [] } = state.get("decisions") || {};
    const said_ = given.get(finding.id) || [], own = said_.find(mine);
    question.textContent = kinds[finding.kind].question;
    for (const one of answers) set(one, { "aria-pressed": String(own?.verdict === one.dataset.verdict), disabled: isStill() });
    set(undo, { disabled: isStill() || !last });
    const isLabel = finding.kind === "label", isComponent = kinds[finding.kind].of === "components";
    word.textContent = isLabel ? "Right label" : isComponent ? "Label" : "Tag";
    replace(options, (isLabel ? classes : isComponent ? [] : tags).map((value) => h("option", { value })));
    if (isNew) {
      fresh.value = isComponent ? "" : own?.new || finding.proposal;
      remark.value = own?.note || "";
    }
    set(fresh, { placeholder: isComponent ? "unchanged" : "none", disabled: isStill() });
    set(remark, { disabled: isStill() });
    // A second opinion is given without knowing the first.
    const isBlind = state.get("filter") === "second" && !own;
    replace(said, isBlind ? h("li", {}, `${plural(said_.length, "reviewer")} decided; shown once you have.`) : said_.map((one) => h("li", {}, words(one))));
    off.textContent = isStill() ? "Deciding needs the session: it is not in this page." : "";
  }

  const words = (one) => `${SIGNS[one.verdict]} ${one.verdict}${one.new ? `, ${one.new}` : ""} by ${one.who || "somebody without a name"}${one.note ? `: ${one.note}` : ""}`;

  function drawList() {
    const { rows: known = [], n = 0, both = 0, agreed: same = 0, kappa = null } = state.get("decisions") || {};
    const isBlind = state.get("filter") === "second";
    const listed = known.filter((one) => !isBlind || mine(one)).slice(-50).reverse();
    list.hidden = !known.length;
    heading.textContent = `${plural(n, "decision")}${isBlind ? ", those of others hidden" : ""}`;
    agreed.textContent = both ? `Reviewers agree on ${grouped(same)} of ${grouped(both)} that several decided${kappa === null ? "" : ` (kappa ${number(kappa, 2)})`}.` : "";
    replace(rows, listed.map((one) => h("tr", {}, h("th", { scope: "row" }, typeof one.subject === "number" ? `sample ${one.subject}` : one.subject),
      h("td", {}, `${SIGNS[one.verdict]} ${one.verdict}`), h("td", {}, one.new ? `${one.old ? `${one.old} → ` : ""}${one.new}` : "–"), h("td", {}, one.who || "–"), h("td", {}, one.when.slice(0, 16).replace("T", " ")))));
  }

  function mark() {
    const sample = state.get("sample"), component = state.get("component");
    for (const one of layout.querySelectorAll(".wb-au-tile")) one.classList.toggle("wb-current", one.dataset.sample !== undefined ? one.dataset.sample === String(sample) : one.dataset.component === component);
    replace(note, [sample === null ? "" : `sample ${sample}`, component ? component : ""].filter(Boolean).join(" · "));
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  // The nearest finding on show before or after a place in the whole order
  function neighbour(way, from) {
    const kept = new Set(onShow().map((one) => one.id));
    for (let at = from + way; at >= 0 && at < all.length; at += way) if (kept.has(all[at].id)) return all[at];
    return null;
  }

  function step(way) {
    const next = neighbour(way, all.indexOf(byId.get(shown())));
    if (next) go(next.id);
  }

  // Show a finding; its subject is selected for all widgets.
  function go(id, view = {}) {
    const finding = byId.get(id);
    const subject = !finding ? {} : typeof finding.subject === "number" ? { sample: finding.subject } : { component: finding.subject };
    state.put({ ...view, cursor: id, ...subject });
    drawn = "";
    draw();
    drawTools();
    const now = byId.get(shown());
    if (now) frame.say(`${place.textContent}: ${now.title}. ${now.reason}`);
    else frame.say(NOTHING[state.get("filter")][0]);
  }

  function choose() {
    const samples = cases.get(shown())?.members || [];
    state.put({ samples });
    frame.say(`${plural(samples.length, "sample")} chosen`);
  }

  async function decide(value) {
    const finding = byId.get(shown());
    if (!finding || isStill()) return;
    const put = value === "accepted" ? fresh.value.trim() : "", note_ = remark.value.trim();
    const isComponent = state.get("queue").kinds[finding.kind].of === "components";
    const at = all.indexOf(finding);
    waiting.set(finding.id, { id: "", finding: finding.id, kind: finding.kind, subject: finding.subject, verdict: value, old: finding.old, new: put, who: state.get("reviewer"), when: "", note: note_ });
    // The next one is drawn at once; if the verdict cannot be kept, the reader is led back.
    hear();
    const next = neighbour(1, at) || neighbour(-1, at);
    const hadFocus = root.contains(root.getRootNode().activeElement);
    go(next && next.id !== finding.id ? next.id : finding.id);
    if (hadFocus) title.focus({ preventScroll: true });
    const body_ = { id: finding.id, verdict: value, note: note_, ...(value === "accepted" && !(isComponent && !put) ? { new: put } : {}) };
    const answer = await frame.ask("decide", body_);
    waiting.delete(finding.id);
    if (!answer) {
      hear();
      if (byId.has(finding.id)) go(finding.id);
      replace(done, "Not saved.");
      return;
    }
    const { tag, n_tagged: n } = answer.result;
    const text = `${value[0].toUpperCase()}${value.slice(1)}: ${finding.title}${tag ? `, ${n ? `${plural(n, "sample")} tagged` : "tagged before as"} ${tag}` : answer.result.new ? `, called ${answer.result.new}` : ""}.`;
    replace(done, text);
    frame.say(text);
    hear();
  }

  async function takeBack() {
    if (isStill() || !last) return;
    const answer = await frame.ask("undo");
    if (!answer) return;
    const gone = answer.result.finding, finding = byId.get(gone);
    replace(done, gone ? `Taken back: ${finding ? finding.title : "a decision"} was ${answer.result.verdict}.` : "There was nothing to take back.");
    frame.say(done.textContent);
    if (finding) go(gone);
  }

  function leave(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      title.focus({ preventScroll: true });
    } else if (event.key === "Enter" && event.target !== who) decide("accepted");
  }

  const ACTS = { a: () => decide("accepted"), r: () => decide("rejected"), u: () => decide("unsure"), z: takeBack, j: () => step(1), k: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1), c: () => fresh.select(), n: () => remark.select() };
  state.listen(root, "keydown", (event) => {
    if (/^(input|textarea|select)$/i.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.('[role="radiogroup"], .wb-au-scroll, .wb-copy') && event.key.startsWith("Arrow")) return;
    if (event.target.closest?.(".wb-copy")) return;
    const act = ACTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || !whole.isConnected) return;
    event.preventDefault();
    act();
  });

  // From the traits ----------------------------------------------------------------------------------------------------
  state.on("queue", load);
  state.on("decisions", () => whole.isConnected && hear());
  state.on("shown", () => cases.take(state.get("shown")));
  state.on(["cursor", "queues", "filter"], () => whole.isConnected && (draw(), drawTools(), drawList()));
  state.on("reviewer", () => whole.isConnected && hear());
  state.on("status", () => whole.isConnected && (draw(), drawTools()));
  state.on(["sample", "component"], () => whole.isConnected && mark());
  load();
  return () => {
    cases.close();
    frame.close();
  };
}

export default { render };
