// Elements without a framework. Text always becomes a text node, so nothing from the data is ever read as markup.

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  set(node, attributes);
  append(node, children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  append(node, children);
  return node;
}

export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (name === "style") Object.assign(node.style, value);
    else if (name in node && !name.includes("-") && name !== "list" && name !== "role") node[name] = value;
    else if (value === null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

function append(node, children) {
  for (const child of children.flat(2)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

// One call per animation frame, however often it was asked for.
export function eachFrame(draw) {
  let waiting = 0;
  const ask = () => {
    if (!waiting) waiting = requestAnimationFrame(() => ((waiting = 0), draw()));
  };
  ask.stop = () => cancelAnimationFrame(waiting);
  return ask;
}

// At most one call per `ms`, and always one with the last arguments.
export function paced(ms, call) {
  let timer = 0, last = 0, args = [];
  const fire = () => {
    timer = 0;
    last = performance.now();
    call(...args);
  };
  const ask = (...now) => {
    args = now;
    if (!timer) timer = setTimeout(fire, Math.max(0, ms - (performance.now() - last)));
  };
  ask.now = (...now) => {
    clearTimeout(timer);
    args = now;
    fire();
  };
  ask.stop = () => clearTimeout(timer);
  return ask;
}

// One call once nothing has come for `ms`.
export function settled(ms, call) {
  let timer = 0;
  const ask = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...args), ms);
  };
  ask.stop = () => clearTimeout(timer);
  return ask;
}

const ICONS = {
  minus: "M4 8h8", plus: "M4 8h8M8 4v8",
  fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
  list: "M6 4h7M6 8h7M6 12h7M3 4h.01M3 8h.01M3 12h.01",
  left: "M10 3 5 8l5 5", right: "m6 3 5 5-5 5",
  close: "m4 4 8 8M12 4l-8 8", pin: "M6 2h4l-.5 4.5L12 9H4l2.5-2.5L6 2ZM8 9v5",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  help: "M6 6a2 2 0 1 1 2.7 1.9c-.5.2-.7.6-.7 1.1v.4M8 12h.01", check: "m3 8.5 3.2 3L13 4.5",
  up: "m4 10 4-4 4 4", again: "M12.5 6A5 5 0 1 0 13 8.5M13 3v3.2H9.8", undo: "M4.5 6.5h5a3 3 0 0 1 0 6H6M4.5 6.5 7 4M4.5 6.5 7 9",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9ZM10.5 10.5 14 14", down: "m4 6 4 4 4-4",
};

export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, class: "wb-icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round" }),
  );
}
