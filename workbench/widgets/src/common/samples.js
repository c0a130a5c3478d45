// Which sample: its number to type, and its neighbours to step to.
import { button } from "./controls.js";
import { h } from "./dom.js";
import { plural } from "./format.js";

// A widget that shows one of the data's samples: reads and writes `sample`, reads `n_samples`.
export function sampleSteps({ state, say }) {
  const box = h("input", { type: "number", class: "wb-sample", min: 0, step: 1, "aria-label": "Sample", onchange: () => goTo(Number(box.value)) });
  const node = h("div", { class: "wb-group" }, button("left", "Former sample", () => step(-1)), box, button("right", "Next sample", () => step(1)));
  const n = () => state.get("n_samples");

  function step(by) {
    if (n()) goTo(((state.get("sample") ?? 0) + by + n()) % n());
  }

  function goTo(sample) {
    if (!Number.isInteger(sample) || sample < 0 || sample >= n()) {
      box.value = state.get("sample") ?? "";
      return say(`There are ${plural(n(), "sample")}, from 0.`);
    }
    state.put({ sample });
    say(`Sample ${sample}`);
  }

  function draw() {
    box.value = state.get("sample") ?? "";
    box.max = Math.max(0, n() - 1);
  }

  return { node, step, draw };
}
