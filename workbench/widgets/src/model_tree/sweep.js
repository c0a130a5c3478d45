// Below the tree: what is checked, what a sweep of it would cost, and the button that starts it.
import { bytes, choice, duration, grouped, h, percent, plural, replace, set, uid } from "../common/index.js";

export function sweepOf({ state, frame, rows }) {
  const words = h("p", { class: "wb-sweep-words" });
  const none = h("button", { type: "button", class: "wb-button wb-small", onclick: () => (state.put({ checked: [] }), frame.say("Nothing is checked")) }, "Uncheck all");
  const relevance = h("input", { type: "checkbox", onchange: () => state.put({ relevance: relevance.checked }) });
  const id = uid("samples");
  const samples = h("input", {
    id, type: "number", class: "wb-number", min: 1, step: 1, placeholder: "all",
    onchange: () => state.put({ n_samples: Math.max(0, Math.round(Number(samples.value) || 0)) }),
  });
  const keep = choice("Keep", (value) => state.put({ keep: value }));
  const ask = h("button", { type: "button", class: "wb-button", onclick: () => frame.ask("plan", {}, { topic: "plan" }) }, "Plan a sweep");
  const off = h("p", { class: "wb-sweep-words" }, "Sweeps need the session: not in this page.");
  const options = h("div", { class: "wb-sweep-options" },
    h("label", { class: "wb-field" }, relevance, "Relevances"),
    h("div", { class: "wb-field" }, h("label", { class: "wb-label", htmlFor: id }, "Samples"), samples),
    keep.node, ask);
  const facts = h("dl", { class: "wb-plan-facts" });
  const about = h("p");
  const start = h("button", { type: "button", class: "wb-button wb-primary", onclick: begin }, "Start");
  const close = h("button", { type: "button", class: "wb-button", onclick: () => ((closed = state.get("planned")), draw()) }, "Close");
  const plan = h("div", { class: "wb-plan", role: "group", "aria-label": "Planned sweep", hidden: true }, h("div", { class: "wb-plan-text" }, about, facts), h("div", { class: "wb-plan-buttons" }, start, close));
  const node = h("section", { class: "wb-sweep", "aria-label": "Sweep" }, h("div", { class: "wb-sweep-line" }, words, none), options, off, plan);
  let closed = null;

  async function begin() {
    if ((await frame.ask("start", {}, { topic: "start" })) !== null) frame.say("The sweep has begun");
  }

  function draw() {
    const checked = state.get("checked") || [], still = state.get("status") === "still";
    const busy = ["running", "waiting"].includes(state.get("status"));
    const n = checked.reduce((sum, name) => sum + (rows().components[rows().place.get(name)] || 0), 0);
    replace(words, checked.length ? `${plural(checked.length, "layer")} checked, ${plural(n, "component")}` : "Check layers to sweep them: the box, or Space.");
    none.hidden = !checked.length;
    relevance.checked = state.get("relevance");
    if (document.activeElement !== samples) samples.value = state.get("n_samples") || "";
    keep.update([{ value: "tables", text: "tables" }, { value: "references", text: "references alone" }], state.get("keep"));
    const lacksData = !state.get("tree")?.n_data;
    off.hidden = !still && !lacksData;
    replace(off, still ? "Sweeps need the session: not in this page." : "This session has no data to sweep.");
    const isOff = still || lacksData;
    for (const one of [relevance, samples, keep.select]) set(one, { disabled: isOff });
    set(ask, { disabled: isOff || !checked.length || busy, title: still ? "Needs the session" : "What it would cost, before it starts" });
    const given = state.get("planned") || {};
    plan.hidden = isOff || !given.layers || closed === given;
    if (plan.hidden) return;
    const part = given.n_samples < given.n_data ? ` of ${grouped(given.n_data)}` : "";
    const what = given.relevance ? "Activations and relevances" : "Activations";
    replace(about, `${given.keep === "references" ? `References by ${what.toLowerCase()}` : what} of ${plural(given.layers.length, "layer")} over ${grouped(given.n_samples)}${part} samples`);
    const done = given.swept >= 1;
    const lines = [
      ["Time", done ? "none: all is stored" : given.seconds === null ? "unknown" : `about ${duration(given.seconds * (1 - given.swept))}`],
      ["Disk", `${bytes(given.disk_bytes)}${given.passing_bytes ? `, and ${bytes(given.passing_bytes)} until it ends` : ""}`],
      ["Memory", `${bytes(given.memory_bytes)} at batch ${given.batch}`],
      given.swept > 0 ? ["Stored already", percent(given.swept)] : null,
    ].filter(Boolean);
    replace(facts, lines.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
    start.textContent = given.swept > 0 && !done ? "Resume" : "Start";
    set(start, { disabled: busy || done });
  }

  state.on("planned", () => {
    const given = state.get("planned") || {};
    draw();
    if (given.layers) frame.say(`Planned: ${about.textContent}, ${[...facts.querySelectorAll("dd")].map((one) => one.textContent).join(", ")}`);
  });
  state.on(["status", "checked", "relevance", "n_samples", "keep"], draw);
  return { node, draw };
}
