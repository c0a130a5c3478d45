// What can be taken away from a view: the code that makes it, the stored results behind it, and a pin in the journal.
import { button, uid } from "./controls.js";
import { h, replace, set } from "./dom.js";

const KINDS = [["code", "Code", "The calls that rebuild this view"], ["recipe", "Results", "The stored results behind this view"]];

export function menuOf({ state, questions, say, canPin = true }) {
  const label = canPin ? "Code, results and pin" : "Code and results";
  const node = button("more", label, () => (menu.isOpen ? menu.close() : open()), { "aria-expanded": "false" });
  const text = h("pre", { class: "wb-copy-text", tabIndex: 0 });
  const tabs = KINDS.map(([kind, word, title]) => h("button", { type: "button", class: "wb-button wb-small", title, onclick: () => fetch_(kind) }, word));
  const copy = h("button", { type: "button", class: "wb-button wb-small", onclick: take }, "Copy");
  const id = uid("note");
  const note = h("input", { id, type: "text", class: "wb-pin-note", maxLength: 20000, onkeydown: (event) => event.key === "Enter" && pin() });
  const pinned = h("span", { class: "wb-pin-said", role: "status" });
  const press = h("button", { type: "button", class: "wb-button wb-small", onclick: pin }, "Pin");
  const row = h("div", { class: "wb-pin-row" }, h("label", { class: "wb-label", htmlFor: id }, "Note"), note, press, pinned);
  const sheet = h("div", { class: "wb-copy", role: "dialog", "aria-label": label, hidden: true },
    h("div", { class: "wb-copy-head" }, tabs, copy, button("close", "Close", () => menu.close(), { class: "wb-button wb-icon-only wb-bare" })), row, text);
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
    row.hidden = !canPin || state.get("status") === "still";
    replace(pinned);
    fetch_("code");
  }

  // Into the session's journal, whether one is on show or not; the note is kept until that has worked.
  async function pin() {
    if (press.disabled) return;
    press.disabled = true;
    replace(pinned, "Pinning…");
    try {
      await questions.ask("pin", { note: note.value });
      note.value = "";
      replace(pinned, "Pinned");
      say("Pinned to the journal");
    } catch (error) {
      replace(pinned, error.problem ? [error.problem.message, error.problem.hint].filter(Boolean).join(" ") : "Not pinned: it was cancelled.");
    }
    press.disabled = false;
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
