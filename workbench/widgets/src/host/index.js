// The page host: runs the widgets' scripts on a page of its own, without a notebook. An exported file answers from what
// was recorded in it (`start`); tests talk to Python (`show`, `receive`).
import { decoded, encoded, join, split } from "./buffers.js";
import { Model } from "./model.js";
import { Recorded } from "./recorded.js";

export { decoded, encoded, join, split, Model };

const scripts = new Map(); // text -> module, so that widgets of one kind share it
const styles = new Set();

function script(text) {
  if (!scripts.has(text)) scripts.set(text, import(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))));
  return scripts.get(text);
}

function style(text) {
  if (!text || styles.has(text)) return;
  styles.add(text);
  const node = document.createElement("style");
  node.textContent = text;
  document.head.append(node);
}

// Run a widget in `el`; returns its model, whose `close` ends it.
export async function show(el, { id, state, esm, css }, link) {
  style(css);
  const model = new Model(id, state, link);
  const { default: widget } = await script(esm);
  await widget.initialize?.({ model });
  model.close = await widget.render({ model, el });
  return model;
}

// What a message from Python's half does to a model.
export function receive(model, { data, buffers }) {
  const views = buffers.map(decoded);
  if (data.method === "custom") model.emit("msg:custom", data.content, views);
  else model.put(join(data.state, data.buffer_paths || [], views));
}

// An exported file: the record lies in it as text.
export async function start(record = JSON.parse(document.querySelector("#wb-record").textContent)) {
  const buffers = record.buffers.map(decoded);
  const whole = ({ state, paths, at }) => join(state, paths, at.map((i) => buffers[i]));
  for (const widget of record.widgets) {
    const el = document.querySelector(`[data-wb="${widget.id}"]`);
    const recorded = new Recorded(widget, whole, buffers);
    const kind = record.kinds[widget.kind];
    const own = document.createElement("div");
    const model = await show(own, { id: widget.id, state: { ...whole(widget), status: "still" }, ...kind }, recorded);
    recorded.follow(model);
    el.replaceChildren(own);
  }
  document.documentElement.dataset.wbReady = "true";
}
