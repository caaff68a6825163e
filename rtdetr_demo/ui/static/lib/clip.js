import { Refusal } from "./detector.js";

/**
 * What is known of a clip, and the cheap questions about it. No DOM in here.
 *
 * @typedef {Object} Progress
 * @property {string} told  what is being done, for people
 * @property {number | null} share  0 to 1
 * @property {string} [preview]  address of the frame at hand
 *
 * @typedef {Object} Track
 * @property {number} id
 * @property {string} label
 * @property {number} score
 * @property {{xmin: number, ymin: number, xmax: number, ymax: number}} box  in pixels of the output
 *
 * @typedef {Object} Outcome
 * @property {number} frames
 * @property {boolean} cancelled
 * @property {[number, number]} crossed  down and up
 * @property {string[]} [notes]  what the annotated clip has otherwise than its source
 * @property {string[]} labels
 * @property {[string, string][]} colors  of the labels, and of text on them
 * @property {number[][]} seen  by second: how many tracks of each label
 * @property {Record<string, string>} files  name to address
 * @property {{time: number, detections: Track[]}[]} moments
 * @property {Ran} ran
 *
 * @typedef {Object} Ran
 * What the clip was run with.
 * @property {string} checkpoint
 * @property {number} depth
 * @property {number} threshold
 * @property {number | null} queries
 * @property {number | null} size
 * @property {number} stride
 * @property {number | null} longest
 * @property {number | null} line
 *
 * @typedef {Object} Clip
 * @property {File | null} file  null: the sample clip
 * @property {string} title
 * @property {Progress | null} progress  null: nothing is under way
 * @property {Outcome | null} outcome
 */

/**
 * @param {{done?: number, total?: number, fps?: number, left?: number | null, preview?: string}} answer
 * @returns {Progress}
 */
export function progressOf({ done, total, fps = 0, left, preview }) {
  if (done === undefined) return { told: "Preparing", share: null };
  const of = total ? ` of ${total}` : "";
  const rest = left === null || left === undefined ? "" : `, ${duration(left)} left`;
  return {
    told: `${done}${of} frames, ${fps.toFixed(1)} FPS${rest}`,
    share: total ? Math.min(done / total, 1) : null,
    preview,
  };
}

const SAMPLE = "examples/cows.mp4";

/**
 * The sample clip's content. Rejects with a `Refusal` where it is out of reach.
 *
 * @param {(path: string) => string} asset
 * @returns {Promise<Blob>}
 */
export async function fetchSample(asset) {
  try {
    const answer = await fetch(asset(SAMPLE));
    if (answer.ok) return await answer.blob();
  } catch {
    // Told below.
  }
  throw new Refusal("The sample clip could not be loaded. Try again.");
}

/** @param {string} lines  JSON lines */
export const momentsOf = (lines) =>
  lines
    .split("\n")
    .filter(Boolean)
    .map((line) => /** @type {Outcome["moments"][number]} */ (JSON.parse(line)));

/**
 * The last moment that is not later than `time`; between two that were looked at, the earlier holds.
 *
 * @param {Outcome["moments"]} moments  in order
 * @param {number} time  in seconds
 */
export function momentAt(moments, time) {
  let [low, high] = [0, moments.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moments[middle].time <= time + 1e-3) low = middle + 1;
    else high = middle;
  }
  return moments[low - 1] ?? null;
}

/**
 * A moment as predictions of one layer, so that threshold and classes work on it.
 *
 * @param {Outcome} outcome
 * @param {Track[]} tracks
 * @param {{width: number, height: number}} size  of the output, in pixels
 * @returns {import("./types.js").Predictions}
 */
export function predictionsOf({ labels, ran }, tracks, { width, height }) {
  const sorted = [...tracks].sort((a, b) => b.score - a.score);
  return {
    checkpoint: ran.checkpoint,
    classes: labels,
    width,
    height,
    first: ran.depth,
    layers: [
      {
        scores: sorted.map(({ score }) => score),
        labels: sorted.map(({ label }) => labels.indexOf(label)),
        queries: sorted.map(({ id }) => id),
        boxes: sorted.flatMap(({ box }) => [box.xmin, box.ymin, box.xmax, box.ymax]),
      },
    ],
  };
}

/** @param {number} seconds */
const duration = (seconds) =>
  seconds < 90 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
