// Stands on the common part alone: frame, status line, selection, theme.
const { array, h, number, replace, shell } = workbench;

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "peak-bars", label: "Peaks", keys: [["arrows", "go to the next bar"], ["Enter", "select"]] });
  const { state, body } = frame;
  const list = h("div", { role: "listbox", "aria-label": "Components", style: { padding: "8px 12px", maxWidth: "460px" }, onkeydown: move });
  replace(body, list);

  function draw() {
    const given = state.get("bars") || {};
    const values = array(given.values) || [], most = Math.max(...values, 1e-9);
    frame.title(state.get("title") || `Peaks of ${state.get("layer")}`, `${values.length} components`);
    replace(list, (given.components || []).map((id, i) =>
      h("div", { class: "peak-bar", role: "option", tabIndex: i ? -1 : 0, "data-id": id, "aria-label": `${id}, ${number(values[i])}`, onclick: () => pick(id), style: { display: "grid", gridTemplateColumns: "9em 1fr 4em", gap: "8px", alignItems: "center", padding: "3px 6px", cursor: "pointer", borderRadius: "4px" } },
        h("span", { style: { overflow: "hidden", textOverflow: "ellipsis" } }, id), h("span", { style: { height: "8px", width: `${(100 * values[i]) / most}%`, background: "var(--wb-accent)" } }), h("span", {}, number(values[i])))));
    mark();
  }

  function mark() {
    for (const bar of list.children) {
      const on = bar.dataset.id === state.get("component");
      bar.setAttribute("aria-selected", String(on));
      bar.style.fontWeight = on ? "600" : "";
      bar.style.background = on ? "var(--wb-pick)" : "";
    }
  }

  function pick(component) {
    state.put({ component });
    mark();
    frame.say(`${component} selected`);
  }

  function move(event) {
    const bars = [...list.children], at = bars.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") return event.preventDefault(), pick(bars[at].dataset.id);
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = bars[(at + by + bars.length) % bars.length];
    bars.forEach((bar) => (bar.tabIndex = bar === next ? 0 : -1));
    next.focus();
  }

  state.on(["bars", "layer", "title"], draw);
  state.on("component", mark);
  draw();
  return () => frame.close();
}

export default { render };
