// RunBar: jobs with their progress, memory per tier, the last error; one line, more when unfolded.
import { bytes, duration, grouped, h, percent, plural, replace, set, shell, uid } from "../common/index.js";

const KEYS = [["Tab", "next control"], ["Enter, Space", "unfold, cancel"]];
const WORDS = { running: "running", waiting: "waiting", done: "done", failed: "failed", cancelled: "cancelled" };
const SIGNS = { running: "▶", waiting: "◌", done: "✓", failed: "!", cancelled: "×" };

function render({ model, el }) {
  const frame = shell({ model, el }, { kind: "run", label: "Jobs and memory", keys: KEYS });
  const { state, body, tools, root, questions } = frame;
  const isStill = () => state.get("status") === "still";
  const id = uid("jobs");

  const now = h("div", { class: "wb-run-now" });
  const meters = h("div", { class: "wb-run-meters" });
  const trouble = h("button", { type: "button", class: "wb-button wb-small wb-run-trouble", hidden: true, onclick: () => ((isOpen.error = !isOpen.error), draw()) }, "Last error");
  const more = h("button", { type: "button", class: "wb-button wb-small", "aria-controls": id, onclick: () => (state.put({ is_open: !state.get("is_open") }), draw()) }, "Details");
  tools.append(now, meters, trouble, more);

  const error = h("section", { class: "wb-run-error", "aria-label": "Last error", hidden: true });
  const list = h("ul", { class: "wb-run-list" });
  const memory = h("table", { class: "wb-run-tiers" });
  const details = h("div", { class: "wb-run-details", id },
    h("section", { "aria-label": "Jobs" }, h("h3", { class: "wb-run-h" }, "Jobs"), list),
    h("section", { "aria-label": "Memory" }, h("h3", { class: "wb-run-h" }, "Memory"), memory));
  replace(body, error, details);

  const isOpen = { error: false };
  let gotAt = 0, spoken = 0;

  const jobs = () => state.get("jobs") || {};
  const running = () => (jobs().live || []).find((job) => job.state === "running");
  // How long it has run: Python's number, and the time since it came.
  const seconds = (job) => job.seconds + (job.state === "running" && !isStill() ? (performance.now() - gotAt) / 1000 : 0);

  function times(job) {
    if (job.state === "waiting") return "";
    const ran = seconds(job);
    if (ran < 1) return "";
    if (job.state !== "running" || !job.is_counted || job.share <= 0.02 || ran < 2) return duration(ran);
    return `${duration(ran)}, about ${duration((ran / job.share) * (1 - job.share))} left`;
  }

  function progress(job) {
    const isKnown = job.is_counted;
    return h("span", {
      class: `wb-bar${isKnown ? "" : " wb-endless"}`, role: "progressbar", "aria-label": job.title, "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": isKnown ? Math.round(100 * job.share) : null,
    }, h("i", { style: { width: `${100 * job.share}%` } }));
  }

  function cancelOf(job) {
    if (isStill()) return null;
    return h("button", {
      type: "button", class: "wb-button wb-small", "data-job": job.number, "aria-label": `Cancel ${job.title}`, onclick: (event) => {
        event.currentTarget.disabled = true;
        questions.ask("cancel_job", { number: job.number }).catch(() => {});
      },
    }, "Cancel");
  }

  function draw() {
    // Buttons are made anew at each look; the one in use keeps the focus.
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset?.job : null;
    const where = focused && now.contains(document.activeElement) ? now : list;
    const job = running(), n = jobs().n_waiting || 0;
    replace(now, job
      ? [h("span", { class: "wb-run-title" }, h("strong", {}, job.title), job.note ? h("span", { class: "wb-run-quiet" }, ` ${job.note}`) : null), progress(job), h("span", { class: "wb-run-share" }, job.is_counted ? percent(job.share) : ""), h("span", { class: "wb-run-quiet wb-run-time" }, times(job)), cancelOf(job)]
      : h("span", { class: "wb-run-quiet" }, isStill() ? "No job was running" : n ? "" : "Nothing is running"),
    n ? h("span", { class: "wb-run-count" }, `${grouped(n)} waiting`) : null);
    root.dataset.busy = String(Boolean(job));
    drawMeters();
    drawError();
    const open = state.get("is_open");
    details.hidden = !open;
    set(more, { "aria-expanded": String(open) });
    if (open) {
      drawList();
      drawTiers();
    }
    body.hidden = details.hidden && error.hidden;
    if (focused) where.querySelector(`[data-job="${focused}"]`)?.focus();
    watch(job);
  }

  function drawMeters() {
    const tiers = state.get("tiers")?.tiers || [];
    const key = JSON.stringify(tiers);
    if (meters.dataset.key === key) return;
    meters.dataset.key = key;
    replace(meters, tiers.map((tier) => {
      const share = tier.budget_bytes ? Math.min(1, tier.bytes / tier.budget_bytes) : 0;
      const words = `${bytes(tier.bytes)}${tier.budget_bytes ? ` of ${bytes(tier.budget_bytes)}` : ""}`;
      return h("span", { class: `wb-meter${share > 0.9 ? " wb-full" : ""}`, title: `${tier.title}: ${words}` },
        h("span", { class: "wb-run-quiet" }, tier.name === "host" ? "process" : tier.name),
        h("span", { class: "wb-meter-bar", role: "meter", "aria-label": tier.title, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * share), "aria-valuetext": words }, h("i", { style: { width: `${100 * share}%` } })),
        h("span", {}, `${bytes(tier.bytes)}${share > 0.9 ? ", nearly full" : ""}`));
    }));
  }

  function drawError() {
    const last = state.get("error") || {};
    trouble.hidden = !last.message;
    if (trouble.hidden) isOpen.error = false;
    set(trouble, { "aria-expanded": String(isOpen.error) });
    error.hidden = !isOpen.error;
    if (error.hidden || error.dataset.number === String(last.number)) return;
    error.dataset.number = last.number;
    replace(error,
      h("p", {}, h("strong", {}, `${last.asked}: `), last.message),
      last.hint ? h("p", { class: "wb-hint" }, last.hint) : null,
      last.trace ? h("details", {}, h("summary", {}, "Trace"), h("pre", { tabIndex: 0 }, last.trace)) : null,
      isStill() ? null : h("button", { type: "button", class: "wb-button wb-small", onclick: forget }, "Forget it"));
  }

  function forget() {
    questions.ask("forget_error").catch(() => {});
    more.focus();
  }

  function drawList() {
    const { live = [], ended = [], n_waiting = 0 } = jobs();
    const rest = n_waiting - live.filter((job) => job.state === "waiting").length;
    replace(list,
      [...live, ...ended].map((job) => h("li", { "data-state": job.state },
        h("span", { class: "wb-run-sign", "aria-hidden": "true" }, SIGNS[job.state]),
        h("span", { class: "wb-run-title" }, job.title, job.note ? h("span", { class: "wb-run-quiet" }, ` ${job.note}`) : null),
        job.state === "running" ? progress(job) : null,
        h("span", { class: "wb-run-quiet wb-run-time" }, [job.state === "running" && job.is_counted ? percent(job.share) : WORDS[job.state], times(job)].filter(Boolean).join(", ")),
        ["running", "waiting"].includes(job.state) ? cancelOf(job) : null)),
      rest > 0 ? h("li", {}, `and ${plural(rest, "more job")} waiting`) : null,
      live.length + ended.length ? null : h("li", { class: "wb-run-quiet" }, "Nothing has run yet."));
  }

  function drawTiers() {
    const tiers = state.get("tiers")?.tiers || [];
    const key = JSON.stringify(tiers);
    if (memory.dataset.key === key) return;
    memory.dataset.key = key;
    replace(memory,
      h("thead", {}, h("tr", {}, ["Tier", "Used", "To be had", "Results", "Found"].map((word) => h("th", { scope: "col" }, word)))),
      h("tbody", {}, tiers.map((tier) => {
        const asked = tier.hits === null ? 0 : tier.hits + tier.misses;
        return h("tr", {},
          h("th", { scope: "row" }, tier.title), h("td", {}, bytes(tier.bytes)), h("td", {}, tier.budget_bytes ? bytes(tier.budget_bytes) : "–"),
          h("td", {}, tier.entries === null ? "–" : grouped(tier.entries)),
          h("td", { title: asked ? `${grouped(tier.hits)} hits, ${grouped(tier.misses)} misses` : "" }, asked ? `${grouped(tier.hits)} of ${grouped(asked)}` : "–"));
      })));
  }

  // The clock beside a running job ticks once a second; without one, nothing does.
  let ticking = 0;
  function watch(job) {
    if (Boolean(job) && !isStill() === Boolean(ticking)) return;
    clearInterval(ticking);
    ticking = job && !isStill() ? setInterval(tick, 1000) : 0;
  }
  function tick() {
    const job = running();
    if (!job) return watch(null);
    for (const node of [now.querySelector(".wb-run-time")]) if (node) node.textContent = times(job);
  }

  function tell() {
    const newest = (jobs().ended || [])[0];
    if (newest && newest.number > spoken && newest.seconds >= 1) frame.say(`${newest.title}: ${WORDS[newest.state]}`);
    if (newest) spoken = Math.max(spoken, newest.number);
  }

  frame.title("Jobs");
  spoken = (jobs().ended || [])[0]?.number || 0;
  state.on("jobs", () => ((gotAt = performance.now()), tell(), draw()));
  state.on(["tiers", "error", "is_open", "status"], draw);
  gotAt = performance.now();
  draw();
  return () => {
    clearInterval(ticking);
    frame.close();
  };
}

export default { render };
