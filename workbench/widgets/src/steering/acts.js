// The list of interventions: on or off, operation, strength; what is selected elsewhere is offered, switched off.
import { address, button, grouped, h, nameOf, number, percent, plural, replace, set, signed, uid } from "../common/index.js";

const OPERATIONS = [
  ["suppress", "suppress", "take a share of it away"], ["boost", "boost", "add a share to it"], ["set", "set to", "give it a value"],
  ["add", "add along", "a step along it"], ["project", "project out", "take away what lies along it"],
];

const calledOf = (addresses, labels) => ({
  layer: address(addresses[0]).layer,
  name: addresses.length > 1 ? `set of ${grouped(addresses.length)}` : nameOf(addresses[0], labels),
});

// What is done, as payloads name what they were made under.
export const activeOf = (records) => records.filter((one) => one.on).map(({ on, ...act }) => act);

// Whether it suppresses its components wherever they are.
export const suppressesAll = (one) => one.operation === "suppress" && !one.tokens && !one.region;

const regionText = ([x, y, width, height]) => `x ${percent(x)} to ${percent(x + width)}, y ${percent(y)} to ${percent(y + height)}`;

// Which tokens it acts on, if it is not all; a region is told by its button.
function scopeOf({ tokens, region }) {
  return region ? "" : { class: "at the class token", patches: "at the patches", all: "at all tokens" }[tokens] || "";
}

function strengthText(operation, value) {
  if (operation === "boost") return `+${percent(value)}`;
  return operation === "suppress" || operation === "project" ? percent(value) : operation === "add" ? signed(value) : number(value);
}

// From where to where the slider goes, by what the data show.
function rangeOf(one, ranges) {
  if (one.operation === "suppress" || one.operation === "project") return { min: 0, max: 1, step: 0.05 };
  if (one.operation === "boost") return { min: 0, max: 4, step: 0.1 };
  const [low, high] = ranges?.[`${one.address[0]}+${one.address.length - 1}`] || [0, 1];
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1, step = 10 ** (Math.floor(Math.log10(size)) - 1);
  const reach = Math.ceil((2 * Math.max(size, Math.abs(one.strength) / 2)) / step) * step;
  return { min: one.operation === "add" || low < 0 ? -reach : 0, max: reach, step, low, high };
}

const START = { suppress: 1, project: 1, boost: 1 };
function startOf(operation, one, ranges) {
  if (operation in START) return START[operation];
  const { high, step } = rangeOf({ ...one, operation, strength: 0 }, ranges);
  return high ? Number((Math.round(high / step) * step).toPrecision(6)) : 1;
}

// `acts.change(records)` sets them all, `acts.drag(records)` while a slider moves.
export function listOf({ state, acts }) {
  const list = h("div", { class: "wb-acts", role: "list", "aria-label": "Interventions" });
  const none = h("p", { class: "wb-quiet" }, "Nothing is changed yet.");
  const offered = h("div", { class: "wb-offers", role: "group", "aria-label": "Selected, switched off" });
  const rows = [];
  let shape = "";

  const records = () => acts.records();
  const isStill = () => state.get("status") === "still";
  const changed = (i, values) => records().map((one, k) => (k === i ? { ...one, ...values } : one));

  function rowOf(i) {
    const box = h("input", { type: "checkbox", onchange: () => acts.change(changed(i, { on: box.checked })) });
    const title = h("strong", { class: "wb-act-name" }), where = h("span", { class: "wb-quiet wb-act-layer" });
    const select = h("select", { class: "wb-select", onchange: () => operate(i, select.value) }, OPERATIONS.map(([value, text, what]) => h("option", { value, title: what }, text)));
    const id = uid("strength");
    const value = h("output", { class: "wb-value", htmlFor: id });
    const input = h("input", { id, type: "range", class: "wb-range",
      oninput: () => { show(i); acts.drag(changed(i, { strength: Number(input.value) })); },
      onchange: () => acts.change(changed(i, { strength: Number(input.value) })) });
    const guard = h("div", { class: "wb-act-guard", hidden: true });
    const region = h("button", { type: "button", class: "wb-button wb-small wb-act-region", hidden: true, onclick: () => acts.region(i) }, "Only in the region");
    const remove = button("close", "Remove", () => { acts.change(records().filter((_, k) => k !== i)); acts.focus(); }, { class: "wb-button wb-icon-only wb-bare" });
    const node = h("div", { class: "wb-act", role: "listitem" },
      h("label", { class: "wb-act-head" }, box, title, where), remove,
      h("div", { class: "wb-act-what" }, select, input, value), region, guard);
    return { node, box, title, where, select, input, value, guard, region, remove };
  }

  function operate(i, operation) {
    const one = records()[i];
    acts.change(changed(i, { operation, strength: startOf(operation, one, state.get("ranges")) }));
  }

  function show(i) {
    const { input, value, guard } = rows[i], one = records()[i];
    if (!one) return;
    const now = Number(input.value), text = strengthText(one.operation, now);
    value.textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--share", `${(100 * (now - Number(input.min))) / (Number(input.max) - Number(input.min) || 1)}%`);
    const { low, high } = rangeOf(one, state.get("ranges"));
    const isKnown = high !== undefined && `${one.address[0]}+${one.address.length - 1}` in (state.get("ranges") || {});
    const isFar = isKnown && (one.operation === "set" ? now < low || now > high : Math.abs(now) > Math.max(Math.abs(low), Math.abs(high)));
    guard.hidden = !isFar;
    if (isFar) replace(guard, `Beyond what the data show: ${number(low)} to ${number(high)}.`);
  }

  function draw() {
    const now = records(), still = isStill(), labels = state.get("labels") || {};
    const signature = JSON.stringify([now.length, still]);
    if (signature !== shape) {
      shape = signature;
      rows.splice(0, rows.length, ...now.map((_, i) => rowOf(i)));
      replace(list, rows.map((row) => row.node));
    }
    none.hidden = now.length > 0;
    list.hidden = !now.length;
    now.forEach((one, i) => {
      const row = rows[i], { layer, name } = calledOf(one.address, labels), range = rangeOf(one, state.get("ranges"));
      const label = `${name} of ${layer}`;
      row.box.checked = one.on;
      set(row.box, { "aria-label": `${label}, on` });
      replace(row.title, name);
      replace(row.where, [layer, scopeOf(one)].filter(Boolean).join(" · "));
      row.region.hidden = !one.region && (still || !state.get("region"));
      set(row.region, { "aria-pressed": String(Boolean(one.region)), disabled: still, "aria-label": `Only in the region, ${label}${one.region ? `, ${regionText(one.region)}` : ""}`,
        title: one.region ? `${regionText(one.region)}; click to act everywhere again` : "Act only in the region that is selected on the picture" });
      replace(row.region, one.region ? `Only in ${regionText(one.region)}` : "Only in the region");
      row.node.title = one.address.slice(0, 12).map((id) => [id, labels[id]].filter(Boolean).join(" · ")).join(", ") + (one.address.length > 12 ? " …" : "");
      row.node.classList.toggle("wb-off", !one.on);
      row.select.value = one.operation;
      set(row.select, { "aria-label": `What is done to ${label}`, disabled: still });
      set(row.input, { min: range.min, max: range.max, step: range.step, "aria-label": `Strength, ${label}`, disabled: still });
      if (acts.dragged() !== row.input) row.input.value = one.strength;
      set(row.remove, { "aria-label": `Remove ${label}`, title: "Remove", disabled: still });
      show(i);
    });
    drawOffers();
  }

  // The selected component and the chosen set, as far as they are not in the list.
  function drawOffers() {
    const have = new Set(records().map((one) => JSON.stringify(one.address)));
    const offers = [], component = state.get("component"), chosen = state.get("components") || [];
    if (component) offers.push([component]);
    const groups = new Map();
    for (const one of chosen) {
      const { layer, basis } = address(one), key = `${layer}/${basis}`;
      groups.set(key, [...(groups.get(key) || []), one]);
    }
    for (const group of groups.values()) if (group.length > 1 || group[0] !== component) offers.push(group);
    const left = isStill() ? [] : offers.filter((one) => !have.has(JSON.stringify(one)));
    offered.hidden = !left.length;
    replace(offered, left.map((addresses) => {
      const { layer, name } = calledOf(addresses, state.get("labels"));
      const take = () => acts.change([...records(), { address: addresses, operation: "suppress", strength: 1, on: true }]);
      const box = h("input", { type: "checkbox", "aria-label": `Suppress ${name} of ${layer}, selected`, onchange: take });
      return h("label", { class: "wb-offer", title: addresses.slice(0, 12).join(", ") }, box, h("strong", { class: "wb-act-name" }, name), h("span", { class: "wb-quiet wb-act-layer" }, layer), h("span", { class: "wb-tag" }, addresses.length > 1 ? "chosen set" : "selected"));
    }));
  }

  const groupsOfSet = () => (state.get("components") || []).length;
  return { nodes: [none, list, offered], draw, drawOffers, groupsOfSet, inputOf: (i) => rows[i]?.input, words: () => plural(records().filter((one) => one.on).length, "intervention") };
}
