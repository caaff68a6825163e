import { AppElement, define } from "../lib/element.js";
import { quantile } from "../lib/live.js";

/**
 * What the camera's frames take: three figures, the latency of the last half minute, and the median
 * of each depth that was visited.
 *
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/live.js").Figures} Figures
 */

const [WIDTH, HEIGHT] = [300, 84];
const SECONDS = 30;
const LEAST_TOP = 20;

class RtLiveFigures extends AppElement {
  render() {
    this.innerHTML = `
      <section class="card" aria-label="Live figures">
        <dl class="facts">
          <div><dt>detection rate</dt><dd class="fps"></dd></div>
          <div><dt>median latency</dt><dd class="median"></dd></div>
          <div><dt class="of-camera"></dt><dd class="camera"></dd></div>
        </dl>
        <div class="band-of">
          <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"></svg>
          <div class="row scale"><span>${SECONDS} s ago</span><span class="top"></span><span>now</span></div>
        </div>
        <p class="parts"></p>
        <table><caption>Median latency by number of layers</caption><tbody><tr class="depths"></tr><tr class="times"></tr></tbody></table>
      </section>`;
    this.follow(["live", "depth"], (state) => this.#show(state));
  }

  /** @param {State} state */
  #show({ live, depth }) {
    this.hidden = !live;
    if (!live) return;
    const { fps, median, p95, camera, dropped, parts } = live;
    this.$(".fps").textContent = fps === null ? "starting" : `${fps.toFixed(1)} FPS`;
    this.$(".median").textContent = median === null ? "starting" : ms(median);
    this.$(".camera").textContent = camera === null ? "starting" : `${camera.toFixed(0)} FPS`;
    this.$(".of-camera").textContent = `camera, ${dropped.toFixed(0)} dropped/s`;
    this.$(".parts").textContent =
      p95 === null
        ? ""
        : `95th percentile: ${ms(p95)}.` +
          (parts
            ? ` Network ${ms(parts.network)}, queue ${ms(parts.wait)}, model ${ms(parts.model)}.`
            : "");
    this.#band(live);
    const cell = (/** @type {string} */ tag, /** @type {number} */ i, /** @type {string} */ text) =>
      `<${tag} class="${i + 1 === depth ? "now" : ""}">${text}</${tag}>`;
    this.$(".depths").innerHTML =
      '<th scope="row">layers</th>' +
      live.byDepth.map((_, i) => cell("th", i, String(i + 1))).join("");
    this.$(".times").innerHTML =
      '<th scope="row">ms</th>' +
      live.byDepth
        .map((value, i) => cell("td", i, value === null ? "·" : value.toFixed(0)))
        .join("");
  }

  /** @param {Figures} live */
  #band({ band }) {
    // One slow answer, such as the first after a model loads, must not flatten all the rest.
    const highs = band.flatMap(({ high }) => (high === null ? [] : [high]));
    const top = Math.max(LEAST_TOP, 1.3 * (quantile(highs, 0.9) ?? 0));
    const x = (/** @type {number} */ ago) => WIDTH * (1 - ago / SECONDS);
    const y = (/** @type {number | null} */ value) =>
      HEIGHT * (1 - Math.min((value ?? 0) / top, 1));
    const runs = runsOf(band);
    const area = runs
      .map(
        (run) =>
          run.map(({ ago, high }, i) => `${i ? "L" : "M"}${at(x(ago), y(high))}`).join("") +
          run
            .toReversed()
            .map(({ ago, low }) => `L${at(x(ago), y(low))}`)
            .join("") +
          "Z",
      )
      .join("");
    const line = runs
      .map((run) =>
        run.map(({ ago, median }, i) => `${i ? "L" : "M"}${at(x(ago), y(median))}`).join(""),
      )
      .join("");
    const svg = this.$("svg", SVGElement);
    svg.innerHTML = `<path class="band" d="${area}"/><path class="line" d="${line}"/>`;
    svg.setAttribute("aria-label", `Latency over the last ${SECONDS} seconds, up to ${ms(top)}`);
    this.$(".top").textContent = `max ${ms(top)}`;
  }
}

/**
 * The stretches without a gap.
 *
 * @param {import("../lib/live.js").Bin[]} band
 */
function runsOf(band) {
  /** @type {import("../lib/live.js").Bin[][]} */
  const runs = [[]];
  for (const bin of band)
    if (bin.median === null) runs.push([]);
    else runs[runs.length - 1].push(bin);
  return runs.filter((run) => run.length);
}

const at = (/** @type {number} */ x, /** @type {number} */ y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
const ms = (/** @type {number} */ value) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;

define("rt-live-figures", RtLiveFigures);
