// The label and the note that people give to a component.
import { h, replace, set, uid } from "../common/index.js";

const LABEL_MOST = 120, NOTE_MOST = 4000;

export class Written {
  constructor({ state, ask, say }) {
    Object.assign(this, { state, ask, say });
    const label = uid("label"), note = uid("note");
    const save = (what, input) => this.save(what, input);
    this.label = h("input", { id: label, type: "text", class: "wb-written", maxLength: LABEL_MOST, placeholder: "What is it?", autocomplete: "off", onchange: () => save("label", this.label), onkeydown: (event) => event.key === "Escape" && this.takeBack(event) });
    this.note = h("textarea", { id: note, class: "wb-written", rows: 2, maxLength: NOTE_MOST, placeholder: "What speaks for it, and what against?", onchange: () => save("note", this.note) });
    this.said = h("p", { class: "wb-origin", role: "status" });
    this.node = h("div", { class: "wb-writing" },
      h("label", { htmlFor: label, class: "wb-label" }, "Label"), this.label,
      h("label", { htmlFor: note, class: "wb-label" }, "Note"), this.note, this.said);
  }

  draw(component, again = false) {
    const isOther = component !== this.component;
    this.component = component;
    const isStill = this.state.get("status") === "still";
    for (const [input, value] of [[this.label, this.state.get("labels")?.[component]], [this.note, this.state.get("notes")?.[component]]]) {
      // What somebody is writing is not taken from under their hands.
      if (isOther || again || document.activeElement !== input) input.value = value || "";
      set(input, { disabled: isStill });
    }
    if (isOther) replace(this.said, isStill ? "Written where there is a session." : "");
  }

  // What has been typed goes first; with nothing to take back the key steps out of the card.
  takeBack(event) {
    const typed = this.label.value;
    this.draw(this.component, true);
    if (this.label.value !== typed) event.preventDefault();
  }

  async save(what, input) {
    const component = this.component;
    replace(this.said, "Saving…");
    const answer = await this.ask("note", { component, [what]: input.value });
    if (component !== this.component) return;
    const word = what === "label" ? "Label" : "Note";
    replace(this.said, answer ? `${word} ${input.value.trim() ? "saved" : "removed"}, with the model.` : "Not saved.");
    if (answer) this.say(`${word} ${input.value.trim() ? "saved" : "removed"}`);
  }
}
