// HeatmapViewer: one picture, its relevance, its outputs and its leading components.
import { address, array, bitmap, button, choice, css, drawScale, empty, greyed, grouped, h, inWords, nameOf, number, paced, paint, percent, plural, replace, rove, sampleSteps, segmented, set, shell, slider, switchOff, thumb, AGAINST, FOR, NEEDS_SESSION } from "../common/index.js";
import { outline, painted } from "./maps.js";
import { keyed, regionOver } from "./region.js";

const KEYS = [
  ["← →", "former and next sample, on the picture"], ["hold the picture, or O", "see it without colours"],
  ["drag on a picture, or R", "a region: which components act there"], ["Shift-arrows, [ ]", "move the region, make it smaller or larger"],
  ["arrows in a list", "choose target or component"], ["Enter", "show the map of a component"], ["Esc", "clear the region, then back to all relevance"],
];

const RANDOM = "random weights"; // no method has this name

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "heatmap", label: "Heatmap", keys: KEYS });
  const { state, body, tools, note, root } = frame;
  const shownBitmap = { key: null, image: null, grey: null };

  // Tools --------------------------------------------------------------------------------------------------------------
  const steps = sampleSteps(frame, { ownOnly: true });
  const isStill = () => state.get("status") === "still";
  const sign = segmented("Sign", [{ value: "both", text: "±", title: "For and against" }, { value: "positive", text: "+", title: "Only for the output" }, { value: "negative", text: "−", title: "Only against the output" }], (value) => state.put({ sign: value }));
  const scale = segmented("Scale", [{ value: "image", text: "Each", title: "Each map on its own scale" }, { value: "shared", text: "Shared", title: "Maps of one rule, through a component or for other outputs, on the scale of all relevance. Other methods have units, and scales, of their own" }], (value) => state.put({ scale: value }));
  const sendOpacity = paced(60, (value) => state.put({ opacity: value }));
  const opacity = slider("Opacity", { min: 0, max: 1, step: 0.05, format: (v) => percent(v), oninput: (v) => { local.opacity = v; drawPanes(); sendOpacity(v); }, onchange: (v) => sendOpacity.now(v) });
  const toggle = button("more", "More ways to look", () => { local.more = more.hidden; drawMore(); }, { "aria-expanded": "false" });
  tools.append(h("div", { class: "wb-field" }, steps.node), sign.node, scale.node, opacity.node, toggle);
  const local = { opacity: null, threshold: null, plain: false, region: undefined, more: false };

  // Seldom wanted, and then together: what is drawn how, and what else is shown beside.
  const sendThreshold = paced(60, (value) => state.put({ threshold: value }));
  const threshold = slider("Hide below", { min: 0, max: 1, step: 0.05, format: (v) => percent(v), oninput: (v) => { local.threshold = v; drawPanes(); sendThreshold(v); }, onchange: (v) => sendThreshold.now(v) });
  const style = segmented("Draw", [{ value: "colour", text: "Colours" }, { value: "contour", text: "Lines", title: "Lines of equal relevance, smoothed" }], (value) => state.put({ contour: value === "contour" }));
  const compare = choice("Compare with", (name) => { if (name) state.put({ methods: [...(state.get("methods") || []), name] }); drawMore(); });
  const also = choice("Also explain", (value) => { if (value) state.put({ targets: [...(state.get("targets") || []), value] }); drawMore(); });
  const masks = tick("Masks", "Outlines of the data set's masks", (on) => state.put({ show_masks: on }));
  const random = tick("Random weights", "Sanity check: the same map from the model with random weights", (on) => state.put({ show_random: on }));
  const more = h("div", { class: "wb-heat-more", hidden: true, role: "group", "aria-label": "More ways to look" }, style.node, threshold.node, also.node, compare.node, random.node, masks.node);

  function tick(text, title, onchange) {
    const input = h("input", { type: "checkbox", onchange: () => onchange(input.checked) });
    return { node: h("label", { class: "wb-tick", title }, input, text), input, update: (on) => (input.checked = on) };
  }

  function drawMore() {
    const methods = state.get("methods") || [], targets = state.get("targets") || [];
    const isUsed = methods.length || targets.length || state.get("threshold") > 0 || state.get("contour") || state.get("show_random");
    more.hidden = !(local.more || isUsed);
    set(toggle, { "aria-expanded": String(!more.hidden), "aria-pressed": String(!more.hidden) });
    threshold.update(state.get("threshold"));
    style.update(state.get("contour") ? "contour" : "colour");
    random.update(state.get("show_random"));
    masks.update(state.get("show_masks"));
    masks.node.hidden = !(state.get("picture")?.masks || []).length;
    const left = (state.get("explainers") || []).slice(1).filter((name) => !methods.includes(name));
    compare.update([{ value: "", text: left.length ? "choose …" : "no others" }, ...left.map((name) => ({ value: name, text: name.replaceAll("_", " ") }))], "");
    const outputs = state.get("outputs") || {}, others = outputs.sample === state.get("sample") ? outputs.top.filter((o, i) => !(i === 0 && target() === "top")).map((o) => [`logit:${o.class_}`, o.name || `class ${o.class_}`]) : [];
    const open = others.filter(([value]) => value !== target() && !targets.includes(value));
    also.update([{ value: "", text: open.length ? "choose …" : "no others" }, ...open.map(([value, text]) => ({ value, text }))], "");
    // Without a session only what has come along can be shown, or be hidden again.
    const off = isStill() ? NEEDS_SESSION : "";
    for (const one of [compare.select, also.select, layer.select]) switchOff(one, off);
    switchOff(random.input, fits(state.get("random")) || state.get("show_random") ? "" : off);
  }

  // Body ---------------------------------------------------------------------------------------------------------------
  const beside = new Map(); // name of a method -> its pane
  const input = pane("Input");
  const full = pane("All relevance");
  const part = pane("");
  const panes = h("div", { class: "wb-panes wb-dimmable", tabIndex: 0, role: "group", "aria-label": "Picture and maps. Arrows change the sample.", onkeydown: paneKey }, input.node, full.node, part.node);
  const figures = h("p", { class: "wb-figures" });
  const outputs = h("div", { class: "wb-outputs", role: "radiogroup", "aria-label": "Explained output", onkeydown: (event) => rove(event, outputs) });
  const layer = choice("Layer", (value) => state.put({ layer: value }));
  const strip = h("div", { class: "wb-comps", role: "listbox", "aria-label": "Most relevant components", onkeydown: (event) => rove(event, strip) });
  const stripNote = h("p", { class: "wb-quiet" });
  const stripHead = h("h3", { class: "wb-h" });
  const content = h("div", { class: "wb-heat-body" },
    more, panes, figures,
    h("div", { class: "wb-columns" },
      h("section", { class: "wb-column" }, h("h3", { class: "wb-h" }, "Explained output"), h("div", { class: "wb-output-head", "aria-hidden": "true" }, h("span", {}), h("span", {}, "prob."), h("span", {}, "logit")), outputs),
      h("section", { class: "wb-column" }, h("div", { class: "wb-column-head" }, stripHead, layer.node), strip, stripNote)));
  const nothing = empty("No sample selected", "Click a reference on a card, or type a sample's number above.");

  function pane(title) {
    const canvas = h("canvas", { class: "wb-picture", role: "img" });
    const heading = h("div", { class: "wb-pane-title" }, title);
    const legend = h("div", { class: "wb-scale" });
    const wait = h("div", { class: "wb-pane-wait wb-waiting", hidden: true });
    const gone = h("div", { class: "wb-pane-gone", hidden: true });
    const frame = h("div", { class: "wb-frame" }, canvas, wait, gone);
    const node = h("figure", { class: "wb-pane" }, heading, frame, legend);
    const showRegion = regionOver(frame, canvas, { onpress: plain, ondrag: dragged });
    return { node, canvas, heading, legend, wait, gone, showRegion };
  }

  // A region while it is dragged is ours alone; let go, it is everyone's.
  function dragged(region, done) {
    local.region = done ? undefined : region;
    if (done) setRegion(region.width > 0.01 && region.height > 0.01 ? region : null);
    drawRegions();
  }

  function setRegion(region) {
    state.put({ region });
    drawRegions();
    drawStrip();
    frame.say(region ? `Region ${percent(region.width)} wide, ${percent(region.height)} high` : "No region");
  }

  function drawRegions() {
    const region = local.region === undefined ? state.get("region") : local.region;
    for (const one of [input, full, part, ...beside.values()]) one.showRegion(region);
  }

  function plain(on) {
    if (local.plain === on) return;
    local.plain = on;
    drawPanes();
  }

  const target = () => state.get("target") || "top";
  const fits = (given) => given && given.sample === state.get("sample") && (given.target === undefined || given.target === target());

  // Drawing ------------------------------------------------------------------------------------------------------------
  async function drawPicture() {
    const given = state.get("picture") || {};
    if (given.jpeg && shownBitmap.key !== given) {
      shownBitmap.key = given;
      const image = await bitmap(given.jpeg);
      if (shownBitmap.key !== given) return;
      shownBitmap.image = image;
      shownBitmap.grey = greyed(image);
    }
    drawTitle();
    drawPanes();
  }

  function drawTitle() {
    const sample = state.get("sample"), given = state.get("picture") || {};
    steps.draw();
    if (sample === null || sample === undefined) return frame.title("Heatmap");
    const known = given.sample === sample;
    frame.title(`Sample ${sample}`, known ? [given.label ? `labelled ${given.label}` : "", given.key].filter(Boolean).join(" · ") : "\u00a0");
  }

  function draw() {
    const sample = state.get("sample");
    if (sample === null || sample === undefined) {
      drawTitle();
      return replace(body, nothing);
    }
    if (!content.isConnected) replace(body, content);
    drawPicture();
    drawFigures();
    drawOutputs();
    drawStrip();
  }

  function drawPanes() {
    const { image, grey } = shownBitmap;
    const heat = state.get("heat") || {}, conditional = state.get("conditional") || {};
    const component = state.get("component");
    const hasPicture = (state.get("picture") || {}).sample === state.get("sample");
    const isStill = state.get("status") === "still";
    input.wait.hidden = hasPicture || isStill;
    input.gone.hidden = hasPicture || !isStill;
    replace(input.gone, "This sample is not in this page");
    if (image) put(input.canvas, image, null);
    set(input.canvas, { "aria-label": `Sample ${state.get("sample")}, as the model saw it` });
    drawMap(full, fits(heat) ? heat : null, grey, heat.bulk, "own");
    part.node.hidden = !component;
    panes.classList.toggle("wb-three", Boolean(component));
    if (component) {
      const { layer: of } = address(component), name = nameOf(component, state.get("labels"));
      replace(part.heading, h("span", {}, "Through "), h("strong", {}, name), h("span", { class: "wb-quiet wb-pane-of" }, ` ${of}`), button("close", "Back to all relevance", () => state.put({ component: null }), { class: "wb-button wb-icon-only wb-bare" }));
      const mine = fits(conditional) && conditional.component === component ? conditional : null;
      drawMap(part, mine, grey, state.get("scale") === "shared" && fits(heat) ? heat.bulk : mine?.bulk, state.get("scale"));
    }
    input.legend.replaceChildren();
    drawBeside();
    drawRegions();
  }

  // Panes of other targets, which may share the scale; of other methods and of the model with random weights, each on
  // its own: their units differ.
  function drawBeside() {
    const compared = state.get("compared") || {}, methods = state.get("methods") || [];
    const targeted = state.get("targeted") || {}, targets = state.get("targets") || [], heat = state.get("heat") || {};
    const wanted = [...targets, ...methods, ...(state.get("show_random") ? [RANDOM] : [])];
    for (const [name, one] of beside) {
      if (wanted.includes(name)) continue;
      one.node.remove();
      beside.delete(name);
    }
    for (const name of wanted) {
      if (!beside.has(name)) beside.set(name, pane(name));
      const one = beside.get(name);
      panes.append(one.node);
      const isRandom = name === RANDOM, random = state.get("random") || {};
      const isTarget = targets.includes(name), isShared = isTarget && state.get("scale") === "shared" && fits(heat);
      const given = isTarget ? (fits(targeted) ? (targeted.maps || []).find((map) => map.target === name) : null) : isRandom ? (fits(random) ? random : null) : fits(compared) ? (compared.maps || []).find((map) => map.rule === name) : null;
      const close = () => (isTarget ? state.put({ targets: targets.filter((other) => other !== name) }) : isRandom ? state.put({ show_random: false }) : state.put({ methods: methods.filter((other) => other !== name) }));
      replace(one.heading, isTarget ? h("span", {}, "For ") : null, h("strong", {}, isTarget ? given?.name || name : isRandom ? "Random weights" : name.replaceAll("_", " ")), button("close", "Close this map", close, { class: "wb-button wb-icon-only wb-bare" }));
      drawMap(one, given, shownBitmap.grey, isShared ? heat.bulk : given?.bulk, isShared ? "shared" : isTarget ? "own" : "units");
      if (given && isRandom) {
        const rho = given.correlation;
        const verdict = rho === null ? "one of the maps is constant" : Math.abs(rho) > 0.5 ? "the map hardly depends on what was learnt" : "the map depends on what was learnt";
        one.legend.append(h("div", { class: `wb-scale-note ${rho !== null && Math.abs(rho) > 0.5 ? "wb-doubt" : ""}` }, rho === null ? verdict : h("b", {}, `rank correlation ${number(rho, 2)}`), rho === null ? "" : `: ${verdict}`));
      } else if (given && given.gap !== null) one.legend.append(h("div", { class: "wb-scale-note" }, `gap ${percent(Math.abs(given.gap), 1)}`));
    }
    panes.classList.toggle("wb-many", wanted.length > 0);
  }

  function drawMap(pane, given, grey, limit, kind) {
    const failed = !given && ["failed", "still"].includes(state.get("status"));
    replace(pane.gone, state.get("status") === "still" ? "This map is not in this page" : "No map: see above");
    pane.wait.hidden = Boolean(given) || failed;
    pane.gone.hidden = !failed;
    pane.legend.style.visibility = given ? "" : "hidden";
    if (!given) return grey && put(pane.canvas, grey, null);
    const codes = array(given.map), [height, width] = given.map.shape;
    const strength = local.opacity ?? state.get("opacity"), which = state.get("sign");
    const layer = painted(given, limit, { sign: which, opacity: strength, threshold: local.threshold ?? state.get("threshold"), contour: state.get("contour") });
    put(pane.canvas, local.plain ? shownBitmap.image : grey, local.plain ? null : layer, [width, height]);
    set(pane.canvas, { "aria-label": `Map of ${given.component || "all relevance"} for ${given.name || given.target}, ${inWords(given, codes, width, height)}` });
    const own = !given.limit ? "no relevance" : kind === "shared" ? "on the scale of all relevance" : kind === "units" ? "in its own units" : "on its own scale";
    drawScale(pane.legend, limit, `${own}${given.limit > 1.001 * limit ? `, peak ${number(given.limit)}` : ""}`, { strength, sign: which });
  }

  // With the outlines of masks, where they are wanted.
  function put(canvas, picture, layer, size) {
    const ctx = paint(canvas, picture, layer, size, 560, { hatched: !state.get("contour") }), known = state.get("picture") || {};
    if (state.get("show_masks") && !local.plain && known.sample === state.get("sample")) outline(ctx, known.masks || [], canvas.width, canvas.height);
  }

  function drawFigures() {
    const given = state.get("heat") || {};
    if (!fits(given)) return replace(figures, "\u00a0");
    const gap = given.gap === null ? null : Math.abs(given.gap);
    replace(figures,
      item("Score", number(given.score)),
      item("Relevance, summed", number(given.total)),
      given.gap === null ? null : item("Gap", percent(given.gap, 1), gap > 0.1 ? "wb-doubt" : "", "Share of the score that relevance does not account for"),
      item("Rule", given.rule || "–"),
      (given.in_masks || []).filter((one) => one.share !== null).map((one) => item(`In ${one.name}`, percent(one.share, 1), "", "Share of the positive relevance inside this mask")));
  }

  function item(word, value, kind = "", title = "") {
    return h("span", { class: `wb-figure ${kind}`, title }, h("span", { class: "wb-quiet" }, word), " ", h("b", {}, value));
  }

  function drawOutputs() {
    const given = state.get("outputs") || {}, chosen = target();
    if (given.sample !== state.get("sample") && state.get("status") === "still") return replace(outputs, h("p", { class: "wb-quiet" }, "Not in this page."));
    if (given.sample !== state.get("sample")) return replace(outputs, Array.from({ length: 5 }, () => h("div", { class: "wb-output-wait wb-waiting" })));
    const known = chosen === "top" || given.top.some((o) => `logit:${o.class_}` === chosen);
    const heat = state.get("heat") || {};
    const rows = given.top.map((o, i) => row(o, i === 0 ? "top" : `logit:${o.class_}`, chosen === `logit:${o.class_}` || (i === 0 && chosen === "top")));
    if (!known) rows.push(row({ name: fits(heat) ? heat.name || chosen : chosen, logit: fits(heat) ? heat.score : null, probability: null, class_: "" }, chosen, true));
    for (const one of rows) if (one.getAttribute("aria-checked") !== "true" && !state.leadsOn({ target: one.dataset.target })) switchOff(one, NEEDS_SESSION);
    replace(outputs, rows);
    function row(o, value, on) {
      return h("button", { type: "button", class: "wb-output", role: "radio", "aria-checked": String(on), "data-target": value, tabIndex: on ? 0 : -1, title: `class ${o.class_}: ${o.name}`, onclick: () => state.put({ target: value }) },
        h("span", { class: "wb-output-name" }, o.name || `class ${o.class_}`),
        h("span", { class: "wb-output-bar" }, h("i", { style: { width: `${100 * (o.probability ?? 0)}%` } })),
        h("span", { class: "wb-output-number" }, o.probability === null ? "" : percent(o.probability, o.probability < 0.1 ? 1 : 0)),
        h("span", { class: "wb-output-logit" }, number(o.logit)));
    }
  }

  async function drawStrip() {
    const region = state.get("region"), layers = state.get("layers") || [];
    const given = (region ? state.get("inside") : state.get("strip")) || {};
    replace(stripHead, region ? "Through which components, in the region" : "Through which components");
    const isOld = region && JSON.stringify(given.region) !== JSON.stringify(region);
    const own = state.get("layer") || given.layer || "";
    layer.node.hidden = !layers.length;
    layer.update([...(state.get("layer") ? [] : [{ value: "", text: given.layer || "as selected" }]), ...layers.map((name) => ({ value: name, text: name }))], state.get("layer"));
    if (!state.get("n_components")) return replace(strip), replace(stripNote, "No components are listed.");
    if (!own && !state.get("component")) {
      replace(strip);
      return replace(stripNote, "Choose a layer, or select a component in the atlas.");
    }
    if (!fits(given) || isOld || (state.get("layer") && given.layer !== state.get("layer"))) {
      if (state.get("status") === "still") {
        replace(strip);
        return replace(stripNote, "Not in this page.");
      }
      replace(strip, Array.from({ length: Math.min(8, state.get("n_components")) }, () => h("div", { class: "wb-comp-wait wb-waiting" })));
      return replace(stripNote, "\u00a0");
    }
    const image = await bitmap(given.sheet.jpeg);
    if ((state.get("region") ? state.get("inside") : state.get("strip")) !== given) return;
    const share = array(given.share), relevance = array(given.relevance), most = Math.max(...share.map(Math.abs), 0) || 1;
    const labels = state.get("labels");
    replace(strip, given.components.map((component, i) => {
      const name = nameOf(component, labels);
      const text = `${name}, ${percent(share[i], 1)} of the ${region ? "relevance in the region" : "layer's relevance"}, ${relevance[i] < 0 ? "against" : "for"} the output`;
      return h("div", { class: "wb-comp", role: "option", "data-id": component, "aria-label": text, title: `${component}${labels?.[component] ? `\n${labels[component]}` : ""}\nrelevance ${number(relevance[i])}`, onclick: () => pick(component) },
        thumb(image, given.sheet, i, "wb-comp-picture"),
        h("span", { class: "wb-comp-name" }, name),
        h("span", { class: "wb-comp-share" }, percent(share[i], 1)),
        h("span", { class: "wb-comp-bar" }, h("i", { style: { width: `${(100 * Math.abs(share[i])) / most}%`, background: css(relevance[i] < 0 ? AGAINST : FOR) } })));
    }));
    const sum = share.reduce((a, b) => a + Math.abs(b), 0);
    if (region) return replace(stripNote, `Of the ${grouped(given.n_ranked)} most relevant components of ${given.layer}, by what passes through them into the region.`), markComponent();
    replace(stripNote, `${plural(given.components.length, "component")} of ${grouped(given.n_components)} carry ${percent(sum)} of the layer's absolute relevance.`);
    markComponent();
  }

  function markComponent() {
    const options = [...strip.querySelectorAll(".wb-comp")];
    const at = options.findIndex((option) => option.dataset.id === state.get("component"));
    options.forEach((option, i) => {
      set(option, { "aria-selected": String(i === at) });
      option.tabIndex = i === Math.max(0, at) ? 0 : -1;
    });
  }

  // From the reader ----------------------------------------------------------------------------------------------------
  function pick(component) {
    state.put({ component: state.get("component") === component ? null : component });
  }

  function paneKey(event) {
    if (event.target !== panes) return;
    const region = keyed(state.get("region"), event);
    if (region !== undefined) setRegion(region);
    else if (event.key === "ArrowRight") steps.step(1);
    else if (event.key === "ArrowLeft") steps.step(-1);
    else if (event.key === "Escape" && state.get("region")) setRegion(null);
    else if (event.key === "Escape" && state.get("component")) state.put({ component: null });
    else if (event.key.toLowerCase() === "o") {
      plain(true);
      panes.addEventListener("keyup", () => plain(false), { once: true });
    } else return;
    event.preventDefault();
  }

  state.on("picture", () => { drawPicture(); drawMore(); });
  state.on(["methods", "targets", "targeted", "compared", "show_random", "random", "contour", "show_masks", "explainers"], () => { drawMore(); drawPanes(); });
  state.on("threshold", () => { local.threshold = null; drawMore(); drawPanes(); });
  state.on(["region", "inside"], () => { drawRegions(); drawStrip(); });
  const watch = new ResizeObserver(() => drawRegions());
  watch.observe(root);
  state.on(["sample", "target"], () => { drawMore(); draw(); });
  state.on(["sign", "scale", "conditional"], drawPanes);
  state.on("opacity", () => { local.opacity = null; opacity.update(state.get("opacity")); drawPanes(); });
  state.on("heat", () => { drawPanes(); drawFigures(); drawOutputs(); });
  state.on("outputs", () => { drawOutputs(); drawMore(); });
  state.on(["strip", "layer", "layers", "n_components"], drawStrip);
  state.on("component", () => { drawPanes(); markComponent(); if (!(state.get("strip") || {}).layer) drawStrip(); });
  state.on("labels", () => { if (content.isConnected) { drawPanes(); drawStrip(); } });
  state.on("n_samples", drawTitle);
  state.on("status", () => state.get("status") === "failed" && content.isConnected && drawPanes());
  state.watch("sign", () => sign.update(state.get("sign")));
  state.watch("scale", () => scale.update(state.get("scale")));
  opacity.update(state.get("opacity"));
  replace(note, "");
  drawMore();
  draw();
  return () => {
    sendOpacity.stop();
    sendThreshold.stop();
    watch.disconnect();
    frame.close();
  };
}

export default { render };
