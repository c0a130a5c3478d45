// Angles between directions: cosines as a table.
import { array, css, h, ramp, replace, set } from "../common/index.js";
import { degrees } from "./methods.js";

export class Angles {
  constructor({ frame, shown }) {
    Object.assign(this, { frame, state: frame.state, shown });
    this.table = h("div", { class: "wb-scroll", tabIndex: 0, role: "group" });
    set(this.table, { "aria-label": "Cosines, scrolls sideways" });
    this.line = h("p", { class: "wb-origin" }, "Cosines: 1 is the same direction, 0 a right angle.");
    this.node = h("div", {}, this.table, this.line);
  }

  draw() {
    const angles = this.state.get("found")?.angles;
    if (!angles) return replace(this.table);
    const { names } = angles, cosines = array(angles.cosines), n = names.length, now = this.shown()?.direction;
    const isDark = this.frame.root.dataset.theme === "dark";
    const colours = ramp(isDark ? "two-sided-dark" : "two-sided");
    const cell = (i, j) => {
      const value = cosines[i * n + j];
      const colour = colours[Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, value)))];
      return h("td", { title: `${names[i].text} and ${names[j].text}: ${degrees(value)}`, style: { background: css(colour, 0.28) } }, value.toFixed(2).replace("-", "−"));
    };
    replace(this.table, h("table", { class: "wb-table wb-angles" }, h("caption", { class: "wb-live" }, "Cosines between directions"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Direction"), names.map((one, j) => h("th", { scope: "col", title: one.text }, h("span", { "aria-hidden": "true" }, j + 1), h("span", { class: "wb-live" }, one.text))))),
      h("tbody", {}, names.map((one, i) => h("tr", { class: one.direction && one.direction === now ? "wb-on" : "" }, h("th", { scope: "row", title: one.direction }, `${i + 1} ${one.text}`), names.map((_, j) => cell(i, j)))))));
  }
}
