import { sentence } from "./actions.js";
import { momentsOf, progressOf } from "./clip.js";
import { Refusal } from "./detector.js";

/**
 * A clip's way through the server: upload, work, what came of it.
 *
 * @typedef {import("./types.js").App} App
 *
 * @typedef {import("./clip.js").Clip} Clip
 * @typedef {import("./clip.js").Ran} Ran
 */

const WATCH_MS = 700;

export class VideoJob {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {string | null} */
    this.id = null;
    /** @type {{file: File, path: string} | null} */
    this.uploaded = null;
    /** Go to a moment, in seconds: the player sets it. */
    this.seek = (/** @type {number} */ _seconds) => {};
  }

  /** Counts runs that were given up: what one of those still brings concerns nobody. */
  #turn = 0;

  /**
   * @param {number} turn  that the changes come from
   * @param {Partial<Clip>} changes
   */
  #set(turn, changes) {
    const { video } = this.app.store.get();
    if (video && turn === this.#turn) this.app.store.set({ video: { ...video, ...changes } });
  }

  /**
   * Take a clip in; `run` works on it.
   *
   * @param {File | null} file
   */
  open(file) {
    const most = this.app.config.limits?.videoBytes ?? Infinity;
    if (file && file.size > most)
      return this.app.actions.problem(
        `This video is over ${most / 2 ** 20} MB. Send a smaller one.`,
      );
    this.close();
    this.app.actions.problem("");
    const title = file?.name ?? "sample clip";
    this.app.store.set({ video: { file, title, progress: null, outcome: null } });
  }

  /**
   * Detect and track in the clip with the settings of now.
   *
   * @param {{stride: number, longest: number | null, line: number | null}} options
   */
  async run({ stride, longest, line }) {
    const { rpc, store, actions } = this.app;
    const { video, checkpoint, queries, size, depth, threshold } = store.get();
    if (!video || !rpc || video.progress) return;
    actions.problem("");
    const ran = { checkpoint, depth, threshold, queries, size, stride, longest, line };
    const turn = this.#turn;
    try {
      this.#set(turn, { progress: { told: "Uploading", share: null }, outcome: null });
      const path = video.file && (await this.#upload(video.file));
      if (turn !== this.#turn) return;
      this.#set(turn, { progress: { told: "Preparing", share: null } });
      const { id } = await rpc.call("video", {
        path,
        checkpoint,
        queries,
        size,
        decoder_layers: depth,
        threshold,
        stride,
        longest,
        line,
      });
      if (turn !== this.#turn) return this.#cancelOnServer(id);
      this.id = id;
      await this.#watch(turn, id, ran);
    } catch (error) {
      if (turn === this.#turn) actions.problem(sentence(error));
    } finally {
      if (turn === this.#turn) this.id = null;
      this.#set(turn, { progress: null });
    }
  }

  /** Stop; what is done by then is kept. */
  cancel() {
    if (this.id) this.#cancelOnServer(this.id);
    else if (this.app.store.get().video?.progress) {
      this.#set(this.#turn, { progress: null });
      this.#turn++; // a job that is being asked for is cancelled as soon as it has a name
    }
  }

  /** Put the clip away: stop, and keep nothing. */
  close() {
    this.cancel();
    this.#turn++;
    this.id = null;
    this.app.store.set({ video: null });
  }

  /** @param {string} id */
  #cancelOnServer(id) {
    this.app.rpc?.call("cancel_video", { id }).catch(() => undefined);
  }

  /** @param {File} file */
  async #upload(file) {
    if (this.uploaded?.file !== file) {
      const path = await /** @type {import("./rpc.js").Rpc} */ (this.app.rpc).upload(file);
      this.uploaded = { file, path };
    }
    return this.uploaded.path;
  }

  /**
   * @param {number} turn
   * @param {string} id
   * @param {Ran} ran
   */
  async #watch(turn, id, ran) {
    while (turn === this.#turn) {
      const answer = await this.app.rpc?.call("video_state", { id });
      if (!answer.running) return this.#finish(turn, answer, ran);
      this.#set(turn, { progress: progressOf(answer) });
      await new Promise((done) => setTimeout(done, WATCH_MS));
    }
  }

  /**
   * @param {number} turn
   * @param {any} answer
   * @param {Ran} ran
   */
  async #finish(turn, answer, ran) {
    if (turn !== this.#turn) return;
    const { frames, cancelled, crossed, notes, labels, colors, seen, files } = answer;
    const reply = await fetch(new URL(files["detections.jsonl"], document.baseURI)).catch(
      () => null,
    );
    if (!reply?.ok) throw new Refusal("The detections could not be loaded. Run the video again.");
    const moments = momentsOf(await reply.text());
    this.#set(turn, {
      outcome: { frames, cancelled, crossed, notes, labels, colors, seen, files, moments, ran },
    });
  }
}

/** @type {WeakMap<App, VideoJob>} */
const jobs = new WeakMap();

/**
 * The page's one video job: player and panel share it.
 *
 * @param {App} app
 */
export function videoJob(app) {
  const known = jobs.get(app) ?? new VideoJob(app);
  jobs.set(app, known);
  return known;
}
