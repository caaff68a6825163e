import { Refusal } from "./detector.js";
import { cachedBytes } from "./file_cache.js";
import { PictureUrls } from "./picture_urls.js";
import { upright } from "./orientation.js";
import { titleOf } from "./server_detector.js";

/**
 * Detects on the visitor's own device, in a worker: no picture leaves it.
 *
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 * @typedef {import("./types.js").Status} Status
 * @typedef {import("./types.js").Download} Download
 * @typedef {import("./types.js").DeviceModel} DeviceModel
 * @typedef {import("./detector.js").Asked} Asked
 * @typedef {import("./detector.js").Detector} Detector
 * @typedef {import("./device_worker.js").Pass} Pass
 * @typedef {import("./file_cache.js").WantedFile} WantedFile
 *
 * @typedef {Object} Manifest  what `detector/browser_export.py` writes beside the files
 * @property {string} checkpoint
 * @property {string[]} class_names
 * @property {number} decoder_layers
 * @property {{size: [number, number], scale: number[], shift: number[]}} preprocess
 * @property {{name: string, bytes: number, sha256: string}[]} files
 *
 * @typedef {Object} Model
 * @property {Manifest} manifest
 * @property {WantedFile[]} files
 * @property {DeviceModel["colors"]} colors
 * @property {Map<string, number[]>} times  of each stage in the latest passes, in milliseconds
 */

const RUNTIME = "../vendor/onnxruntime-web-1.30.0/";
const WASM = {
  url: "ort-wasm-simd-threaded.wasm.gz",
  bytes: 3659927,
  sha256: "bf933930bc90cf4f613f36cdc41616b54cfd2e9930478b574aed6ed4ef9ff8ca",
};
const MEASURED_PASSES = 15;
const KEPT_PASSES = 9;
const SILENT_MS = 60_000;
const STOPPED = "Detection on this device stopped. Try again, or run on the server.";
const STOPPED_TWICE =
  "Detection on this device stopped twice, probably because it ran out of memory. Choose a smaller checkpoint, or run on the server.";

/** @implements {Detector} */
export class DeviceDetector {
  /** @type {"device"} */
  kind = "device";
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Map<number, {resolve: (answer: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #lastId = 0;
  /** @type {Map<string, Promise<Model>>} */
  #models = new Map();
  /** @type {{checkpoint: string, ready: Promise<void>} | null} */
  #opened = null;
  /** @type {Download | null} */
  #download = null;
  #threads = 0;
  #measuring = false;
  #busy = 0;
  #frameIsUnderWay = false;
  #crashes = 0;
  #pictures = new PictureUrls();

  /**
   * @param {import("./types.js").PageConfig} config
   * @param {import("./rpc.js").Rpc | null} rpc  makes a checkpoint's files; null: they lie ready
   * @param {(path: string) => string} asset
   */
  constructor(config, rpc, asset) {
    this.config = config;
    this.rpc = rpc;
    this.asset = asset;
  }

  /** How many threads run the model; 0 before the first. */
  get threads() {
    return this.#threads;
  }

  /**
   * @param {PhotoSource} source
   * @param {Asked} asked
   * @returns {Promise<Result>}
   */
  async detect(source, asked) {
    const model = await this.#ready(asked);
    const content = await upright(await this.#content(source)).catch(unreadable);
    const pass = await this.#detectAll(model, content).catch((error) => {
      if (error instanceof WorkerCrashed) return this.#detectAll(model, content);
      throw error;
    });
    const example = this.config.examples.find((one) => one.name === source.example);
    const picture = example ? this.asset(example.picture) : this.#pictures.add(content);
    this.#measure(model, content);
    return { ...this.#result(model, pass), source, title: titleOf(source, this.config), picture };
  }

  /**
   * @param {Result} result
   * @param {Asked} asked
   */
  async again(result, asked) {
    if (!result.source) throw new Refusal("There is no picture to detect in. Open one first.");
    return this.detect(result.source, asked);
  }

  /**
   * Detect in a frame of a camera or a video, running `depth` layers. One frame at a time: a second
   * call before the first has answered is refused.
   *
   * @param {ImageBitmap | VideoFrame} frame  belongs to the detector from now on
   * @param {Asked & {depth: number}} asked
   * @returns {Promise<Result & {stages_ms: Record<string, number>}>}  its predictions are those of
   *   layer `depth` alone
   */
  async detectFrame(frame, { depth, ...asked }) {
    if (this.#frameIsUnderWay) {
      frame.close();
      throw new Refusal("The previous frame is still being processed.");
    }
    this.#frameIsUnderWay = true;
    try {
      const model = await this.#ready(asked);
      const layers = model.manifest.decoder_layers;
      const pass = await this.#pass(model, { frame, depth: Math.min(depth, layers), every: false });
      const result = this.#result(model, pass, Math.min(depth, layers));
      return { ...result, source: null, title: "frame", picture: null, stages_ms: pass.stages_ms };
    } catch (error) {
      frame.close();
      throw error;
    } finally {
      this.#frameIsUnderWay = false;
    }
  }

  /**
   * @param {string} checkpoint
   * @returns {Promise<Status>}
   */
  async status(checkpoint) {
    const id = checkpoint || this.config.serving;
    const model = await this.#model(id);
    const of = total(model);
    const kept = await this.#kept(model);
    return {
      checkpoint: id,
      serving: this.config.serving,
      wanted: this.config.serving,
      missing: false,
      notice: kept < of ? `Needs a one-time download of ${mega(of - kept)} MB.` : "",
      searching: false,
      threshold: this.config.checkpoints.find((one) => one.id === id)?.threshold ?? 0.5,
      here: kept === of,
      measuring: this.#measuring,
      latency: this.#latency(model),
      download: this.#download,
    };
  }

  /** @param {string} checkpoint */
  async download(checkpoint) {
    const model = await this.#model(checkpoint || this.config.serving);
    this.#open(model).catch(() => undefined); // `status` tells how it went
  }

  async cancelDownload() {
    this.#worker?.postMessage({ cancel: true });
  }

  /** @param {Result} result */
  async original({ source, picture }) {
    return source?.example ? this.#exampleAddress(source.example) : (picture ?? "");
  }

  /**
   * The files that a checkpoint needs here. The server makes them when they are first asked for.
   *
   * @param {string} checkpoint
   */
  #model(checkpoint) {
    const known = this.#models.get(checkpoint);
    if (known) return known;
    const found = this.#find(checkpoint);
    this.#models.set(checkpoint, found);
    found.catch(() => this.#models.delete(checkpoint));
    return found;
  }

  /**
   * @param {string} checkpoint
   * @returns {Promise<Model>}
   */
  async #find(checkpoint) {
    const shipped = this.config.deviceModels?.[checkpoint];
    if (!shipped && !this.rpc)
      throw new Refusal("This checkpoint cannot run on this page. Choose another one.");
    /** @type {DeviceModel} */
    const { manifest: path, colors } =
      shipped ?? (await /** @type {any} */ (this.rpc).call("device_model", { checkpoint }));
    const url = this.asset(path);
    const answer = await fetch(url).catch(() => null);
    if (!answer?.ok) throw new Refusal("The checkpoint could not be loaded. Try again later.");
    /** @type {Manifest} */
    const manifest = await answer.json();
    const files = manifest.files.map(({ name, bytes, sha256 }) => ({
      url: new URL(name, url).href,
      bytes,
      sha256,
    }));
    return { manifest, files, colors, times: new Map() };
  }

  get #wasm() {
    return { ...WASM, url: this.asset(RUNTIME + WASM.url) };
  }

  /** @param {Model} model */
  async #kept({ manifest, files }) {
    const [runtime, stages] = await Promise.all([
      cachedBytes("runtime", [this.#wasm]),
      cachedBytes(manifest.checkpoint, files),
    ]);
    return this.#opened?.checkpoint === manifest.checkpoint &&
      this.#threads &&
      !this.#download?.running
      ? WASM.bytes + files.reduce((sum, { bytes }) => sum + bytes, 0)
      : runtime + stages;
  }

  /**
   * The model, ready to run: only what is here already is made ready without being asked.
   *
   * @param {Asked} asked
   */
  async #ready({ checkpoint, queries, size }) {
    if (queries || size)
      throw new Refusal(
        "Custom input sizes and fewer queries work on the server only. Reset them, or run on the server.",
      );
    const model = await this.#model(checkpoint || this.config.serving);
    if (this.#opened?.checkpoint !== model.manifest.checkpoint) {
      const missing = total(model) - (await this.#kept(model));
      if (missing)
        throw new Refusal(`This needs a one-time download of ${mega(missing)} MB. Start it first.`);
    }
    await this.#open(model);
    return model;
  }

  /** @param {Model} model */
  #open(model) {
    const { checkpoint } = model.manifest;
    if (this.#opened?.checkpoint === checkpoint) return this.#opened.ready;
    const ready = this.#openNow(model);
    this.#opened = { checkpoint, ready };
    ready.catch(() => {
      if (this.#opened?.ready === ready) this.#opened = null;
    });
    return ready;
  }

  /** @param {Model} model */
  async #openNow({ manifest, files }) {
    const { checkpoint, preprocess } = manifest;
    const download = { checkpoint, running: true, done: 0, total: 0, error: "" };
    this.#download = download;
    try {
      const { threads } = await this.#ask({
        open: {
          name: checkpoint,
          files,
          preprocess,
          runtime: {
            module: this.asset(`${RUNTIME}ort.wasm.min.mjs`),
            glue: this.asset(`${RUNTIME}ort-wasm-simd-threaded.mjs`),
            wasm: this.#wasm,
          },
        },
      });
      this.#threads = threads;
    } catch (error) {
      download.error = /** @type {Error} */ (error).message;
      throw error;
    } finally {
      download.running = false;
    }
  }

  /**
   * A pass in the worker. If that crashes, it is started again, once.
   *
   * @param {Model} model
   * @param {import("./device_worker.js").DetectRequest} request
   * @returns {Promise<Pass>}  rejects with `WorkerCrashed` where the worker was started again
   *   meanwhile
   */
  async #pass(model, request) {
    this.#busy++;
    try {
      const { pass } = await this.#ask({ detect: request }, [request.frame]);
      note(model, pass.stages_ms);
      this.#crashes = 0;
      return pass;
    } catch (error) {
      if (error instanceof WorkerCrashed) await this.#open(model);
      throw error;
    } finally {
      this.#busy--;
    }
  }

  /**
   * @param {object} request
   * @param {Transferable[]} transfer
   * @returns {Promise<any>}  rejects with a `Refusal`, or with `WorkerCrashed`
   */
  #ask(request, transfer = []) {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, ...request }, transfer);
      if ("detect" in request)
        setTimeout(() => this.#waiting.has(id) && this.#discardWorker(worker), SILENT_MS);
    });
  }

  #start() {
    const worker = new Worker(new URL("device_worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#discardWorker(worker);
    });
    worker.addEventListener("message", ({ data }) => this.#onMessage(data));
    return worker;
  }

  /** @param {Worker} worker */
  #discardWorker(worker) {
    if (worker !== this.#worker) return;
    worker.terminate();
    this.#worker = null;
    this.#opened = null;
    // Several may wait for the one worker: its crash counts once.
    const again = ++this.#crashes > 1;
    if (again) this.#crashes = 0;
    for (const { reject } of this.#waiting.values())
      reject(again ? new Refusal(STOPPED_TWICE) : new WorkerCrashed(STOPPED));
    this.#waiting.clear();
  }

  /** @param {import("./device_worker.js").Answer} answer */
  #onMessage(answer) {
    if ("ready" in answer) return;
    if ("bytes" in answer) {
      if (this.#download) Object.assign(this.#download, { done: answer.bytes, total: answer.of });
      return;
    }
    const asked = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ("refusal" in answer) asked?.reject(new Refusal(answer.refusal));
    else asked?.resolve(answer);
  }

  /**
   * Time passes on a picture, while nobody waits for anything else: the first ones are slower, as
   * the browser is still compiling.
   *
   * @param {Model} model
   * @param {Blob} content
   */
  async #measure(model, content) {
    if (this.#measuring || this.#latency(model)) return;
    this.#measuring = true;
    try {
      for (let i = 0; i < MEASURED_PASSES && !this.#busy; i++)
        await this.#detectAll(model, content);
    } catch {
      // Nothing was asked for, so there is nobody to tell.
    } finally {
      this.#measuring = false;
    }
  }

  /**
   * Every layer's detections in a picture.
   *
   * @param {Model} model
   * @param {Blob} content
   */
  async #detectAll(model, content) {
    const frame = await decode(content);
    return this.#pass(model, { frame, depth: model.manifest.decoder_layers, every: true });
  }

  /**
   * @param {Model} model
   * @returns {import("./types.js").Latency | null}  null until enough passes have been timed
   */
  #latency({ manifest, times }) {
    const middle = Object.fromEntries([...times].map(([name, all]) => [name, median(all)]));
    const layers = Array.from(
      { length: manifest.decoder_layers },
      (_, i) => `decoder layer ${i + 1}`,
    );
    const stages = ["preprocess", "encoder", ...layers, "postprocess"];
    if (stages.some((name) => (times.get(name)?.length ?? 0) < KEPT_PASSES)) return null;
    let sum = middle.preprocess + middle.encoder + middle.postprocess;
    return {
      device: "device",
      runtime: this.#runtime,
      precision: "float32",
      size: manifest.preprocess.size,
      total_ms: layers.map((name) => (sum += middle[name])),
      stages_ms: Object.fromEntries(stages.map((name) => [name, middle[name]])),
    };
  }

  get #runtime() {
    return `WebAssembly, ${this.#threads === 1 ? "1 thread" : `${this.#threads} threads`}`;
  }

  /**
   * @param {Model} model
   * @param {Pass} pass
   * @param {number} [first]
   */
  #result({ manifest, colors }, { width, height, layers, stages_ms }, first = 1) {
    const { checkpoint, class_names: classes, decoder_layers: depth } = manifest;
    const timing_ms = { total: Object.values(stages_ms).reduce((sum, ms) => sum + ms, 0) };
    return {
      predictions: { checkpoint, classes, width, height, layers, first, timing_ms },
      colors,
      settings: {
        checkpoint,
        queries: null,
        size: null,
        runtime: `this device, ${this.#runtime}`,
        own: true,
      },
      depth,
      id: null,
    };
  }

  /**
   * @param {PhotoSource} source
   * @returns {Promise<Blob>}
   */
  async #content({ example, url, file }) {
    if (file) return file;
    const address = example ? this.#exampleAddress(example) : url;
    if (!address) throw new Refusal("No picture selected. Choose one first.");
    const answer = await fetch(address).catch(() => null);
    if (answer?.ok) return answer.blob();
    throw new Refusal(
      example
        ? "The example could not be loaded. Try again."
        : "This website does not allow other pages to load its picture. Save the picture, then open it here.",
    );
  }

  /** @param {string} name */
  #exampleAddress(name) {
    return this.asset(`../originals/${encodeURIComponent(name)}`);
  }
}

/** The worker ended before it answered, for the first time. */
class WorkerCrashed extends Refusal {}

/** @param {Model} model */
const total = ({ files }) => files.reduce((sum, { bytes }) => sum + bytes, WASM.bytes);

/** @param {number} bytes */
const mega = (bytes) => (bytes / 1e6).toFixed(1);

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/**
 * @param {Model} model
 * @param {Record<string, number>} stages
 */
function note({ times }, stages) {
  for (const [name, ms] of Object.entries(stages))
    times.set(name, [...(times.get(name) ?? []), ms].slice(-KEPT_PASSES));
}

/** @returns {never} */
function unreadable() {
  throw new Refusal("This browser cannot open this file. Use a JPEG, PNG, WebP or GIF picture.");
}

/**
 * A picture as the server decodes it: upright, in sRGB.
 *
 * @param {Blob} content
 */
async function decode(content) {
  try {
    return await createImageBitmap(content, {
      imageOrientation: "from-image",
      colorSpaceConversion: "default",
      premultiplyAlpha: "none",
    });
  } catch {
    return unreadable();
  }
}
