// One pin: picture, words, what to doubt, code and digests, and what can be done with it.
import { button, bytesOf, h, replace, set, uid } from "../common/index.js";

export function cardOf(id, acts) {
  const title = h("h3", { class: "wb-pin-title", id: uid("pin") });
  const facts = h("p", { class: "wb-pin-facts" });
  const warnings = h("ul", { class: "wb-pin-warnings" });
  const image = h("img", { class: "wb-pin-image", hidden: true, loading: "lazy" });
  const note = h("p", { class: "wb-pin-words" });
  const text = h("textarea", { class: "wb-pin-text", rows: 3, maxLength: 20000, "aria-label": "Note", onkeydown: (event) => {
    if (event.key === "Escape") stopEdit();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    else return;
    event.preventDefault();
    event.stopPropagation();
  } });
  const form = h("div", { class: "wb-pin-form", hidden: true }, text, h("div", { class: "wb-pin-acts" },
    word("Save note", save), word("Cancel", () => stopEdit())));
  const code = h("pre", { class: "wb-pin-code", tabIndex: 0 });
  const copy = word("Copy code", take);
  const more = h("details", { class: "wb-pin-more" }, h("summary", {}, "Code"), code, copy);
  const digests = h("dl", { class: "wb-pin-digests" });
  const behind = h("details", { class: "wb-pin-more" }, h("summary", {}, "Digests"), digests);
  const restored = h("div", { class: "wb-pin-restored", hidden: true });
  const view = h("div", { class: "wb-pin-view" });
  const again = word("Restore", restore, "restore");
  const edit = word("Edit note", startEdit, "edit");
  const up = button("up", "Move up", () => acts.move(id, -1), { "data-act": "up" });
  const down = button("down", "Move down", () => acts.move(id, 1), { "data-act": "down" });
  const gone = word("Remove", () => acts.remove(id), "remove");
  const row = h("div", { class: "wb-pin-acts" }, again, edit, up, down, gone);
  const node = h("article", { class: "wb-pin", "data-pin": id, "aria-labelledby": title.id, tabIndex: -1, onfocusin: () => acts.focus(id) },
    h("div", { class: "wb-pin-picture" }, image),
    h("div", { class: "wb-pin-side" }, title, facts, warnings, note, form, row, restored, more, behind), view);
  const controls = [again, edit, up, down, gone, copy, code, ...node.querySelectorAll("summary")];
  let pin = {}, drawn = "", thumb = "", isFull = false;

  function word(label, onclick, act) {
    return h("button", { type: "button", class: "wb-button wb-small", "data-act": act || null, onclick }, label);
  }

  function update(next, { place, of, isFirst, isLast }) {
    const { thumb: small, ...words } = next;
    if (!thumb && small.jpeg) {
      thumb = URL.createObjectURL(new Blob([bytesOf(small.jpeg)], { type: "image/jpeg" }));
      if (!isFull) showThumb();
    }
    pin = next;
    set(node, { "aria-posinset": String(place), "aria-setsize": String(of) });
    const isStill = acts.isStill();
    const key = JSON.stringify([words, place, isFirst, isLast, isStill]);
    if (key === drawn) return;
    drawn = key;
    replace(title, h("span", { class: "wb-pin-place" }, `${place}. `), pin.title);
    replace(facts, `${pin.widget} · `, h("time", { dateTime: pin.time }, when(pin.time)));
    replace(warnings,
      pin.is_saved ? null : h("li", {}, "Not saved: the store cannot be written, and this pin ends with the session."),
      pin.warnings.map((line) => h("li", {}, line)));
    warnings.hidden = !warnings.children.length;
    replace(note, pin.note);
    note.hidden = !pin.note || !form.hidden;
    image.alt = [pin.title, pin.text].filter(Boolean).join(" · ");
    replace(code, pin.code);
    const { results, ...made } = pin.recipe;
    replace(digests, [...Object.entries(made), ...results.map((one) => ["result", one])].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    behind.hidden = !digests.children.length;
    row.hidden = isStill;
    for (const control of [edit, up, down, gone]) control.hidden = !pin.is_own;
    up.disabled = isFirst;
    down.disabled = isLast;
    for (const [control, words] of [[again, "Restore"], [edit, "Edit note"], [up, "Move up"], [down, "Move down"], [gone, "Remove"], [copy, "Copy code"]]) {
      set(control, { "aria-label": `${words}: ${pin.title}` });
    }
    set(code, { "aria-label": `Code: ${pin.title}`, role: "region" });
  }

  function showThumb() {
    isFull = false;
    image.hidden = !thumb;
    if (thumb) image.src = thumb;
    else image.removeAttribute("src");
  }
  function showFull(url) {
    isFull = true;
    image.src = url;
    image.hidden = false;
  }

  function startEdit() {
    if (!pin.is_own || acts.isStill()) return;
    text.value = pin.note;
    form.hidden = false;
    note.hidden = row.hidden = true;
    text.focus();
  }
  function stopEdit() {
    form.hidden = true;
    note.hidden = !pin.note;
    row.hidden = acts.isStill();
    node.focus();
  }
  async function save() {
    if (text.value === pin.note || (await acts.edit(id, text.value))) stopEdit();
  }

  async function restore() {
    again.disabled = true;
    const done = await acts.restore(id, view);
    again.disabled = false;
    restored.hidden = !done;
    if (done) replace(restored, h("p", {}, done.where), done.reports.length ? h("ul", {}, done.reports.map((line) => h("li", {}, line))) : null);
  }

  async function take() {
    try {
      await navigator.clipboard.writeText(pin.code);
      acts.say("Copied");
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy code"), 1200);
    } catch {
      getSelection().selectAllChildren(code);
      acts.say("Selected: press Ctrl+C");
    }
  }

  return {
    node, update, showThumb, showFull, restore, startEdit,
    mark(isReached, isCurrent) {
      node.tabIndex = isReached ? 0 : -1;
      for (const control of controls) control.tabIndex = isReached ? 0 : -1;
      node.classList.toggle("wb-current", isCurrent);
    },
    focus(act) {
      const control = act && node.querySelector(`[data-act="${act}"]`);
      (control && !control.disabled ? control : node).focus();
    },
    close: () => thumb && URL.revokeObjectURL(thumb),
  };
}

function when(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
