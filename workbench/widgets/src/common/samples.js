// Which sample: its number to type, and its neighbours to step to.
import { button, switchOff } from "./controls.js";
import { h } from "./dom.js";
import { plural } from "./format.js";

// A widget that shows one of the data's samples: reads and writes `sample`, reads `n_samples`. On a page without a kernel
// `ownOnly` goes to those alone that the widget has recorded.
export function sampleSteps({ state, say }, { ownOnly = false } = {}) {
  const box = h("input", { type: "number", class: "wb-sample", min: 0, step: 1, "aria-label": "Sample", onchange: () => goTo(Number(box.value)) });
  const ways = [button("left", "Former sample", () => step(-1)), button("right", "Next sample", () => step(1))];
  const node = h("div", { class: "wb-group" }, ways[0], box, ways[1]);
  const n = () => state.get("n_samples");
  let recorded = null; // the samples that can be gone to, where these are not all
  const isThere = (sample) => !recorded || recorded.has(sample) || sample === state.get("sample");

  function step(by) {
    const from = state.get("sample") ?? 0;
    for (let k = 1; k <= n(); k++) {
      const to = (((from + k * by) % n()) + n()) % n();
      if (isThere(to)) return goTo(to);
    }
  }

  function goTo(sample) {
    if (!Number.isInteger(sample) || sample < 0 || sample >= n()) {
      box.value = state.get("sample") ?? "";
      return say(`There are ${plural(n(), "sample")}, from 0.`);
    }
    if (!isThere(sample)) {
      box.value = state.get("sample") ?? "";
      return say(`Sample ${sample} is not in this page.`);
    }
    state.put({ sample });
    say(`Sample ${sample}`);
  }

  function draw() {
    box.value = state.get("sample") ?? "";
    box.max = Math.max(0, n() - 1);
    if (!ownOnly || state.get("status") !== "still") return;
    recorded ||= new Set(Array.from({ length: n() }, (_, i) => i).filter((sample) => state.leadsOn({ sample })));
    const others = [...recorded].filter((sample) => sample !== state.get("sample")).length;
    for (const control of [...ways, box]) switchOff(control, others ? "" : "There is no other sample in this page");
  }

  return { node, step, draw };
}
