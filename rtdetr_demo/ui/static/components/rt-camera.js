import { sentence } from "../lib/actions.js";
import { closeCamera, openCamera, takePicture } from "../lib/camera.js";
import { fetchSample } from "../lib/clip.js";
import { AppElement, define } from "../lib/element.js";
import { LiveLog, mirrored } from "../lib/live.js";

/**
 * The camera on the stage: its frames go to the detector one at a time, the newest wins, and their
 * boxes become the page's result.
 *
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/types.js").Result} Result
 */

const LONGEST_SIDE = 640; // of the frames that are sent, in pixels
const FIGURES_MS = 500;
const MOST_WAIT_MS = 4000;

class RtCamera extends AppElement {
  log = new LiveLog();
  /** Counts starts and stops: a loop whose turn is over ends. */
  turn = 0;
  /** Settles with the latest frame's answer, of any camera: a detector takes one at a time. */
  static underWay = Promise.resolve();
  paused = false;
  mirror = true;
  unseen = false;
  /** @type {string} */
  sample = "";

  get video() {
    return this.$("video", HTMLVideoElement);
  }

  get bitmapSize() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    return {
      resizeWidth: Math.max(1, Math.round(videoWidth * scale)),
      resizeHeight: Math.max(1, Math.round(videoHeight * scale)),
    };
  }

  render() {
    this.innerHTML = `
      <video autoplay playsinline muted></video>
      <div class="idle">
        <p class="title">Live detection with your camera</p>
        <p class="where"></p>
        <div class="ways">
          <button type="button" class="primary start">Start camera</button>
          <button type="button" class="clip">Use a sample clip</button>
        </div>
      </div>
      <div class="bar" role="group" aria-label="Camera" hidden>
        <button type="button" class="pause">Pause</button>
        <button type="button" class="snapshot">Snapshot</button>
        <button type="button" class="mirror" aria-pressed="true">Mirror</button>
        <select class="cameras" aria-label="Camera">
          <option value="user">Front camera</option>
          <option value="environment">Back camera</option>
        </select>
        <button type="button" class="stop">Stop</button>
      </div>`;
    this.follow(["runtime"], ({ runtime }) => {
      this.$(".where").textContent =
        runtime === "device"
          ? "Frames never leave this device."
          : "Frames are sent to this server for detection and are not stored.";
    });
    this.on(this.$(".start"), "click", () => this.#start());
    this.on(this.$(".clip"), "click", () => this.#startSample());
    this.on(this.$(".stop"), "click", () => this.#stop());
    this.on(this.$(".cameras"), "change", () => this.#start());
    this.on(this.$(".pause"), "click", () => this.#pause());
    this.on(this.$(".mirror"), "click", () => this.#setMirror(!this.mirror));
    this.on(this.$(".snapshot"), "click", async () => {
      try {
        await this.app.actions.openPhoto({ file: await takePicture(this.video) });
      } catch (error) {
        this.app.actions.problem(sentence(error));
      }
    });
    const timer = setInterval(() => this.#tell(), FIGURES_MS);
    this.atEnd(() => {
      clearInterval(timer);
      this.#stop();
      URL.revokeObjectURL(this.sample);
      this.app.store.set({ live: null });
      this.app.actions.restorePhoto();
    });
  }

  async #start() {
    const chosen = this.$(".cameras", HTMLSelectElement).value;
    const which = ["user", "environment"].includes(chosen)
      ? { facingMode: chosen }
      : { deviceId: { exact: chosen } };
    const trouble = await openCamera(this.video, {
      ...which,
      width: { ideal: 640 },
      height: { ideal: 480 },
    });
    if (!this.isConnected) return closeCamera(this.video);
    this.app.actions.problem(trouble);
    if (trouble) return this.#stop();
    const stream = /** @type {MediaStream} */ (this.video.srcObject);
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      this.#stop();
      this.app.actions.problem("The camera was disconnected. Reconnect it, then start it again.");
    });
    this.#setMirror(chosen !== "environment");
    this.#listCameras();
    this.#run();
  }

  /** Where there is no camera: a clip stands in for it. */
  async #startSample() {
    this.app.actions.problem("");
    try {
      this.sample ||= URL.createObjectURL(await fetchSample(this.app.asset));
    } catch (error) {
      return this.app.actions.problem(sentence(error));
    }
    if (!this.isConnected) return;
    closeCamera(this.video);
    this.video.src = this.sample;
    this.video.loop = true;
    await this.video.play();
    this.#setMirror(false);
    this.#run();
  }

  #run() {
    const turn = ++this.turn;
    this.paused = false;
    this.unseen = false;
    this.$(".pause").textContent = "Pause";
    this.#setRunning(true);
    const count = (/** @type {number} */ now) => {
      if (turn !== this.turn) return;
      this.log.shown(now, this.unseen);
      this.unseen = true;
      this.video.requestVideoFrameCallback(count);
    };
    this.video.requestVideoFrameCallback(count);
    this.#loop(turn);
  }

  #stop() {
    this.turn++;
    closeCamera(this.video);
    this.video.removeAttribute("src");
    this.#setRunning(false);
  }

  /** @param {boolean} running */
  #setRunning(running) {
    this.classList.toggle("running", running);
    this.classList.remove("shown");
    this.$(".idle").hidden = running;
    this.$(".bar").hidden = !running;
    this.$(".cameras").hidden = this.video.srcObject === null;
  }

  #pause() {
    this.paused = !this.paused;
    this.$(".pause").textContent = this.paused ? "Resume" : "Pause";
    if (this.paused) this.video.pause();
    else this.video.play();
  }

  /** @param {boolean} mirror */
  #setMirror(mirror) {
    this.mirror = mirror;
    this.$(".mirror").setAttribute("aria-pressed", String(mirror));
    this.video.classList.toggle("mirrored", mirror);
  }

  async #listCameras() {
    const select = this.$(".cameras", HTMLSelectElement);
    const known = new Set([...select.options].map((option) => option.value));
    for (const { kind, deviceId, label } of await navigator.mediaDevices.enumerateDevices())
      if (kind === "videoinput" && deviceId && !known.has(deviceId))
        select.add(new Option(label || "Camera", deviceId));
  }

  /**
   * One frame under way; the next one goes before the answer is drawn, so that neither waits.
   *
   * @param {number} turn
   */
  async #loop(turn) {
    let failures = 0;
    let sent = this.#send(turn);
    while (turn === this.turn) {
      try {
        const answer = await sent;
        sent = this.#send(turn);
        sent.catch(() => undefined);
        if (answer && turn === this.turn) this.#show(answer);
        if (answer && failures) this.app.actions.problem("");
        if (answer) failures = 0;
      } catch (error) {
        if (turn !== this.turn) return;
        this.app.actions.problem(sentence(error));
        await sleep(Math.min(1000 * 2 ** failures++, MOST_WAIT_MS));
        sent = this.#send(turn);
      }
    }
  }

  /**
   * Send the camera's newest frame; null while there is none to send.
   *
   * @param {number} turn
   * @returns {Promise<Result | null>}
   */
  async #send(turn) {
    if (this.paused || document.hidden) await sleep(100);
    else if (!this.unseen) await Promise.race([this.#nextFrame(), sleep(500)]);
    await RtCamera.underWay;
    if (turn !== this.turn || this.paused || document.hidden) return null;
    if (!this.unseen || !this.video.videoWidth) return null;
    this.unseen = false;
    const began = performance.now();
    const { checkpoint, queries, size, depth } = this.app.store.get();
    const frame = await createImageBitmap(this.video, this.bitmapSize);
    if (turn !== this.turn) {
      frame.close();
      return null;
    }
    const asked = this.app.detector().detectFrame(frame, { checkpoint, queries, size, depth });
    RtCamera.underWay = asked.then(
      () => undefined,
      () => undefined,
    );
    const result = await asked;
    const at = performance.now();
    const { wait, server, total } = result.predictions.timing_ms ?? {};
    const used = result.predictions.first ?? depth;
    this.log.answered({ at, depth: used, latency: at - began, wait, server, model: total });
    return result;
  }

  #nextFrame() {
    return new Promise((done) => this.video.requestVideoFrameCallback(done));
  }

  /** @param {Result} result */
  #show(result) {
    const { depth } = this.app.store.get();
    const title = this.video.srcObject ? "camera" : "sample clip";
    this.app.store.set({
      result: {
        ...result,
        title,
        predictions: this.mirror ? mirrored(result.predictions) : result.predictions,
      },
      depth: Math.min(depth, result.depth),
    });
    this.classList.add("shown");
  }

  #tell() {
    if (!this.classList.contains("running") || document.hidden) return;
    const full = this.app.store.get().result?.depth ?? 6;
    this.app.store.set({ live: this.log.figures(performance.now(), full) });
  }
}

const sleep = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

define("rt-camera", RtCamera);
