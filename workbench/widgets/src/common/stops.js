// The keyboard's way through a widget. Tab goes from part to part: the tools, each list or canvas, each run of plain
// controls between them, the foot. Within tools and runs arrows move. Escape steps out onto the widget itself, and the
// next Tab leaves it altogether. Who comes back by Tab is where the keyboard was last.
import { h } from "./dom.js";

export const WAYS = [
  ["Tab", "to the next part"], ["← →", "in tools and rows of buttons: to the next; ↑ ↓ change a list or slider"], ["Esc, then Tab", "leave the widget; Enter goes back in"],
];

const REACHED = 'a[href], button, input, select, textarea, summary, [tabindex], [contenteditable="true"]';
const CONTROLS = /^(a|button|input|select|summary)$/i;
// What has arrows of its own and is one stop; choosing one of few by ↑ and ↓ leaves ← and → free.
const WHOLE = '[role="listbox"], [role="grid"], [role="tree"], [role="tablist"], [role="radiogroup"]:not(.wb-segments)';
const BARS = ".wb-tools, .wb-problem, .wb-foot";
const SHEETS = '[role="dialog"]';

export function stops(root, listen) {
  const end = h("span", { tabIndex: -1, class: "wb-end" });
  const last = new WeakMap(); // element -> when it had the keyboard
  let count = 0, byTab = false, isOut = false, isOurs = false, held = null;
  root.tabIndex = -1;
  root.append(end);

  const focus = (node) => {
    isOurs = true;
    node.focus();
    isOurs = false;
  };

  function reached() {
    return [...root.querySelectorAll(REACHED)].filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }) && (one.tagName !== "SUMMARY" || one === one.parentElement.querySelector("summary")));
  }

  // Parts in the order of the page, each a list of elements that the keyboard reaches
  function parts() {
    const found = [];
    let owner = null;
    for (const one of reached()) {
      const isPlain = CONTROLS.test(one.tagName) && one.getAttribute("role") !== "option";
      const own = one.closest(SHEETS) ? one : one.closest(BARS) || one.closest(WHOLE) || (isPlain ? "run" : one);
      if (own !== owner) found.push([]);
      found.at(-1).push(one);
      owner = own;
    }
    return found;
  }

  const latest = (part) => part.reduce((best, one) => ((last.get(one) || 0) > (last.get(best) || 0) ? one : best));

  function tab(event) {
    const back = event.shiftKey;
    // From the widget itself, or its last part: the browser goes on from the widget's edge.
    const leave = () => focus(back ? root : end);
    if (event.target === root && isOut) return leave();
    const all = parts(), here = event.target === root ? -1 : all.findIndex((part) => part.includes(event.target));
    let to = here + (back ? -1 : 1);
    if (here < 0 && event.target !== root) {
      // Something that Tab does not stop at, such as a heading: the next part after it.
      const after = all.findIndex(([one]) => event.target.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING);
      to = back ? (after < 0 ? all.length : after) - 1 : after < 0 ? all.length : after;
    } else if (here < 0 && back) return leave();
    if (!all[to]) return leave();
    event.preventDefault();
    focus(latest(all[to]));
  }

  function enter() {
    const all = reached();
    if (all.length) focus(latest(all));
  }

  function move(event) {
    const { target, key } = event;
    const part = CONTROLS.test(target.tagName) && !target.closest(`${WHOLE}, ${SHEETS}`) ? parts().find((one) => one.includes(target)) : null;
    if (!part) return;
    const isBar = Boolean(target.closest(BARS)), at = part.indexOf(target);
    if (keeps(target, key, isBar)) return;
    const ways = { ArrowRight: at + 1, ArrowLeft: at - 1, ...(isBar ? { Home: 0, End: part.length - 1 } : { ArrowDown: at + 1, ArrowUp: at - 1 }) };
    if (!(key in ways)) return;
    event.preventDefault();
    const next = part[ways[key]];
    if (next) focus(next);
  }

  // Which keys a control needs for itself; what the pointer has taken keeps all.
  function keeps(control, key, isBar) {
    const isUpDown = key === "ArrowUp" || key === "ArrowDown", isEnd = key === "Home" || key === "End";
    if (held?.contains(control)) return true;
    if (control.tagName === "SELECT") return isUpDown || isEnd;
    if (control.tagName !== "INPUT" || /^(checkbox|radio|button|submit)$/.test(control.type)) return false;
    if (control.type === "range") return isEnd || isUpDown === isBar;
    if (isEnd) return true;
    if (control.type === "number") return isUpDown;
    if (isUpDown) return control.hasAttribute("list");
    const { selectionStart, selectionEnd, value } = control;
    return selectionStart !== selectionEnd || selectionStart !== (key === "ArrowLeft" ? 0 : value.length);
  }

  function escape(event) {
    const { target } = event;
    if (target === root || (target.type === "search" && target.value)) return; // the browser clears what is searched for
    if (CSS.supports("selector(select:open)") && target.matches("select:open")) return;
    event.preventDefault();
    isOut = true;
    focus(root);
  }

  listen(root, "focusin", (event) => {
    if (held && !held.contains(event.target)) hold(null);
    if (event.target !== root && event.target !== end) {
      isOut = false;
      const isEntered = byTab && !isOurs && !root.contains(event.relatedTarget);
      byTab = false;
      if (isEntered) return enter();
      last.set(event.target, ++count);
    }
  });
  listen(document, "keydown", (event) => (byTab = event.key === "Tab"), true);
  listen(document, "pointerdown", () => (byTab = false), true);
  function hold(node) {
    held?.classList.remove("wb-held");
    held = node;
    held?.classList.add("wb-held");
  }
  listen(root, "pointerdown", (event) => {
    isOut = false;
    hold(event.target.closest('.wb-segments, input[type="range"]'));
  }, true);
  listen(root, "keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab") tab(event);
    else if (event.shiftKey) return;
    else if (event.key === "Escape") escape(event);
    else if (event.key === "Enter" && event.target === root) enter();
    else move(event);
  });
}
