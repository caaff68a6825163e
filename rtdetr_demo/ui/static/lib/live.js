/**
 * What live frames take, in figures. No DOM in here.
 *
 * @typedef {Object} Answer
 * @property {number} at  when it came, in milliseconds
 * @property {number} depth
 * @property {number} latency  from the camera's frame to its answer, in milliseconds
 * @property {number} [wait]  among other visitors
 * @property {number} [server]  all that the server took
 * @property {number} [model]
 *
 * @typedef {Object} Bin
 * @property {number} ago  seconds, of its end
 * @property {number | null} low  5th percentile of the latencies in it; null: there are none
 * @property {number | null} median
 * @property {number | null} high  95th percentile
 *
 * @typedef {Object} Figures
 * @property {number | null} fps  answers a second
 * @property {number | null} camera  frames that the camera shows, a second
 * @property {number} dropped  of those, a second, that nobody looked at
 * @property {number | null} median  latency over the last seconds
 * @property {number | null} p95
 * @property {{network: number, wait: number, model: number} | null} parts  of the median latency
 * @property {Bin[]} band  latency over the last half minute, with gaps where it paused
 * @property {(number | null)[]} byDepth  median latency of each depth visited; index 0 is one layer
 */

const WINDOW_MS = 5000;
const BAND_MS = 30_000;
const BIN_MS = 500;
const KEPT_PER_DEPTH = 200;

export class LiveLog {
  constructor() {
    /** @type {Answer[]} */
    this.answers = [];
    /** @type {number[]} */
    this.camera = [];
    /** @type {number[]} */
    this.dropped = [];
    /** @type {Map<number, number[]>} */
    this.depths = new Map();
  }

  /** @param {Answer} answer */
  answered(answer) {
    this.answers.push(answer);
    const times = this.depths.get(answer.depth) ?? [];
    times.push(answer.latency);
    if (times.length > KEPT_PER_DEPTH) times.shift();
    this.depths.set(answer.depth, times);
  }

  /**
   * The camera has shown another frame.
   *
   * @param {number} now
   * @param {boolean} missed  whether nobody looked at the one before
   */
  shown(now, missed) {
    this.camera.push(now);
    if (missed) this.dropped.push(now);
  }

  /**
   * @param {number} now
   * @param {number} full  how many layers there are
   * @returns {Figures}
   */
  figures(now, full) {
    this.answers = this.answers.filter(({ at }) => now - at < BAND_MS);
    const recent = (/** @type {number[]} */ times) => times.filter((at) => now - at < WINDOW_MS);
    this.camera = recent(this.camera);
    this.dropped = recent(this.dropped);
    const latest = this.answers.filter(({ at }) => now - at < WINDOW_MS);
    const latencies = latest.map(({ latency }) => latency);
    const span = latest.length > 1 ? latest[latest.length - 1].at - latest[0].at : 0;
    const perSecond = (/** @type {number[]} */ times) => (1000 * times.length) / WINDOW_MS;
    return {
      fps: span ? (1000 * (latest.length - 1)) / span : null,
      camera: this.camera.length ? perSecond(this.camera) : null,
      dropped: perSecond(this.dropped),
      median: quantile(latencies, 0.5),
      p95: quantile(latencies, 0.95),
      parts: partsOf(latest),
      band: this.#band(now),
      byDepth: Array.from({ length: full }, (_, i) => quantile(this.depths.get(i + 1) ?? [], 0.5)),
    };
  }

  /**
   * @param {number} now
   * @returns {Bin[]}
   */
  #band(now) {
    const bins = Array.from({ length: BAND_MS / BIN_MS }, () => /** @type {number[]} */ ([]));
    for (const { at, latency } of this.answers)
      bins[Math.min(bins.length - 1, Math.floor((now - at) / BIN_MS))].push(latency);
    return bins
      .map((times, i) => ({
        ago: (i * BIN_MS) / 1000,
        low: quantile(times, 0.05),
        median: quantile(times, 0.5),
        high: quantile(times, 0.95),
      }))
      .reverse();
  }
}

/**
 * Where the time of the latest answers went; null where nobody said.
 *
 * @param {Answer[]} answers
 */
function partsOf(answers) {
  const told = answers.filter(({ server }) => server !== undefined);
  if (!told.length) return null;
  const median = (/** @type {(one: Answer) => number} */ of) => quantile(told.map(of), 0.5) ?? 0;
  return {
    network: median(({ latency, server }) => Math.max(latency - (server ?? 0), 0)),
    wait: median(({ wait }) => wait ?? 0),
    model: median(({ model }) => model ?? 0),
  };
}

/**
 * @param {number[]} values
 * @param {number} share
 */
export function quantile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/**
 * Predictions as a mirror shows them.
 *
 * @param {import("./types.js").Predictions} predictions
 */
export function mirrored(predictions) {
  const { width } = predictions;
  return {
    ...predictions,
    layers: predictions.layers.map((layer) => ({
      ...layer,
      boxes: layer.boxes.map((value, i, all) => {
        if (i % 2) return value;
        return width - all[i % 4 === 0 ? i + 2 : i - 2];
      }),
    })),
  };
}
