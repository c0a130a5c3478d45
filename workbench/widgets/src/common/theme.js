// Light or dark: as the trait says, else as the notebook is, else as the system prefers. Follows changes.

function isDark(theme) {
  if (theme !== "auto") return theme === "dark";
  const body = document.body;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab) return lab === "false";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  if (body.classList.contains("vscode-light")) return false;
  if (document.documentElement.getAttribute("theme") === "dark") return true; // Colab
  const ground = luminance(getComputedStyle(body).backgroundColor);
  if (ground !== null) return ground < 0.35;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function luminance(colour) {
  const parts = colour.match(/[\d.]+/g)?.map(Number);
  if (!parts || parts.length < 3 || parts[3] === 0) return null;
  const [r, g, b] = parts.map((c) => c / 255);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function themed(root, model, onChange) {
  let before = "";
  const apply = () => {
    const follows = model.get("theme") === "auto";
    root.dataset.theme = isDark(model.get("theme")) ? "dark" : "light";
    root.toggleAttribute("data-host", follows);
    // Two dark themes may differ in their ground.
    const now = `${root.dataset.theme} ${getComputedStyle(root).backgroundColor}`;
    if (now !== before) {
      before = now;
      onChange();
    }
  };
  const watch = new MutationObserver(apply);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "style"] });
  const preference = matchMedia("(prefers-color-scheme: dark)");
  preference.addEventListener("change", apply);
  model.on("change:theme", apply);
  apply();
  return () => {
    watch.disconnect();
    preference.removeEventListener("change", apply);
    model.off("change:theme", apply);
  };
}

// Resolved colours for a canvas, which knows no variables.
export function inks(root) {
  const style = getComputedStyle(root);
  const read = (name) => style.getPropertyValue(name).trim();
  const probe = document.createElement("span");
  root.append(probe);
  const resolve = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {};
  for (const name of ["bg", "soft", "line", "ink", "ink2", "accent", "mark", "rim"]) found[name] = resolve(`--wb-${name}`);
  probe.remove();
  found.font = style.fontFamily;
  found.size = parseFloat(read("font-size")) || 13;
  return found;
}
