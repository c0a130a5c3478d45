// Points on the graphics card, by regl-scatterplot; used as a renderer alone: view and gestures are the map's own.
//
// A context draws on a canvas of its own and copies to the one on the page, which so keeps its picture when the context
// is given back. All maps of a page share one list: with more than eight alive, the oldest gives its context back.
import createScatterplot, { checkSupport, createRegl, createRenderer } from "regl-scatterplot";
import { SIZES } from "./data.js";

const HOME = Symbol.for("workbench.contexts.1");
const alive = (globalThis[HOME] ||= new Set());
const MOST = 8;
export const RIMS_BELOW = 50_000;
export const GLIDE = 500; // milliseconds

// The library indexes all points for its own gestures, which are not used: an index of one point, in the form it takes.
const INDEX = new ArrayBuffer(32);
new Uint8Array(INDEX).set([0xdb, 0x18, 16, 0, 1, 0, 0, 0]);

// Whether a context can be had that does what is needed, and on a graphics card: where the processor stands in for one,
// stamping on a canvas takes half the time. Asked once.
let answer = null;
export function isSupported(anyway = false) {
  if (answer === null) {
    answer = { can: false, isFast: false };
    try {
      const gl = document.createElement("canvas").getContext("webgl");
      const names = gl?.getExtension("WEBGL_debug_renderer_info"), name = names ? String(gl.getParameter(names.UNMASKED_RENDERER_WEBGL)) : "";
      answer.can = Boolean(gl && ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"].every((one) => gl.getExtension(one)));
      answer.isFast = !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
      gl?.getExtension("WEBGL_lose_context")?.loseContext();
    } catch {
      // no context: the canvas serves
    }
  }
  return answer.can && (answer.isFast || anyway);
}

export class WebGL {
  // Throws where there is no context, or the page forbids what shaders are compiled with.
  constructor(canvas, { ondrop, onready }) {
    this.ondrop = ondrop;
    this.own = document.createElement("canvas");
    const regl = createRegl(this.own);
    if (!checkSupport(regl)) throw new Error("WebGL lacks what is needed.");
    this.renderer = createRenderer({ regl, canvas: this.own });
    const aside = document.createElement("div"); // for what its own gestures would put into the page
    this.plot = createScatterplot({
      lassoInitiatorParentElement: aside, lassoLongPressIndicatorParentElement: aside,
      renderer: this.renderer, canvas, width: 100, height: 100, cameraIsFixed: true, pointScaleMode: "constant",
      deselectOnEscape: false, deselectOnDblClick: false, spatialIndexUseWorker: false, syncEvents: true, backgroundColor: [0, 0, 0, 0],
      colorBy: "valueZ", sizeBy: "valueW", opacity: 1, pointSize: [4, 4], pointColor: [[0, 0, 0, 1], [0, 0, 0, 1]],
    });
    this.plot.subscribe("draw", onready);
    this.own.addEventListener("webglcontextlost", () => this.close());
    alive.add(this);
    if (alive.size > MOST) alive.values().next().value.close();
  }

  resize(width, height) {
    if (this.width === width && this.height === height) return;
    Object.assign(this, { width, height });
    this.renderer.resize(width, height);
    this.plot.set({ width, height });
  }

  // The last drawn lives longest.
  touch() {
    alive.delete(this);
    alive.add(this);
  }

  // All points anew: positions, codes of colour and size. Rims lie below all points, so that pale ones stand out.
  async load(points, { glides = false } = {}) {
    if (this.isLoading) return void (this.next = [points, { glides }]); // it takes one at a time, the newest last
    const { position, codes, colours, steps, shown, rim, dim, n } = points;
    const rims = n <= RIMS_BELOW, count = rims ? 2 * n : n, first = rims ? n : 0;
    const x = new Float32Array(count), y = new Float32Array(count), z = new Uint8Array(count), w = new Uint8Array(count);
    const faint = colours.length, edge = colours.length + 1;
    for (let i = 0; i < n; i++) {
      const at = first + i, step = steps ? steps[i] : 0;
      x[at] = 2 * position[2 * i] - 1;
      y[at] = 2 * position[2 * i + 1] - 1;
      z[at] = shown[i] ? codes[i] : faint;
      w[at] = shown[i] ? step : SIZES;
      if (!rims) continue;
      x[i] = x[at];
      y[i] = y[at];
      z[i] = shown[i] ? edge : faint;
      w[i] = shown[i] ? SIZES + 1 + step : SIZES;
    }
    const list = [...colours, dim, rim].map(([r, g, b]) => [r / 255, g / 255, b / 255, 1]);
    this.plot.set({ pointColor: list, pointColorActive: list, pointColorHover: list });
    this.touch();
    this.isLoading = true;
    try {
      await this.plot.draw({ x, y, z, w }, { zDataType: "categorical", wDataType: "categorical", spatialIndex: INDEX, transition: glides && count === this.count, transitionDuration: GLIDE });
      this.count = count;
    } catch (error) {
      if (!this.isClosed) throw error;
    }
    this.isLoading = false;
    const next = this.next;
    this.next = null;
    if (next && !this.isClosed) await this.load(...next);
  }

  // radii: of each step, in pixels of the page; small: of points that are filtered out.
  look({ x, y, s }, radii, small) {
    if (this.isClosed) return;
    const steps = Array.from({ length: SIZES }, (_, k) => radii[Math.min(k, radii.length - 1)]);
    const sizes = [...steps.map((r) => 2 * r), 2 * small, ...steps.map((r) => 2 * r + (r > 2 ? 1.6 : 0.8))];
    if (String(sizes) !== this.sizes) {
      this.sizes = String(sizes);
      this.plot.set({ pointSize: sizes });
    }
    const k = s / this.height, view = new Float32Array(16);
    view[0] = view[5] = k;
    view[10] = view[15] = 1;
    view[12] = (1 - 2 * x) * k;
    view[13] = (1 - 2 * y) * k;
    this.plot.view(view);
  }

  close() {
    if (this.isClosed) return;
    this.isClosed = true;
    alive.delete(this);
    try {
      this.plot.destroy();
      this.renderer.destroy();
      this.own.getContext("webgl")?.getExtension("WEBGL_lose_context")?.loseContext();
    } catch {
      // a lost context has nothing left to give back
    }
    this.ondrop?.();
  }
}
