import { AppElement, define, escapeText } from "../lib/element.js";
import { videoJob } from "../lib/video_job.js";

/**
 * How a clip is worked on, how far that is, and what came of it: downloads and a timeline of classes.
 *
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/clip.js").Outcome} Outcome
 */

/** @type {Record<string, string>} */
const FILES = {
  "annotated.mp4": "Video",
  "detections.jsonl": "JSON Lines",
  "detections.csv": "CSV",
};

class RtVideoPanel extends AppElement {
  render() {
    this.innerHTML = `
      <section class="card" aria-label="Video">
        <div class="knobs">
          <label>Detect in <select class="stride">
            <option value="1">every frame</option>
            ${[2, 3, 5, 10].map((n) => `<option value="${n}">every ${n}${n === 2 ? "nd" : n === 3 ? "rd" : "th"} frame</option>`).join("")}
          </select></label>
          <label>Output size <select class="longest">
            <option value="">original size</option>
            <option value="1280">up to 1280 px</option>
            <option value="640">up to 640 px</option>
          </select></label>
          <label>Count crossings <select class="line">
            <option value="">off</option>
            <option value="0.25">at 1/4 of the height</option>
            <option value="0.5">at 1/2 of the height</option>
            <option value="0.75">at 3/4 of the height</option>
          </select></label>
        </div>
        <div class="row">
          <button type="button" class="primary run">Detect and track</button>
          <button type="button" class="other">Choose another video</button>
        </div>
        <p class="hint note"></p>
        <div class="way" hidden>
          <img alt="Current frame with its detections" />
          <progress max="1" aria-label="Progress"></progress>
          <div class="row"><span class="told" role="status"></span><button type="button" class="cancel">Cancel</button></div>
        </div>
        <div class="outcome" hidden>
          <p class="done" role="status"></p>
          <div class="downloads" role="group" aria-label="Downloads"></div>
          <p class="hint">Detections per second of video. Click to jump there.</p>
          <div class="timeline"></div>
        </div>
      </section>`;
    const job = videoJob(this.app);
    this.on(this.$(".run"), "click", () => {
      const value = (/** @type {string} */ name) => {
        const text = this.$(name, HTMLSelectElement).value;
        return text === "" ? null : Number(text);
      };
      job.run({
        stride: value(".stride") ?? 1,
        longest: value(".longest"),
        line: value(".line"),
      });
    });
    this.on(this.$(".other"), "click", () => job.close());
    this.on(this.$(".cancel"), "click", () => job.cancel());
    this.on(this.$(".timeline"), "click", (event) => {
      const second = event.target.closest("[data-second]")?.dataset.second;
      if (second) job.seek(Number(second));
    });
    this.follow(["video", "depth", "threshold"], (state) => this.#show(state));
  }

  /** @param {State} state */
  #show({ video, depth, threshold }) {
    this.hidden = !video;
    if (!video) return;
    const { progress, outcome } = video;
    this.$(".run", HTMLButtonElement).disabled = Boolean(progress);
    this.$(".run").textContent = outcome
      ? `Run again with ${depth} layer${depth === 1 ? "" : "s"}`
      : "Detect and track";
    this.$(".note").textContent = !outcome
      ? `Uses ${depth} decoder layer${depth === 1 ? "" : "s"} and a threshold of ${threshold.toFixed(2)}.`
      : depth !== outcome.ran.depth
        ? `These boxes are from ${outcome.ran.depth} layer${outcome.ran.depth === 1 ? "" : "s"}. Run again to use ${depth}.`
        : threshold < outcome.ran.threshold
          ? `This run used a threshold of ${outcome.ran.threshold.toFixed(2)}. Run again to see weaker detections.`
          : "";
    this.$(".way").hidden = !progress;
    if (progress) {
      const bar = this.$("progress", HTMLProgressElement);
      if (progress.share === null) bar.removeAttribute("value");
      else bar.value = progress.share;
      this.$(".told").textContent = progress.told;
      const image = this.$(".way img", HTMLImageElement);
      image.hidden = !progress.preview;
      if (progress.preview) image.src = progress.preview;
    }
    this.$(".outcome").hidden = !outcome;
    if (outcome && outcome !== this.shownOutcome) this.#outcome(outcome);
    this.shownOutcome = outcome;
  }

  /** @type {Outcome | null} */
  shownOutcome = null;

  /** @param {Outcome} outcome */
  #outcome({ frames, cancelled, crossed, notes, files, labels, colors, seen, ran }) {
    this.$(".done").textContent =
      (cancelled ? "Cancelled: " : "Done: ") +
      `${frames} frames.` +
      (ran.line === null ? "" : ` Line crossings: ${crossed[0]} down, ${crossed[1]} up.`) +
      (notes ?? []).map((note) => ` ${note}`).join("");
    this.$(".downloads").innerHTML = Object.entries(files)
      .map(
        ([name, path]) =>
          `<a href="${escapeText(new URL(path, document.baseURI).href)}" download="${name}">${FILES[name] ?? name}</a>`,
      )
      .join("");
    const most = Math.max(1, ...seen.flat());
    this.$(".timeline").innerHTML = labels
      .map((label, k) => {
        const cells = seen.map((counts, second) => {
          const share = counts[k] ? 0.25 + (0.75 * counts[k]) / most : 0;
          return `<button type="button" tabindex="-1" data-second="${second}" title="${second} s: ${counts[k]}" style="opacity:${share.toFixed(2)};background:${colors[k][0]}"></button>`;
        });
        const top = Math.max(...seen.map((counts) => counts[k]));
        return `<div class="lane"><span><i style="background:${colors[k][0]}"></i>${escapeText(label)}, max ${top}</span><div class="cells">${cells.join("")}</div></div>`;
      })
      .join("");
  }
}

define("rt-video-panel", RtVideoPanel);
