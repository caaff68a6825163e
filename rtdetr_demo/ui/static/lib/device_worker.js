import { Refusal } from "./detector.js";
import { fetchCached } from "./file_cache.js";
import { topkPostprocess } from "./postprocess.js";
import { normalize, resize } from "./preprocess.js";

/**
 * The worker behind `DeviceDetector`: it owns the network's stages, one session each, so that a pass
 * ends after any layer.
 *
 * @typedef {import("./file_cache.js").WantedFile} WantedFile
 * @typedef {import("./types.js").LayerPredictions} LayerPredictions
 *
 * @typedef {Object} OpenRequest  Fetch a model and make it ready.
 * @property {string} name  that its files are kept under
 * @property {{module: string, glue: string, wasm: WantedFile}} runtime
 * @property {WantedFile[]} files  the encoding stage's, then each layer's
 * @property {{size: [number, number], scale: number[], shift: number[]}} preprocess
 *
 * @typedef {Object} DetectRequest  Run a pass.
 * @property {ImageBitmap | VideoFrame} frame  is closed when it has been read
 * @property {number} depth  decoder layers to run
 * @property {boolean} every  whether to rank every layer's candidates, or the last one's alone
 *
 * @typedef {{id: number, open: OpenRequest} | {id: number, detect: DetectRequest} | {cancel: true}} Request
 *
 * @typedef {Object} Pass
 * @property {number} width  of the picture, in pixels
 * @property {number} height
 * @property {LayerPredictions[]} layers
 * @property {Record<string, number>} stages_ms  preprocess, encoder, decoder layer 1 ..., and
 *   postprocess of one layer
 *
 * @typedef {{id: number, threads: number} | {id: number, pass: Pass} | {id: number, refusal: string}
 *   | {id: number, bytes: number, of: number} | {ready: true}} Answer
 */

const MOST_THREADS = 4;
const NO_SIMD =
  "This browser is too old: it does not support WebAssembly SIMD. Update it, or run on the server.";
const NO_MEMORY =
  "This device does not have enough memory for this checkpoint. Choose a smaller one, or run on the server.";
/** A module that splats and counts bits: whoever takes it has SIMD. */
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
];

/** @type {any} */
let ort = null;
/** @type {any[]} */
const sessions = [];
/** @type {OpenRequest["preprocess"] | null} */
let preprocess = null;
let canceller = new AbortController();
const canvas = new OffscreenCanvas(1, 1);
const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (
  canvas.getContext("2d", { willReadFrequently: true, alpha: false })
);

/** @param {Answer} answer */
const tell = (answer) => postMessage(answer);

/** One request at a time, in the order in which they came. */
let queue = Promise.resolve();

addEventListener("message", ({ data }) => {
  const request = /** @type {Request} */ (data);
  if ("cancel" in request) canceller.abort();
  else queue = queue.then(() => answer(request));
});
tell({ ready: true });

/** @param {Exclude<Request, {cancel: true}>} request */
async function answer(request) {
  const { id } = request;
  try {
    if ("open" in request) tell({ id, threads: await open(id, request.open) });
    else tell({ id, pass: await detect(request.detect) });
  } catch (error) {
    tell({ id, refusal: sentence(error) });
  }
}

/**
 * @param {number} id
 * @param {OpenRequest} request
 */
async function open(id, { name, runtime, files, preprocess: prepared }) {
  canceller = new AbortController();
  const { signal } = canceller;
  if (!WebAssembly.validate(new Uint8Array(SIMD))) throw new Refusal(NO_SIMD);
  const of = files.reduce((sum, { bytes }) => sum + bytes, runtime.wasm.bytes);
  /** @param {number} before */
  const from = (before) => (/** @type {number} */ bytes) => tell({ id, bytes: before + bytes, of });
  const [packed] = await fetchCached("runtime", [runtime.wasm], from(0), signal);
  const contents = await fetchCached(name, files, from(runtime.wasm.bytes), signal);
  if (!ort) {
    ort = await import(runtime.module);
    ort.env.logLevel = "error";
    ort.env.wasm.wasmBinary = await unpack(packed);
    ort.env.wasm.wasmPaths = { mjs: runtime.glue };
    ort.env.wasm.numThreads = threads();
  }
  for (const session of sessions.splice(0)) await session.release();
  for (const content of contents)
    sessions.push(await ort.InferenceSession.create(content, { executionProviders: ["wasm"] }));
  preprocess = prepared;
  return ort.env.wasm.numThreads;
}

/** As many as there are cores, but one for the page where there are several to spare. */
function threads() {
  if (!crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  return Math.min(cores > 2 ? cores - 1 : cores, MOST_THREADS);
}

/**
 * Some hosts unpack what ends in .gz on the way, and some do not.
 *
 * @param {Uint8Array<ArrayBuffer>} content
 */
async function unpack(content) {
  if (content[0] !== 0x1f || content[1] !== 0x8b) return content;
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * @param {DetectRequest} request
 * @returns {Promise<Pass>}
 */
async function detect({ frame, depth, every }) {
  const picture = sizeOf(frame);
  if (!preprocess || !sessions.length) {
    frame.close();
    throw new Refusal("The model is not loaded. Reload the page.");
  }
  /** @type {Record<string, number>} */
  const times = {};
  let began = performance.now();
  const lap = (/** @type {string} */ name) => {
    const now = performance.now();
    times[name] = (times[name] ?? 0) + now - began;
    began = now;
  };
  const [height, width] = preprocess.size;
  const levels = resize(read(frame, picture), picture.width, picture.height, width, height);
  const pixels = normalize(levels, preprocess.scale, preprocess.shift);
  lap("preprocess");
  const [encoder, ...layers] = sessions;
  const encoded = await encoder.run({
    pixels: new ort.Tensor("float32", pixels, [1, 3, height, width]),
  });
  let { queries, boxes } = encoded;
  lap("encoder");
  /** @type {LayerPredictions[]} */
  const ranked = [];
  for (let i = 0; i < depth; i++) {
    const given = await layers[i].run({ queries, boxes, tokens: encoded.tokens });
    queries = given.new_queries;
    boxes = given.new_boxes;
    lap(`decoder layer ${i + 1}`);
    if (every || i === depth - 1)
      ranked.push(topkPostprocess(given.logits.data, boxes.data, picture));
    lap("postprocess");
  }
  const { postprocess, ...rest } = times;
  return {
    ...picture,
    layers: ranked,
    stages_ms: { ...rest, postprocess: postprocess / ranked.length },
  };
}

/** @param {ImageBitmap | VideoFrame} frame */
const sizeOf = (frame) =>
  "displayWidth" in frame
    ? { width: frame.displayWidth, height: frame.displayHeight }
    : { width: frame.width, height: frame.height };

/**
 * The frame's bytes, at its own size: a canvas that scales does so in its own way. What is seen
 * through, white shines through.
 *
 * @param {ImageBitmap | VideoFrame} frame
 * @param {{width: number, height: number}} size
 */
function read(frame, { width, height }) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(frame, 0, 0);
  frame.close();
  return pen.getImageData(0, 0, width, height).data;
}

/** @param {unknown} error */
function sentence(error) {
  if (error instanceof Refusal) return error.message;
  const text = String(error);
  if (/memory|allocat|std::bad_alloc|RangeError/i.test(text)) return NO_MEMORY;
  console.warn(text);
  return "This device could not run the model. Reload the page, or run on the server.";
}
