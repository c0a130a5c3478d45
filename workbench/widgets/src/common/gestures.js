// Hands on a map or board: moving, zooming, pointing, drawing a lasso, box or brush, and walking by keys.
// Click sets, Ctrl toggles, Shift extends, Alt subtracts, a drawn shape replaces, Escape clears, double click comes near and opens.
const BRUSH = 22; // radius in pixels

export function gestures(map, canvas, { tool, pick, toggle, extend, choose, members, hover, leave, say, open, farthest = 0.85 }) {
  const fingers = new Map();
  let from = null, moved = false, isArmed = false, enteredAt = 0, scrolledAt = 0;
  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  };
  const way = (event) => (event.altKey ? "subtract" : event.shiftKey || event.ctrlKey || event.metaKey ? "add" : "replace");

  canvas.addEventListener("pointerenter", () => { enteredAt = performance.now(); isArmed = false; map.wake?.(); });
  canvas.addEventListener("pointerleave", () => { isArmed = false; if (!fingers.size) leave(); });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    const here = at(event), wants = tool();
    fingers.set(event.pointerId, here);
    // The middle button moves whatever the tool; with the hand, Shift and Alt draw a box.
    const kind = event.button === 1 ? "move" : wants !== "move" ? wants : event.shiftKey || event.altKey ? "box" : "move";
    from = { at: here, last: here, kind, way: way(event) };
    if (event.button === 1) event.preventDefault();
    moved = false;
    isArmed = true;
    leave();
  });
  canvas.addEventListener("pointermove", (event) => {
    const [px, py] = at(event);
    if (!fingers.has(event.pointerId)) {
      // A page that scrolls under a resting pointer must not stop at the map: only a pointer that moves means it.
      const now = performance.now();
      if (now - enteredAt > 180 && now - scrolledAt > 300) isArmed = true;
      return hover(map.hit(px, py, 5), px, py);
    }
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()], before = Math.hypot(a[0] - b[0], a[1] - b[1]);
      fingers.set(event.pointerId, [px, py]);
      const [c, d] = [...fingers.values()];
      map.zoom(Math.hypot(c[0] - d[0], c[1] - d[1]) / (before || 1), (c[0] + d[0]) / 2, (c[1] + d[1]) / 2);
      map.trail = null;
      moved = true;
      return;
    }
    fingers.set(event.pointerId, [px, py]);
    if (!moved && Math.hypot(px - from.at[0], py - from.at[1]) < 5) return;
    moved = true;
    if (from.kind === "move") {
      canvas.classList.add("wb-dragging");
      map.pan(px - from.last[0], py - from.last[1]);
    } else {
      map.trail ||= { kind: from.kind, path: [from.at], radius: BRUSH, subtracts: from.way === "subtract" };
      if (from.kind === "box") map.trail.path[1] = [px, py];
      else if (Math.hypot(px - map.trail.path.at(-1)[0], py - map.trail.path.at(-1)[1]) > 2) map.trail.path.push([px, py]);
      map.draw();
    }
    from.last = [px, py];
  });
  const end = (event) => {
    if (!fingers.delete(event.pointerId) || fingers.size) return;
    canvas.classList.remove("wb-dragging");
    const { trail } = map, began = from;
    map.trail = from = null;
    if (event.type !== "pointerup") return map.draw();
    if (trail) return select(map.within(trail), began.way);
    if (moved || event.button === 1) return;
    const i = map.hit(...at(event));
    if (i < 0) return;
    if (event.ctrlKey || event.metaKey) toggle(i);
    else if (event.altKey) members()[i] && toggle(i);
    else if (event.shiftKey) extend(i);
    else pick(i);
  };
  function select(inside, how) {
    if (how === "replace") return choose(inside, { opens: true });
    const old = members();
    if (how === "add") {
      const all = Uint8Array.from(old);
      for (const i of inside) all[i] = 1;
      return choose(rows(all));
    }
    const left = Uint8Array.from(old);
    for (const i of inside) left[i] = 0;
    choose(rows(left));
  }
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("dblclick", (event) => {
    const i = map.hit(...at(event));
    if (i >= 0) open(i);
  });
  canvas.addEventListener("wheel", (event) => {
    const pinch = event.ctrlKey || event.metaKey, out = event.deltaY > 0;
    if (!pinch && !isArmed) return void (scrolledAt = performance.now());
    if (!pinch && out && map.view.s <= map.fitting * farthest) return; // nothing farther out: the page may scroll on
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    map.zoom(Math.exp(-Math.max(-120, Math.min(120, pixels)) * (pinch ? 0.01 : 0.0022)), ...at(event));
    isArmed = true;
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const to = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    const here = () => (map.focus >= 0 ? map.focus : map.selected >= 0 ? map.selected : map.nearest());
    if (to && event.shiftKey) map.pan(-60 * to[0], -60 * to[1]);
    else if (to) {
      const now = map.focus >= 0 ? map.focus : map.selected;
      const next = now < 0 ? map.nearest() : map.next(now, ...to);
      if (next >= 0) {
        map.focus = next;
        map.reveal(next);
        say(next);
      }
    } else if (event.key === "Enter") here() >= 0 && (here() === map.selected ? open(here(), false) : pick(here()));
    else if (event.key === " ") here() >= 0 && toggle(here());
    else if (event.key === "+" || event.key === "=") map.zoomAt(1.35, map.focus >= 0 ? map.focus : map.selected);
    else if (event.key === "-") map.zoomAt(1 / 1.35, map.focus >= 0 ? map.focus : map.selected);
    else if (event.key === "0") map.glideFit();
    else if (event.key === "Escape") {
      if (map.trail) {
        map.trail = null;
        fingers.clear();
        map.draw();
      } else if (members().some(Boolean)) choose([]);
      else return; // nothing to clear: the key steps out
    } else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => { map.wake?.(); map.draw(); });
  canvas.addEventListener("blur", () => map.draw());
}

// Rows of what is marked
export function rows(marks) {
  const found = [];
  for (let i = 0; i < marks.length; i++) if (marks[i]) found.push(i);
  return found;
}
