// Buffers as text, and state with its buffers beside it, as ipywidgets sends them.

export function decoded(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return new DataView(found.buffer);
}

export function encoded(buffer) {
  const view = ArrayBuffer.isView(buffer) ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength) : new Uint8Array(buffer);
  let raw = "";
  for (let i = 0; i < view.length; i += 8192) raw += String.fromCharCode(...view.subarray(i, i + 8192));
  return btoa(raw);
}

// Put buffers where they belong; `state` is changed.
export function join(state, paths, buffers) {
  paths.forEach((path, i) => {
    let at = state;
    for (const step of path.slice(0, -1)) at = at[step];
    at[path.at(-1)] = buffers[i];
  });
  return state;
}

// Take buffers out, with their places.
export function split(value) {
  const paths = [], buffers = [];
  const walk = (one, path) => {
    if (ArrayBuffer.isView(one) || one instanceof ArrayBuffer) {
      paths.push(path);
      buffers.push(one);
      return null;
    }
    if (Array.isArray(one)) return one.map((item, i) => walk(item, [...path, i]));
    if (one && typeof one === "object") return Object.fromEntries(Object.entries(one).map(([key, item]) => [key, walk(item, [...path, key])]));
    return one;
  };
  return { state: walk(value, []), paths, buffers };
}
