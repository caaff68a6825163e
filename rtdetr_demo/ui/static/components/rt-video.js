import { sentence } from "../lib/actions.js";
import { fetchSample, momentAt, predictionsOf } from "../lib/clip.js";
import { AppElement, define } from "../lib/element.js";
import { videoJob } from "../lib/video_job.js";

/**
 * A clip on the stage. Once it has been run, the boxes of the moment that the player shows become the
 * page's result, so that threshold and classes work on them.
 *
 * @typedef {import("../lib/types.js").State} State
 */

class RtVideo extends AppElement {
  /** @type {import("../lib/clip.js").Clip | null} */
  clip = null;
  /** @type {string[]} */
  addresses = [];
  /** Whether the player shows the annotated clip, as the browser cannot play the original. */
  drawnIn = false;

  get player() {
    return this.$("video", HTMLVideoElement);
  }

  render() {
    const { store, config } = this.app;
    const job = videoJob(this.app);
    const { videoMinutes = 0, videoBytes = 0 } = config.limits ?? {};
    this.innerHTML = `
      <video playsinline muted loop controls hidden></video>
      <div class="idle">
        <p class="title">Drop a video here</p>
        <p class="where">MP4, MOV, WebM, AVI or MKV, up to ${videoMinutes} minutes and ${videoBytes / 2 ** 20} MB</p>
        <div class="ways">
          <button type="button" class="primary choose">Choose a video</button>
          <button type="button" class="sample">Try the sample clip</button>
        </div>
        <input type="file" accept="video/*,.mkv,.avi" tabindex="-1" hidden aria-label="Video to upload" />
      </div>`;
    const input = this.$("input", HTMLInputElement);
    this.on(this.$(".choose"), "click", () => input.click());
    this.on(this.$(".sample"), "click", () => job.open(null));
    this.on(input, "change", () => {
      if (input.files?.[0]) job.open(input.files[0]);
      input.value = "";
    });
    this.on(this.player, "error", () => this.#unplayable());
    this.on(this.player, "loadedmetadata", () => this.#draw());
    this.on(this.player, "seeked", () => this.#draw());
    job.seek = (seconds) => {
      this.player.currentTime = seconds;
    };
    const each = () => {
      if (!this.isConnected) return;
      this.#draw();
      this.player.requestVideoFrameCallback(each);
    };
    this.player.requestVideoFrameCallback(each);
    this.follow(["pendingVideo"], ({ pendingVideo }) => {
      if (!pendingVideo) return;
      job.open(pendingVideo);
      store.set({ pendingVideo: null });
    });
    this.follow(["video"], (state) => this.#show(state));
    this.atEnd(() => {
      job.cancel();
      for (const address of this.addresses) URL.revokeObjectURL(address);
      this.app.actions.restorePhoto();
    });
  }

  /** @param {State} state */
  async #show({ video }) {
    const before = this.clip;
    this.clip = video;
    this.$(".idle").hidden = Boolean(video);
    this.player.hidden = !video;
    if (!video) return;
    const isCurrent = () => this.isConnected && this.clip?.file === video.file;
    if (before?.file !== video.file || !before) {
      this.classList.remove("shown");
      this.drawnIn = false;
      try {
        const address = await this.#address(video.file);
        if (!isCurrent()) return;
        this.player.src = address;
      } catch (error) {
        if (!isCurrent()) return;
        videoJob(this.app).close();
        return this.app.actions.problem(sentence(error));
      }
    } else if (video.outcome && video.outcome !== before.outcome) {
      if (this.drawnIn) this.#unplayable();
      this.player.currentTime = 0;
      this.player.play().catch(() => undefined);
    }
    this.#draw();
  }

  /** @param {File | null} file */
  async #address(file) {
    const content = file ?? (await fetchSample(this.app.asset));
    const address = URL.createObjectURL(content);
    this.addresses.push(address);
    return address;
  }

  /** The server reads more kinds of clips than browsers play: its own is shown instead. */
  #unplayable() {
    this.drawnIn = true;
    const made = this.clip?.outcome?.files["annotated.mp4"];
    if (made) this.player.src = new URL(made, document.baseURI).href;
  }

  #draw() {
    const outcome = this.clip?.outcome;
    const { videoWidth, videoHeight, currentTime } = this.player;
    const shows = Boolean(outcome && !this.drawnIn && videoWidth);
    this.classList.toggle("shown", shows);
    if (!outcome || !shows) return;
    const { ran, labels, colors } = outcome;
    const scale = Math.min(1, (ran.longest ?? Infinity) / Math.max(videoWidth, videoHeight));
    const moment = momentAt(outcome.moments, currentTime);
    const { store, config } = this.app;
    const checkpoint = ran.checkpoint || (store.get().status?.serving ?? config.serving);
    const predictions = predictionsOf(outcome, moment?.detections ?? [], {
      width: Math.round(videoWidth * scale),
      height: Math.round(videoHeight * scale),
    });
    store.set({
      result: {
        predictions: { ...predictions, checkpoint },
        source: null,
        title: this.clip?.title ?? "clip",
        picture: null,
        colors: Object.fromEntries(labels.map((label, i) => [label, colors[i]])),
        settings: { checkpoint, queries: ran.queries, size: ran.size, runtime: "server" },
        depth: config.checkpoints.find(({ id }) => id === checkpoint)?.decoder_layers ?? ran.depth,
        id: null,
      },
    });
  }
}

define("rt-video", RtVideo);
