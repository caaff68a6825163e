import "./components/rt-app.js";
import { Actions, REST_DEPTH } from "./lib/actions.js";
import { lazyDetector } from "./lib/detector.js";
import { create, prefersReducedMotion } from "./lib/element.js";
import { forwardZeroGpuHeaders } from "./lib/hub_visitor.js";
import { Rpc } from "./lib/rpc.js";
import { ServerDetector } from "./lib/server_detector.js";
import { Store } from "./lib/store.js";
import { isStep, read, write } from "./lib/url_state.js";

/**
 * @typedef {import("./lib/types.js").State} State
 * @typedef {import("./lib/types.js").App} App
 */

const ADDRESS_AFTER_MS = 200;

/**
 * Put the page into an element.
 *
 * @param {Object} given
 * @param {HTMLElement} given.element
 * @param {import("./lib/types.js").PageConfig} given.config
 * @param {import("./lib/rpc.js").ServerFunctions | null} [given.server]  null: there is no server
 * @param {import("./lib/rpc.js").Upload} [given.upload]
 * @param {string} given.base  address of the page's files
 */
export async function mount({ element, config, server = null, upload, base }) {
  // A shadow root of our own: no style of whatever page we stand in reaches us, nor ours it.
  const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
  const styles = document.createElement("link");
  styles.rel = "stylesheet";
  styles.href = new URL("styles.css", base).href;
  const styled = new Promise((done) => styles.addEventListener("load", done, { once: true }));
  root.replaceChildren(styles);
  const font = new FontFace("Inter", `url(${new URL("fonts/inter.woff2", base).href})`, {
    weight: "100 900",
  });
  document.fonts.add(font);

  const asked = read(location.search);
  if (asked.state.runtime && !config.runtimes.includes(asked.state.runtime))
    delete asked.state.runtime;
  if (server) forwardZeroGpuHeaders();
  const rpc = server && upload ? new Rpc(server, upload) : null;
  /** @type {Store<State>} */
  const store = new Store(/** @type {State} */ ({ ...initial(config), ...asked.state }));
  /** @type {App} */
  const app = {
    store,
    config,
    rpc,
    actions: /** @type {any} */ (null),
    detector: () => detectors[store.get().runtime] ?? Object.values(detectors)[0],
    asset: (path) => new URL(path, base).href,
  };
  /** @type {Record<string, import("./lib/detector.js").Detector>} */
  const detectors = {};
  if (rpc) detectors.server = new ServerDetector(rpc, config, app.asset);
  if (config.runtimes.includes("device"))
    detectors.device = lazyDetector("device", async () => {
      const { DeviceDetector } = await import("./lib/device_detector.js");
      return new DeviceDetector(config, rpc, app.asset);
    });
  app.actions = new Actions(app);

  await Promise.all([styled, font.load().catch(() => undefined)]);
  const { photo } = asked;
  const isFirst = !photo;
  if (isFirst) app.actions.showFirst();
  root.append(create("rt-app", app));
  if (isFirst && store.get().source === "photo") welcome(app, asked.state);
  keepAddress(app);
  const followed = app.actions.follow(photo);
  if (photo) followed.then(() => putDepth(store, asked.state.depth));
}

/**
 * @param {import("./lib/types.js").PageConfig} config
 * @returns {State}
 */
function initial(config) {
  const serving = config.checkpoints.find((one) => one.id === config.serving);
  return {
    source: "photo",
    result: null,
    depth: serving?.decoder_layers ?? 6,
    threshold: serving?.threshold ?? 0.5,
    thresholdChosen: false,
    hidden: new Set(),
    hideDuplicates: false,
    compare: null,
    split: 0.5,
    hovered: null,
    selected: null,
    view: "detections",
    checkpoint: "",
    queries: null,
    size: null,
    runtime: config.runtimes[0] ?? "server",
    status: null,
    playing: false,
    pendingVideo: null,
    video: null,
    live: null,
    busy: "",
    problem: "",
    runtimeChosen: false,
  };
}

/**
 * The first visit: the depths play once, or rest where most is won, then the visitor takes over.
 *
 * @param {App} app
 * @param {Partial<State>} asked
 */
function welcome({ store, actions }, asked) {
  const { result } = store.get();
  if (!result) return;
  if (asked.depth) store.set({ depth: Math.min(asked.depth, result.depth) });
  else if (prefersReducedMotion()) store.set({ depth: Math.min(REST_DEPTH, result.depth) });
  else requestAnimationFrame(() => actions.play());
}

/**
 * Keep the settings in the address, and follow it when the visitor steps back or forward.
 *
 * @param {App} app
 */
function keepAddress({ store, config, actions }) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let isLeading = false;
  const keep = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const state = store.get();
      if (state.playing || state.busy || isLeading) return;
      const search = write(state, location.search, config.runtimes[0]);
      if (search === location.search) return;
      const address = location.pathname + search + location.hash;
      if (isStep(location.search, search)) history.pushState(history.state, "", address);
      else history.replaceState(history.state, "", address);
    }, ADDRESS_AFTER_MS);
  };
  store.subscribe(
    ["source", "result", "depth", "threshold", "checkpoint", "queries", "size", "compare", "view",
      "hideDuplicates", "runtime", "playing", "busy"],
    keep,
  ); // prettier-ignore
  addEventListener("popstate", async () => {
    isLeading = true;
    clearTimeout(timer);
    const { state, photo } = read(location.search);
    const usual = initial(config);
    const rest = { ...pick(usual, STEPPED), ...state };
    delete rest.depth; // it waits for the picture
    store.set(rest);
    await actions.follow(photo);
    putDepth(store, state.depth);
    isLeading = false;
  });
}

/**
 * The depth that an address names, once its picture tells how many layers there are.
 *
 * @param {App["store"]} store
 * @param {number} [depth]  none: full depth
 */
function putDepth(store, depth = Infinity) {
  const { result } = store.get();
  if (result) store.set({ depth: Math.min(depth, result.depth) });
}

/** @type {(keyof State)[]} */
const STEPPED = [
  "source",
  "view",
  "checkpoint",
  "queries",
  "size",
  "compare",
  "hideDuplicates",
  "runtime",
];

/**
 * @param {State} state
 * @param {(keyof State)[]} keys
 * @returns {Partial<State>}
 */
const pick = (state, keys) =>
  Object.fromEntries(
    Object.entries(state).filter(([key]) => keys.includes(/** @type {any} */ (key))),
  );
