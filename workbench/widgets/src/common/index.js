// What scripts build on.
export * from "./colour.js";
export * from "./controls.js";
export * from "./dom.js";
export * from "./format.js";
export * from "./maps.js";
export * from "./members.js";
export * from "./samples.js";
export * from "./shell.js";
export * from "./state.js";
export * from "./theme.js";
export * from "./twin.js";
export * from "./wire.js";
