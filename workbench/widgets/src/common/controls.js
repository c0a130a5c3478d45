// The few controls that all widgets use: labelled, keyboard operable, in step with the state.
import { h, icon, set } from "./dom.js";

// Each widget brings its own copy of this module into the page: a count alone would not tell them apart.
const mine = Math.random().toString(36).slice(2, 7);
let count = 0;
export const uid = (word) => `wb-${word}-${mine}-${++count}`;

export function button(name, label, onclick, extra = {}) {
  return h("button", { type: "button", class: "wb-button wb-icon-only", title: label, "aria-label": label, onclick, ...extra }, icon(name));
}

// One of few: buttons side by side. options: [{value, text, title}]
export function segmented(label, options, onchange) {
  const name = uid("label");
  const buttons = options.map(({ value, text, title }) =>
    h("button", { type: "button", class: "wb-segment", role: "radio", title: title || text, "aria-checked": "false", onclick: () => choose(value) }, text));
  const node = h("div", { class: "wb-field" },
    h("span", { class: "wb-label", id: name }, label),
    h("div", { class: "wb-segments", role: "radiogroup", "aria-labelledby": name, onkeydown: move }, buttons));
  let current;
  function choose(value) {
    if (value === current) return;
    update(value);
    onchange(value);
  }
  function move(event) {
    // ← and → go on to the next control, unless the pointer has chosen here.
    const isHeld = event.currentTarget.classList.contains("wb-held");
    const step = { ArrowDown: 1, ArrowUp: -1, ...(isHeld ? { ArrowRight: 1, ArrowLeft: -1 } : {}) }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = options.findIndex((option) => option.value === current);
    const next = (at + step + options.length) % options.length;
    choose(options[next].value);
    buttons[next].focus();
  }
  function update(value) {
    current = value;
    const known = options.some((option) => option.value === value);
    options.forEach((option, i) => {
      const on = option.value === value;
      set(buttons[i], { "aria-checked": String(on) });
      buttons[i].tabIndex = on || (!known && i === 0) ? 0 : -1;
    });
  }
  return { node, update };
}

// One of many: a native list. options: [{value, text}]
export function choice(label, onchange) {
  const id = uid("choice");
  const select = h("select", { id, class: "wb-select", onchange: () => onchange(select.value) });
  const node = h("div", { class: "wb-field" }, h("label", { class: "wb-label", htmlFor: id }, label), h("span", { class: "wb-select-box" }, select, icon("down")));
  let known = "";
  function update(options, value) {
    const now = JSON.stringify(options);
    if (now !== known) {
      known = now;
      select.replaceChildren(...options.map((option) => h("option", { value: option.value }, option.text)));
    }
    select.value = value;
  }
  return { node, select, update };
}

// A number on a scale. oninput while dragging, onchange on release.
export function slider(label, { min = 0, max = 1, step = 0.01, format = String, oninput = () => {}, onchange = () => {} }) {
  const id = uid("slider");
  const output = h("output", { class: "wb-value", htmlFor: id });
  const input = h("input", {
    id, type: "range", class: "wb-range", min, max, step,
    oninput: () => (show(), oninput(Number(input.value))),
    onchange: () => onchange(Number(input.value)),
  });
  const node = h("div", { class: "wb-field" }, h("label", { class: "wb-label", htmlFor: id }, label), input, output);
  function show() {
    const value = Number(input.value);
    output.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
    const share = (value - Number(input.min)) / (Number(input.max) - Number(input.min) || 1);
    input.style.setProperty("--share", `${100 * share}%`);
  }
  function update(value) {
    if (Number(input.value) !== value || !output.textContent) input.value = value;
    show();
  }
  return { node, input, update };
}

export function searchbox(label, placeholder, oninput) {
  const input = h("input", { type: "search", class: "wb-search", placeholder, "aria-label": label, spellcheck: false, oninput: () => oninput(input.value) });
  return {
    node: h("div", { class: "wb-field wb-search-box" }, icon("search"), input),
    input,
    update: (value) => document.activeElement !== input && (input.value = value),
  };
}

// Off, with the reason; on again without one.
export const NEEDS_SESSION = "Not in this page: it needs the session";
export function switchOff(control, why) {
  if (control.dataset.title === undefined) control.dataset.title = control.title;
  control.title = why || control.dataset.title;
  control.disabled = Boolean(why);
}

// In a list, arrows, Home and End move a single focus, Enter and space act; in a group of one of few a move chooses.
export function rove(event, box) {
  const options = [...box.querySelectorAll('[role="radio"], [role="option"]')].filter((one) => !one.hidden && !one.disabled), at = options.indexOf(document.activeElement);
  if (at < 0) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return options[at].click();
  }
  const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: options.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  const next = options[(to + options.length) % options.length];
  options.forEach((option) => (option.tabIndex = option === next ? 0 : -1));
  next.focus();
  if (next.getAttribute("role") === "radio") next.click();
}
