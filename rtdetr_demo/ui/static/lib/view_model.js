import { agreement, select, withoutDuplicates } from "./predictions.js";

/**
 * What follows from the state: which detections are shown, at this depth and at the others.
 *
 * @typedef {import("./types.js").State} State
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").Detection} Detection
 *
 * @typedef {Object} Shown
 * @property {Detection[][]} byDepth  index 0 is one layer; a layer that was not asked for is empty
 * @property {number[]} duplicates  how many "Hide duplicates" removes, by depth
 * @property {ReturnType<typeof agreement>[]} agreements  with full depth, by depth
 */

/** @type {WeakMap<Result, {key: string, shown: Shown}>} */
const known = new WeakMap();

/**
 * @param {State} state
 * @returns {Shown | null}  null while there is no result
 */
export function shown(state) {
  const { result, threshold, hidden, hideDuplicates } = state;
  if (!result) return null;
  const key = JSON.stringify([threshold, [...hidden], hideDuplicates]);
  const before = known.get(result);
  if (before?.key === key) return before.shown;
  const { layers, first = 1 } = result.predictions;
  const all = Array.from({ length: result.depth }, (_, i) =>
    i + 1 >= first && i + 1 < first + layers.length
      ? select(result.predictions, i + 1, threshold, hidden)
      : [],
  );
  const byDepth = hideDuplicates ? all.map(withoutDuplicates) : all;
  const value = {
    byDepth,
    duplicates: all.map(
      (found, i) => found.length - (hideDuplicates ? byDepth[i] : withoutDuplicates(found)).length,
    ),
    agreements: byDepth.map((found) => agreement(found, byDepth[byDepth.length - 1])),
  };
  known.set(result, { key, shown: value });
  return value;
}

/**
 * What is shown at the chosen depth.
 *
 * @param {State} state
 * @returns {Detection[]}
 */
export const detectionsOf = (state) => shown(state)?.byDepth[state.depth - 1] ?? [];

/**
 * What each depth costs where it runs, as measured; before that, as the model card says.
 *
 * @param {State} state
 * @param {import("./types.js").PageConfig} config
 * @returns {import("./types.js").Latency | null}
 */
export function latencyOf({ result, status }, config) {
  if (!result) return null;
  const { checkpoint } = result.settings;
  if (status?.checkpoint === checkpoint && status.latency?.total_ms.length === result.depth)
    return status.latency;
  const card = config.checkpoints.find((one) => one.id === checkpoint)?.measured;
  if (card?.ms.length !== result.depth) return null;
  return {
    device: "cpu",
    runtime: "PyTorch",
    precision: "float32",
    size: [0, 0],
    total_ms: card.ms,
    from: "the model card (2 CPU cores)",
  };
}
