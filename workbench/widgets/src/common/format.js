// Numbers and addresses as people read them.

const MINUS = "\u2212";

// About three digits, without exponents where they can be avoided.
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : `${MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (size >= 1e6 || size < 1e-4) text = size.toExponential(digits - 1).replace("e+", "e").replace("e-", `e${MINUS}`);
  else if (size >= 10 ** (digits - 1)) text = grouped(Math.round(size));
  else text = String(Number(size.toPrecision(digits)));
  return value < 0 ? MINUS + text : text;
}

export function signed(value, digits = 3) {
  return value > 0 ? `+${number(value, digits)}` : number(value, digits);
}

export function percent(share, digits = 0) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  if (share !== 0 && Math.abs(share) < 0.0005 && digits > 0) return "<0.1\u202f%";
  const text = (Math.abs(share) * 100).toFixed(digits);
  return `${share < 0 && Number(text) !== 0 ? MINUS : ""}${text}\u202f%`;
}

// 1280 -> "1,280"; thin spaces would be read as two numbers by some screen readers.
export function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

export function plural(count, word, more = `${word}s`) {
  return `${grouped(count)} ${count === 1 ? word : more}`;
}

// "layer3.1.conv2/unit/17" -> its parts
export function address(text) {
  const parts = String(text).split("/");
  return parts.length === 3
    ? { layer: parts[0], basis: parts[1], index: Number(parts[2]), name: `${parts[1]} ${parts[2]}` }
    : { layer: "", basis: "", index: -1, name: String(text) };
}

// A component as people call it: its number, and the label they gave it, as the trait `labels` has it.
export function nameOf(component, labels) {
  const { name } = address(component);
  return labels?.[component] ? `${name} · ${labels[component]}` : name;
}

// Bytes in decimal units, as the store says them: 41300000 -> "41 MB"
export function bytes(count) {
  let value = count, at = 0;
  const units = ["B", "kB", "MB", "GB", "TB"];
  while (Math.abs(value) >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

// 95 -> "2 min"
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(seconds > 0 ? 1 : 0, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
