// Colour maps: one-sided, two-sided (blue below zero, orange above, neutral at zero) and eight categories that stay
// apart with the common colour deficits. The same as in the figures of the package.

const MAPS = {
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
  viridis: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  greys: ["#1d232b", "#333b45", "#4a535f", "#626c79", "#7b8693", "#95a0ac", "#afb9c4", "#c9d1d9", "#e1e6eb", "#f6f8fa"],
};

const TWO_SIDED = ["#08306b", "#2171b5", "#9ecae1", "#f7f7f7", "#fdae6b", "#d94801", "#7f2704"];
// On a dark ground zero is dark too, so that the eye goes to what is not zero.
const TWO_SIDED_DARK = ["#b3d9ff", "#5aa5ea", "#2c5f92", "#3c4249", "#93491c", "#ee8434", "#ffd0a0"];
const TWO_AT = [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1];

export const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#332288"];
export const OTHER = "#8a8a8a";
export const FOR = [217, 72, 1];
export const AGAINST = [33, 113, 181];

const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function table(colours, at) {
  const stops = colours.map(parse);
  const where = at || colours.map((_, i) => i / (colours.length - 1));
  const found = [];
  for (let i = 0; i < 256; i++) {
    const t = i / 255;
    let k = 0;
    while (k < where.length - 2 && t > where[k + 1]) k++;
    const share = (t - where[k]) / (where[k + 1] - where[k]);
    found.push(stops[k].map((c, j) => Math.round(c + (stops[k + 1][j] - c) * share)));
  }
  return found;
}

const tables = new Map();

export function ramp(name) {
  const two = { "two-sided": TWO_SIDED, "two-sided-dark": TWO_SIDED_DARK }[name];
  if (!tables.has(name)) tables.set(name, two ? table(two, TWO_AT) : table(MAPS[name] || MAPS.cividis));
  return tables.get(name);
}

export const css = ([r, g, b], alpha = 1) => (alpha === 1 ? `rgb(${r},${g},${b})` : `rgba(${r},${g},${b},${alpha})`);

// A column's scale: from values to colours, with what a legend needs.
export function scaleOf(column, palette, dark = false) {
  if (column.kind === "category") return categories(column);
  const two = column.is_signed;
  const limit = Math.max(Math.abs(column.low), Math.abs(column.high)) || 1;
  const whole = two ? [-limit, limit] : [column.low, column.high];
  const [low, high] = column.bulk && column.bulk[1] > column.bulk[0] ? column.bulk : whole;
  const colours = ramp(two ? (dark ? "two-sided-dark" : "two-sided") : palette);
  const span = high - low || 1;
  const index = (v) => Math.max(0, Math.min(255, Math.round(((v - low) / span) * 255)));
  return {
    kind: two ? "two-sided" : "one-sided", low, high, colours, isCut: [low > column.low, high < column.high],
    of: (v) => (Number.isFinite(v) ? colours[index(v)] : null),
    bucket: (v) => (Number.isFinite(v) ? index(v) >> 2 : -1),
    colour: (b) => (b < 0 ? null : colours[Math.min(255, (b << 2) + 2)]),
  };
}

// More than eight groups are more than colours can tell: the largest get one, the rest is "other".
function categories(column) {
  const order = column.order || [];
  const slot = new Map(order.slice(0, CATEGORIES.length).map((code, i) => [code, i]));
  const colours = CATEGORIES.map(parse);
  const other = parse(OTHER);
  return {
    kind: "category", slot, order,
    of: (v) => (slot.has(v) ? colours[slot.get(v)] : other),
    bucket: (v) => (slot.has(v) ? slot.get(v) : -1),
    colour: (b) => (b < 0 ? other : colours[b]),
  };
}

// Paint a signed int8 map: transparent at zero, orange for, blue against; -128 means no number. Codes are roots, so that
// what is small keeps its steps: 127 stands for the largest value, which is `factor` on the scale of the colours.
export function paintHeat(image, codes, { factor = 1, sign = "both", opacity = 1 } = {}) {
  const out = image.data;
  for (let i = 0; i < codes.length; i++) {
    let t = codes[i] === -128 ? 0 : (codes[i] * Math.abs(codes[i]) * factor) / 16129;
    if ((sign === "positive" && t < 0) || (sign === "negative" && t > 0)) t = 0;
    const size = Math.min(1, Math.abs(t));
    const colour = t < 0 ? AGAINST : FOR;
    // The strongest darken towards the ends of the map, as in the legend.
    const dark = 1 - 0.42 * Math.max(0, size - 0.6) / 0.4;
    const at = 4 * i;
    out[at] = colour[0] * dark;
    out[at + 1] = colour[1] * dark;
    out[at + 2] = colour[2] * dark;
    out[at + 3] = Math.round(255 * opacity * size ** 0.7);
  }
  return image;
}

// The colour of a heat value as it looks over a light grey picture, for legends.
export function heatCss(t, opacity = 1) {
  const code = Math.sign(t) * 127 * Math.sqrt(Math.abs(t));
  const pixel = paintHeat({ data: new Uint8ClampedArray(4) }, [code], { opacity }).data;
  return `rgba(${pixel[0]},${pixel[1]},${pixel[2]},${(pixel[3] / 255).toFixed(3)})`;
}
