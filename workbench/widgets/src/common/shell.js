// The frame of every widget: heading, tools, body, error, status line, announcements, list of keys.
import { button } from "./controls.js";
import { h, replace, set, paced } from "./dom.js";
import { percent } from "./format.js";
import { menuOf } from "./menu.js";
import { State } from "./state.js";
import { stops, WAYS } from "./stops.js";
import { themed } from "./theme.js";
import { Questions, Dropped } from "./wire.js";

const WORDS = { ready: "Ready", waiting: "Waiting", running: "Working", stale: "Out of date", failed: "Failed", still: "Still" };

export function shell({ model, el }, { kind, label, keys = [], canPin = true, onTheme = () => {} }) {
  const state = new State(model);
  const questions = new Questions(model);
  state.later(() => questions.close());

  const heading = h("div", { class: "wb-title" });
  const sub = h("div", { class: "wb-sub" });
  const tools = h("div", { class: "wb-tools", role: "toolbar", "aria-label": `${label}: tools` });
  const body = h("div", { class: "wb-body" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const dot = h("span", { class: "wb-dot", "aria-hidden": "true" });
  const word = h("span", { class: "wb-word" });
  const bar = h("span", { class: "wb-bar", "aria-hidden": "true" }, h("i"));
  const cancel = h("button", { type: "button", class: "wb-button wb-small", onclick: () => questions.ask("cancel").catch(() => {}) }, "Cancel");
  const note = h("div", { class: "wb-note" });
  const menu = menuOf({ state, questions, canPin, say: (text) => say(text) });
  const help = button("help", "Keys", () => toggleKeys(), { "aria-expanded": "false" });
  const list = h("div", { class: "wb-keys", role: "dialog", "aria-label": "Keys", hidden: true });
  const live = h("div", { class: "wb-live", role: "status", "aria-live": "polite" });
  const root = h("section", { class: `wb wb-${kind}`, role: "region", "aria-label": label, "data-lm-suppress-shortcuts": "true" },
    h("header", { class: "wb-head" }, h("div", { class: "wb-heading" }, heading, sub), tools),
    problem, body,
    h("footer", { class: "wb-foot" }, h("div", { class: "wb-status" }, dot, word, bar, cancel), note, menu.node, help),
    list, menu.sheet, live);

  // What lies above the rest is closed before anything below hears of the key: a set or region stays.
  state.listen(root, "keydown", (event) => {
    if (event.key !== "Escape" || (list.hidden && !menu.isOpen)) return;
    event.preventDefault();
    event.stopPropagation();
    const opener = menu.sheet.contains(event.target) ? menu.node : list.contains(event.target) ? help : null;
    toggleKeys(false);
    menu.close();
    opener?.focus();
  }, true);
  stops(root, (...heard) => state.listen(...heard));
  // The notebook takes single keys as commands; those pressed in here are ours.
  state.listen(root, "keydown", (event) => {
    if (event.key === "?" && !/^(input|textarea)$/i.test(event.target.tagName)) toggleKeys();
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });

  function toggleKeys(show = list.hidden) {
    list.hidden = !show;
    set(help, { "aria-expanded": String(show) });
  }
  replace(list, h("strong", {}, "Keys"), h("dl", {}, [...keys, ...WAYS, ["?", "show or hide this list"]].map(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));

  // Work that is over in a moment does not flicker through the status line.
  let pending = 0;
  function showStatus() {
    const status = state.get("status");
    const busy = status === "waiting" || status === "running";
    const show = () => {
      root.dataset.status = status;
      set(root, { "aria-busy": String(busy) });
      const share = state.get("progress");
      word.textContent = busy || status === "stale" || status === "still"
        ? [state.get("message") || WORDS[status], busy && share > 0 ? percent(share) : ""].filter(Boolean).join(" · ")
        : WORDS[status] || "";
      bar.hidden = !busy;
      bar.classList.toggle("wb-endless", busy && !share);
      bar.firstChild.style.width = `${100 * share}%`;
      cancel.hidden = !busy;
    };
    if (busy && !["waiting", "running"].includes(root.dataset.status)) {
      pending ||= setTimeout(showNow, 80); // not put off by each step of the progress
    } else {
      clearTimeout(pending);
      pending = 0;
      show();
    }
  }
  function showNow() {
    pending = 0;
    root.dataset.status = "waiting";
    showStatus();
  }
  state.watch(["status", "progress", "message"], showStatus);
  state.later(() => clearTimeout(pending));

  const local = { problem: null };
  function showProblem() {
    const shown = local.problem || (Object.keys(state.get("_problem") || {}).length ? state.get("_problem") : null);
    problem.hidden = !shown;
    if (!shown) return replace(problem);
    const dismiss = () => {
      local.problem = null;
      if (Object.keys(state.get("_problem") || {}).length) questions.ask("dismiss").catch(() => {});
      showProblem();
    };
    problem.classList.toggle("wb-offer-start", Boolean(shown.start));
    const start = async () => {
      local.problem = null;
      showProblem();
      await frame.ask("sweep");
    };
    replace(problem,
      h("div", { class: "wb-problem-text" },
        h("p", {}, shown.asked ? h("strong", {}, `${shown.asked}: `) : null, shown.message),
        shown.hint ? h("p", { class: "wb-hint" }, shown.hint) : null,
        shown.trace ? h("details", {}, h("summary", {}, "Trace"), h("pre", {}, shown.trace)) : null),
      shown.start && state.get("status") !== "still" ? h("button", { type: "button", class: "wb-button", title: shown.cost, onclick: start }, shown.start) : null,
      button("close", "Dismiss", dismiss));
  }
  state.watch("_problem", showProblem);

  state.watch("height", () => {
    const height = state.get("height");
    root.style.setProperty("--wb-height", height ? `${height}px` : "");
    root.classList.toggle("wb-fixed", height > 0);
  });

  // Opened from another widget: come into sight, and be seen to have.
  let mark = 0;
  state.on("opened", () => {
    if (state.get("opened").kind !== kind) return;
    root.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    root.classList.add("wb-opened");
    clearTimeout(mark);
    mark = setTimeout(() => root.classList.remove("wb-opened"), 1500);
  });
  state.later(() => clearTimeout(mark));

  // The still that lies beside a live view is for when there is none.
  const beside = state.get("_still_mark");
  if (beside) {
    const hidden = h("style", {}, `.${beside}, .jp-OutputArea-child:has(.${beside}) { display: none !important; }`);
    document.head.append(hidden);
    state.later(() => hidden.remove());
  }

  el.classList.add("wb-host");
  el.append(root);
  state.later(themed(root, model, () => onTheme()));

  const say = paced(1000, (text) => (live.textContent = text));
  state.later(say.stop);

  const frame = {
    root, body, tools, note, state, questions, say,
    words: "", detail: "",
    title(words, detail = "") {
      Object.assign(this, { words, detail });
      replace(heading, state.get("title") || words);
      replace(sub, detail);
    },
    // Ask Python; an answer that is no longer wanted is null, an error is shown where the reader looks.
    async ask(kind, body, options) {
      try {
        return await questions.ask(kind, body, options);
      } catch (error) {
        if (error instanceof Dropped) return null;
        local.problem = error.problem || { message: String(error.message || error), hint: "", trace: error.stack || "" };
        showProblem();
        return null;
      }
    },
    close: () => {
      state.close();
      root.remove();
    },
  };
  state.on("title", () => frame.title(frame.words, frame.detail));
  return frame;
}

// What stands in the body while there is nothing else.
export function empty(title, text, ...more) {
  return h("div", { class: "wb-empty" }, h("strong", {}, title), h("p", {}, text), more);
}
