// What can be taken away from a view: the code that makes it, and the stored results behind it.
import { button } from "./controls.js";
import { h, replace, set } from "./dom.js";

const KINDS = [["code", "Code", "The calls that rebuild this view"], ["recipe", "Results", "The stored results behind this view"]];

export function menuOf({ state, questions, say }) {
  const node = button("more", "Code and results", () => (menu.isOpen ? menu.close() : open()), { "aria-expanded": "false" });
  const text = h("pre", { class: "wb-copy-text", tabIndex: 0 });
  const tabs = KINDS.map(([kind, word, title]) => h("button", { type: "button", class: "wb-button wb-small", title, onclick: () => fetch_(kind) }, word));
  const copy = h("button", { type: "button", class: "wb-button wb-small", onclick: take }, "Copy");
  const sheet = h("div", { class: "wb-copy", role: "dialog", "aria-label": "Code and results", hidden: true },
    h("div", { class: "wb-copy-head" }, tabs, copy, button("close", "Close", () => menu.close(), { class: "wb-button wb-icon-only wb-bare" })), text);
  const menu = {
    node, sheet,
    get isOpen() {
      return !sheet.hidden;
    },
    close() {
      sheet.hidden = true;
      set(node, { "aria-expanded": "false" });
    },
  };

  function open() {
    sheet.hidden = false;
    set(node, { "aria-expanded": "true" });
    fetch_("code");
  }

  async function fetch_(kind) {
    KINDS.forEach(([name], i) => set(tabs[i], { "aria-pressed": String(name === kind) }));
    try {
      replace(text, (await questions.ask(kind, {}, { topic: "copy" })).result.text);
    } catch {
      replace(text, "Not in this page: it needs the session.");
    }
  }

  // The clipboard may be refused; then the text is marked, for the keys that copy.
  async function take() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      say("Copied");
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1200);
    } catch {
      getSelection().selectAllChildren(text);
      say("Selected: press Ctrl+C");
    }
  }
  return menu;
}
