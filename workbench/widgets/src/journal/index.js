// Journal: pins as cards with picture, note, code and digests; ordered, edited, removed and restored here.
import { bytesOf, button, Cache, empty, h, plural, replace, set, shell } from "../common/index.js";
import { cardOf } from "./card.js";

const KEYS = [
  ["↑ ↓", "another pin"], ["Home, End", "first, last"], ["Alt+↑, Alt+↓", "move the pin"], ["Enter", "restore the view"],
  ["E", "edit the note"], ["Delete", "remove the pin"], ["Ctrl+Z", "bring back what was removed"], ["Tab", "into the pin, then out"],
];
const FULL = 24; // pictures in full size at a time

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "journal", label: "Journal", keys: KEYS, canPin: false });
  const { state, body, tools, questions, say } = frame;
  const isStill = () => state.get("status") === "still";

  const undo = h("button", { type: "button", class: "wb-button", onclick: () => change("undo", {}, "Brought back") }, "Undo removal");
  const others = h("button", { type: "button", class: "wb-button", title: "Also list pins made with other models or data", onclick: () => state.put({ others: !state.get("others") }) }, "Other models too");
  const again = button("again", "Look for new pins", () => questions.ask("refresh").catch(() => {}));
  tools.append(undo, others, again);
  const damaged = h("p", { class: "wb-pins-damaged", hidden: true });
  const feed = h("div", { class: "wb-pins", role: "feed", "aria-label": "Pins", onkeydown: key });
  const none = empty("No pins yet", "Pin from the menu “…” below any widget, or with journal.pin(widget, note).");
  replace(body, damaged, none, feed);

  const cards = new Map(); // id -> card
  const full = new Cache(FULL, ({ id, url }) => {
    URL.revokeObjectURL(url);
    cards.get(id)?.showThumb();
  });
  const asked = new Set();
  const seen = new IntersectionObserver((entries) => entries.forEach((one) => one.isIntersecting && fetchFull(one.target.dataset.pin)), { rootMargin: "300px" });
  state.later(() => seen.disconnect());

  const pins = () => state.get("cards")?.pins || [];
  const own = () => pins().filter((pin) => pin.is_own);

  // The picture in full size, once its card is near; the small one stays where there is none.
  async function fetchFull(id) {
    if (full.has(id) || asked.has(id) || !cards.has(id)) return;
    asked.add(id);
    try {
      const { result, buffers } = await questions.ask("still", { id });
      const url = URL.createObjectURL(new Blob([bytesOf(buffers[result.png.buffer])], { type: "image/png" }));
      if (!cards.has(id)) return URL.revokeObjectURL(url);
      full.set(id, { id, url });
      cards.get(id).showFull(url);
    } catch {
      // the small one is there
    } finally {
      asked.delete(id);
    }
  }

  const acts = {
    isStill,
    say,
    focus: (id) => state.put({ current: id }),
    async edit(id, note) {
      return (await change("edit", { id, note }, "Note saved")) !== null;
    },
    move(id, by) {
      const ids = own().map((pin) => pin.id), to = ids.indexOf(id) + by;
      if (to >= 0 && to < ids.length) change("move", { id, to }, `Moved to place ${to + 1} of ${ids.length}`);
    },
    remove(id) {
      const ids = pins().map((pin) => pin.id), at = ids.indexOf(id);
      const next = ids[at + 1] || ids[at - 1] || "";
      change("remove", { id }, "Removed; Undo brings it back").then((done) => {
        if (done === null) return;
        state.put({ current: next });
        if (next) cards.get(next)?.node.focus();
        else undo.focus();
      });
    },
    async restore(id, place) {
      const answer = await frame.ask("restore", { id }, { topic: "restore" });
      if (!answer) return null;
      const { is_new, reports, model: made } = answer.result;
      const shown = is_new && (await shownIn(place, made));
      const where = shown ? "Made anew, below." : is_new ? "Made anew: journal.restored shows it in a cell." : "Restored in the view that is open.";
      say([where, reports.length ? `${plural(reports.length, "thing")} did not fit.` : ""].filter(Boolean).join(" "));
      return { where, reports };
    },
  };

  async function change(kind, body, words) {
    const answer = await frame.ask(kind, body);
    if (answer) say(words);
    return answer;
  }

  // Notebooks can show one widget within another; elsewhere a cell does.
  async function shownIn(place, id) {
    try {
      const manager = model.widget_manager;
      const view = await manager.create_view(await manager.get_model(id));
      replace(place, view.el);
      place.scrollIntoView({ block: "nearest" });
      return true;
    } catch {
      return false;
    }
  }

  function draw() {
    const all = pins(), ids = new Set(all.map((pin) => pin.id)), rest = state.get("cards") || {};
    const active = document.activeElement?.closest?.(".wb-pin")?.dataset.pin;
    const at = active && document.activeElement.dataset.act;
    for (const [id, card] of cards) {
      if (ids.has(id)) continue;
      seen.unobserve(card.node);
      card.close();
      card.node.remove();
      cards.delete(id);
    }
    const n = own().length;
    all.forEach((pin, i) => {
      let card = cards.get(pin.id);
      if (!card) {
        card = cardOf(pin.id, acts);
        cards.set(pin.id, card);
        seen.observe(card.node);
      }
      card.update(pin, { place: i + 1, of: all.length, isFirst: i === 0, isLast: pin.is_own && i === n - 1 });
      if (feed.children[i] !== card.node) feed.insertBefore(card.node, feed.children[i] || null);
    });
    // Moving a node takes the focus from it.
    if (active && cards.has(active) && !cards.get(active).node.contains(document.activeElement)) cards.get(active).focus(at);
    none.hidden = all.length > 0;
    feed.hidden = !none.hidden;
    undo.hidden = isStill() || !rest.n_removed;
    others.hidden = again.hidden = isStill();
    set(others, { "aria-pressed": String(state.get("others")) });
    const broken = rest.damaged || [];
    damaged.hidden = !broken.length;
    if (broken.length) replace(damaged, `${plural(broken.length, "pin")} cannot be read, as the file was changed or cut: ${broken.join(", ")}`);
    frame.title("Journal", plural(all.length, "pin"));
    mark();
  }

  // One card is in focus; Tab goes through its controls and past those of the others.
  function mark() {
    const current = cards.has(state.get("current")) ? state.get("current") : pins()[0]?.id;
    for (const [id, card] of cards) card.mark(id === current, id === state.get("current"));
  }

  function key(event) {
    const inText = /^(input|textarea)$/i.test(event.target.tagName);
    const id = event.target.closest(".wb-pin")?.dataset.pin;
    if (!id || inText || event.target.closest(".wb-pin-view")) return;
    const ids = pins().map((pin) => pin.id), at = ids.indexOf(id), isOwn = pins()[at]?.is_own;
    const go = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: ids.length - 1 }[event.key];
    if (event.altKey && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      if (isOwn && !isStill()) acts.move(id, event.key === "ArrowUp" ? -1 : 1);
    } else if (go !== undefined && !event.altKey && !event.ctrlKey && !event.metaKey) {
      const next = cards.get(ids[Math.max(0, Math.min(ids.length - 1, go))]);
      next.node.focus();
      next.node.scrollIntoView({ block: "nearest" });
    } else if (isStill()) {
      return;
    } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.stopPropagation();
      if (state.get("cards")?.n_removed) change("undo", {}, "Brought back");
    } else if (event.target !== cards.get(id).node) {
      return; // keys of the controls are theirs
    } else if (event.key === "Enter") cards.get(id).restore();
    else if (event.key === "Delete" && isOwn) acts.remove(id);
    else if (event.key.toLowerCase() === "e" && isOwn && !event.ctrlKey && !event.metaKey) cards.get(id).startEdit();
    else return;
    event.preventDefault();
  }

  state.on(["cards", "others", "status"], draw);
  state.on("current", mark);
  draw();
  return () => {
    full.clear();
    for (const card of cards.values()) card.close();
    cards.clear();
    frame.close();
  };
}

export default { render };
