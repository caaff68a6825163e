/**
 * The page's address: what of the state stands in it. No DOM in here.
 *
 * @typedef {import("./types.js").State} State
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 */

/** @type {State["source"][]} */
const SOURCES = ["photo", "camera", "video"];

/**
 * What an address asks for; whatever makes no sense in it is left out.
 *
 * @param {string} search  "?..."
 * @returns {{state: Partial<State>, photo: PhotoSource | null}}
 */
export function read(search) {
  const asked = new URLSearchParams(search);
  /** @type {Partial<State>} */
  const state = {};
  const number = (/** @type {string} */ name) => {
    const text = asked.get(name);
    return text === null || text === "" ? NaN : Number(text);
  };
  const threshold = number("threshold");
  if (threshold >= 0 && threshold <= 1) Object.assign(state, { threshold, thresholdChosen: true });
  for (const [name, key] of /** @type {const} */ ([
    ["layers", "depth"],
    ["queries", "queries"],
    ["size", "size"],
    ["compare", "compare"],
  ])) {
    const value = number(name);
    if (Number.isInteger(value) && value >= 1) state[key] = value;
  }
  const source = SOURCES.find((one) => one === asked.get("source"));
  if (source) state.source = source;
  const view = asked.get("view");
  if (view && /^[a-z]+$/.test(view)) state.view = view;
  const checkpoint = asked.get("checkpoint");
  if (checkpoint) state.checkpoint = checkpoint;
  if (asked.get("doubles") === "hidden") state.hideDuplicates = true;
  if (asked.get("runtime") === "device" || asked.get("runtime") === "server")
    Object.assign(state, { runtime: asked.get("runtime"), runtimeChosen: true });
  const [url, example] = [asked.get("url"), asked.get("example")];
  return { state, photo: url ? { url } : example ? { example } : null };
}

/**
 * The address of a state. Parameters that are not ours stay as they are.
 *
 * @param {State} state
 * @param {string} search
 * @param {State["runtime"]} usual  the runtime that need not be named
 */
export function write(state, search, usual = "server") {
  const parameters = new URLSearchParams(search);
  /** @param {string} name @param {string | number | false | null | undefined} value */
  const put = (name, value) =>
    value ? parameters.set(name, String(value)) : parameters.delete(name);
  const photo = state.result?.source;
  put("source", state.source !== "photo" && state.source);
  if (state.result) {
    put("url", photo?.url);
    put("example", photo?.example);
    put("layers", state.depth !== state.result.depth && state.depth);
  }
  put("checkpoint", state.checkpoint);
  put("threshold", state.thresholdChosen && String(state.threshold));
  put("queries", state.queries);
  put("size", state.size);
  put("compare", state.compare);
  put("view", state.view !== "detections" && state.view);
  put("doubles", state.hideDuplicates && "hidden");
  put("runtime", state.runtime !== usual && state.runtime);
  const text = parameters.toString();
  return text ? `?${text}` : "";
}

/**
 * Whether two addresses differ in what a visitor would step back through: not in the place of a
 * slider.
 *
 * @param {string} before
 * @param {string} after
 */
export function isStep(before, after) {
  const of = (/** @type {string} */ search) => {
    const parameters = new URLSearchParams(search);
    return ["url", "example", "source", "view", "checkpoint", "runtime"].map((name) =>
      parameters.get(name),
    );
  };
  return JSON.stringify(of(before)) !== JSON.stringify(of(after));
}
