import { Refusal } from "./detector.js";
import { prefersReducedMotion } from "./element.js";

/**
 * What a visitor can have the page do, beside what is a mere change of the store.
 *
 * @typedef {import("./types.js").App} App
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 * @typedef {import("./types.js").Predictions} Predictions
 */

const WATCH_MS = 700;
const PLAY_STEP_MS = 330;
/** Where the depth rests on a first visit without motion: most is won by then. */
export const REST_DEPTH = 3;
const OUR_FAULT = "Something went wrong on this page. Reload it and try again.";

export class Actions {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.turn = 0;
    /** @type {Result | null} the last one of a photo */
    this.photo = null;
    /** @type {Promise<void>} what was asked for last */
    this.underWay = Promise.resolve();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.watching = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.playing = undefined;
  }

  get state() {
    return this.app.store.get();
  }

  /** What a detector is asked with now. */
  get asked() {
    const { checkpoint, queries, size } = this.state;
    return { checkpoint, queries, size };
  }

  /**
   * Detect in a picture and show it. Of several at once, the newest wins.
   *
   * @param {PhotoSource} source
   */
  async openPhoto(source) {
    this.app.store.set({ source: "photo" });
    const example = this.app.config.examples.find((one) => one.name === source.example);
    if (example && this.#shippedServes(example.checkpoint)) return this.#openShipped(example);
    await this.#run(
      source.url ? "Downloading the picture" : source.file ? "Uploading the picture" : "Detecting",
      (onQueuePosition) => this.app.detector().detect(source, this.asked, onQueuePosition),
    );
  }

  /**
   * Open a file of any kind that the page knows: a picture or a video.
   *
   * @param {File} file
   */
  async openFile(file) {
    if (file.type.startsWith("video/") || /\.(mkv|avi|mov|mp4|webm)$/i.test(file.name)) {
      this.app.store.set({ source: "video", problem: "" });
      this.app.store.set({ pendingVideo: file });
    } else await this.openPhoto({ file });
  }

  /**
   * Put the photo back that a camera or a video has stood before, unless there is another one; look
   * at it again, where it is seen, if checkpoint or runtime have changed meanwhile.
   */
  async restorePhoto() {
    const { source, result } = this.state;
    if (!this.photo) return;
    if (!result?.picture) {
      this.app.store.set({ problem: "" });
      this.#show(this.photo);
    }
    await undefined; // another photo that takes its place is asked for now
    if (source === "photo") await this.catchUp();
  }

  /** Look at the picture on the stage again, with the settings of now. */
  async again() {
    const { result } = this.state;
    if (!result?.source) return;
    const { source } = result;
    await this.#run("Detecting again", (onQueuePosition) =>
      result.id
        ? this.app.detector().again(result, this.asked, onQueuePosition)
        : this.app.detector().detect(source, this.asked, onQueuePosition),
    );
  }

  /** Whether the picture on the stage was looked at otherwise than it would be now. */
  get isStale() {
    const { result, status, runtime, queries, size } = this.state;
    if (!result?.source || !status?.here) return false;
    const { settings } = result;
    return (
      settings.checkpoint !== status.checkpoint ||
      settings.queries !== queries ||
      settings.size !== size ||
      Boolean(settings.own) !== (runtime === "device")
    );
  }

  /**
   * Look again of the page's own accord, if there is cause. What the visitor has asked for goes
   * first, and may leave none. Nothing else decides this.
   */
  async catchUp() {
    while (this.state.busy) await this.underWay;
    if (this.isStale) await this.again();
  }

  /**
   * Show the first example as it was shipped: no server is asked.
   */
  showFirst() {
    const [example] = this.app.config.examples;
    this.#show(this.#shipped(example, this.app.config.first));
  }

  /**
   * Do as an address says: the settings in it stand in the store already.
   *
   * @param {PhotoSource | null} photo  null: none is named
   */
  async follow(photo) {
    const status = this.refreshStatus();
    const { source, result } = this.state;
    if (source !== "photo") return;
    const wanted = photo ?? { example: this.app.config.examples[0].name };
    if (result?.source?.url !== wanted.url || result?.source?.example !== wanted.example)
      return this.openPhoto(wanted);
    await status;
    await this.catchUp();
  }

  /**
   * Use another checkpoint from now on.
   *
   * @param {string} checkpoint  "": whatever serves
   */
  async chooseCheckpoint(checkpoint) {
    // Queries and size were chosen for the one before.
    this.app.store.set({ checkpoint, queries: null, size: null, status: null });
    await this.refreshStatus();
    await this.catchUp();
  }

  /**
   * Detect somewhere else from now on, as the visitor says.
   *
   * @param {"server" | "device"} runtime
   */
  async chooseRuntime(runtime) {
    this.app.store.set({ runtimeChosen: true });
    await this.useRuntime(runtime);
  }

  /** @param {"server" | "device"} runtime */
  async useRuntime(runtime) {
    // What the device does not do stays behind.
    const shape = runtime === "device" ? { queries: null, size: null } : {};
    this.app.store.set({ runtime, status: null, problem: "", ...shape });
    await this.refreshStatus();
    await this.catchUp();
  }

  /**
   * Use another number of queries or size of the input; null: the checkpoint's own.
   *
   * @param {{queries?: number | null, size?: number | null, depth?: number}} shape
   */
  async setShape({ queries = null, size = null, depth }) {
    this.app.store.set({ queries, size });
    await this.again();
    if (depth) this.app.store.set({ depth: Math.min(depth, this.state.result?.depth ?? depth) });
  }

  /** @param {string} checkpoint */
  async download(checkpoint) {
    await this.#guarded(() => this.app.detector().download(checkpoint));
    await this.refreshStatus();
  }

  /** @param {string} checkpoint */
  async cancelDownload(checkpoint) {
    await this.#guarded(() => this.app.detector().cancelDownload(checkpoint));
    await this.refreshStatus();
  }

  /** Ask how the chosen checkpoint stands, and go on asking while something is under way. */
  async refreshStatus() {
    clearTimeout(this.watching);
    const { checkpoint, runtime, status: before } = this.state;
    /** @type {import("./types.js").Status} */
    let status;
    try {
      status = await this.app.detector().status(checkpoint);
    } catch (error) {
      this.app.store.set({ problem: sentence(error) });
      return;
    }
    if (checkpoint !== this.state.checkpoint || runtime !== this.state.runtime) return;
    this.app.store.set({
      status,
      ...(this.state.thresholdChosen ? {} : { threshold: status.threshold }),
    });
    const arrived = before && !before.here && status.here;
    const moved = before && before.serving !== status.serving && !checkpoint;
    // A checkpoint that has just come serves the picture on the stage from now on.
    if (arrived || moved) this.catchUp();
    if (status.download?.running || status.searching || status.measuring)
      this.watching = setTimeout(() => this.refreshStatus(), WATCH_MS);
  }

  /** Step through the depths once, 1 to the last; a second call stops it. */
  play() {
    const { result } = this.state;
    if (!result || this.stopPlaying()) return;
    if (prefersReducedMotion()) {
      this.app.store.set({ depth: Math.min(REST_DEPTH, result.depth) });
      return;
    }
    const step = (/** @type {number} */ depth) => {
      this.app.store.set({ depth, playing: depth < result.depth });
      this.playing = depth < result.depth ? setTimeout(step, PLAY_STEP_MS, depth + 1) : undefined;
    };
    step(1);
  }

  /** Whether there was something to stop. */
  stopPlaying() {
    if (this.playing === undefined) return false;
    clearTimeout(this.playing);
    this.playing = undefined;
    this.app.store.set({ playing: false });
    return true;
  }

  /**
   * Tell what went wrong, or "" when all is well.
   *
   * @param {string} problem
   */
  problem(problem) {
    this.app.store.set({ problem });
  }

  /** @param {Result} result */
  #show(result) {
    const { result: before, depth, compare, hidden } = this.state;
    const atFull = !before || depth === before.depth;
    const known = new Set(result.predictions.classes);
    this.photo = result;
    this.app.store.set({
      result,
      depth: atFull ? result.depth : Math.min(depth, result.depth),
      compare: compare && Math.min(compare, result.depth),
      hidden: new Set([...hidden].filter((name) => known.has(name))),
      selected: null,
      hovered: null,
      ...(this.state.thresholdChosen ? {} : { threshold: this.#usual(result.settings.checkpoint) }),
    });
  }

  /** @param {string} checkpoint */
  #usual(checkpoint) {
    const { status, threshold } = this.state;
    if (status?.checkpoint === checkpoint) return status.threshold;
    return this.app.config.checkpoints.find((one) => one.id === checkpoint)?.threshold ?? threshold;
  }

  /** @param {string} checkpoint */
  #shippedServes(checkpoint) {
    const { queries, size, status, runtime } = this.state;
    const chosen = this.state.checkpoint || (status?.serving ?? this.app.config.serving);
    const isOwnReady = runtime === "device" && status?.here;
    return chosen === checkpoint && queries === null && size === null && !isOwnReady;
  }

  /** @param {import("./types.js").Example} example */
  async #openShipped(example) {
    if (example.name === this.app.config.examples[0].name) {
      this.turn++;
      this.app.store.set({ problem: "", busy: "" });
      this.#show(this.#shipped(example, this.app.config.first));
    } else
      await this.#run("Opening", async () => {
        const answer = await fetch(this.app.asset(example.predictions)).catch(() => null);
        if (!answer?.ok) throw new Refusal("The example could not be loaded. Try again.");
        return this.#shipped(example, await answer.json());
      });
    if (this.state.runtime !== "device") return;
    // A link may open an example before it is known whether this device is ready.
    if (!this.state.status) await this.refreshStatus();
    await this.catchUp();
  }

  /**
   * @param {import("./types.js").Example} example
   * @param {Predictions & {colors: Record<string, [string, string]>}} content
   * @returns {Result}
   */
  #shipped(example, { colors, ...predictions }) {
    return {
      predictions,
      source: { example: example.name },
      title: example.title,
      picture: this.app.asset(example.picture),
      colors,
      settings: { checkpoint: example.checkpoint, queries: null, size: null, runtime: "PyTorch" },
      depth: predictions.layers.length,
      id: null,
    };
  }

  /**
   * @param {string} busy
   * @param {(onQueuePosition: import("./detector.js").OnQueuePosition) => Promise<Result>} work
   */
  #run(busy, work) {
    this.underWay = this.#detect(busy, work);
    return this.underWay;
  }

  /**
   * @param {string} busy
   * @param {(onQueuePosition: import("./detector.js").OnQueuePosition) => Promise<Result>} work
   */
  async #detect(busy, work) {
    const turn = ++this.turn;
    this.stopPlaying();
    this.app.store.set({ busy, problem: "" });
    try {
      const result = await work((ahead) => {
        if (turn === this.turn && this.state.busy)
          this.app.store.set({
            busy: ahead ? `${busy}, ${ahead} ahead of you in the queue` : busy,
          });
      });
      if (turn !== this.turn) return;
      this.app.store.set({ busy: "", problem: result.note ?? "" });
      this.#show(result);
      // The device times itself on what it was just given.
      const { status, runtime } = this.state;
      if (status?.checkpoint !== result.settings.checkpoint || runtime === "device")
        this.refreshStatus();
    } catch (error) {
      if (turn === this.turn) this.app.store.set({ busy: "", problem: sentence(error) });
    }
  }

  /** @param {() => Promise<void>} work */
  async #guarded(work) {
    try {
      await work();
    } catch (error) {
      this.app.store.set({ problem: sentence(error) });
    }
  }
}

/**
 * What went wrong, for people.
 *
 * @param {unknown} error
 */
export function sentence(error) {
  if (error instanceof Refusal) return error.message;
  console.error(error);
  return OUR_FAULT;
}
