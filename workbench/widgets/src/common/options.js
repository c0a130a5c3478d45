// Lists of pictures and of components that are one stop of the keyboard each: arrows go, Enter acts.
import { bitmap, h, replace, set, tileOf } from "./index.js";

// Draw the tiles of a sheet into canvases, once the sheet is decoded.
export async function fill(sheet, canvases, from = 0) {
  const image = await bitmap(sheet?.jpeg);
  if (!image) return;
  canvases.forEach((canvas, i) => canvas.getContext("2d").drawImage(image, ...tileOf(sheet, from + i), 0, 0, canvas.width, canvas.height));
}

export function listbox(label, className) {
  return h("div", { class: className, role: "group", "aria-label": label, onkeydown: move });
}

// Put options into a list; the one that had the keyboard keeps it.
export function put(list, options) {
  const had = [...list.children].indexOf(list.ownerDocument.activeElement?.closest?.('[role="option"]') || null);
  list.replaceChildren(...options);
  set(list, { role: "listbox" });
  options.forEach((option, i) => (option.tabIndex = i === Math.max(0, had) ? 0 : -1));
  if (had >= 0) options[Math.min(had, options.length - 1)]?.focus();
}

// Words in place of the options: a list of nothing is none.
export function putWords(list, words) {
  replace(list, words);
  set(list, { role: "group" });
}

function move(event) {
  const options = [...event.currentTarget.querySelectorAll('[role="option"]')], at = options.indexOf(event.target.closest('[role="option"]'));
  if (at < 0) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return options[at].click();
  }
  const below = options.findIndex((option) => option.offsetTop > options[0].offsetTop);
  const across = below < 0 ? options.length : below;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: options.length - 1 - at }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const next = options[Math.max(0, Math.min(options.length - 1, at + step))];
  options[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
