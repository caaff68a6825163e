/**
 * The arithmetic of the decoder ladder: a pass on a time axis from 0 to 1. No DOM in here.
 *
 * @typedef {import("./types.js").Latency} Latency
 *
 * @typedef {Object} Ladder
 * @property {number[]} ends  where each layer ends on the axis, by depth
 * @property {number[]} middles
 * @property {(at: number) => number} depthAt  the depth whose end lies nearest, from a place 0 to 1
 * @property {(depth: number) => {ms: number, times: number} | null} savedAt
 *   what cutting there saves of a full pass; null: nothing that stands out from the noise
 */

const BEFORE_UNKNOWN = 0.4;

/**
 * @param {Latency | null} latency  null: unknown yet; layers then stand evenly
 * @param {number} full  how many layers there are
 * @returns {Ladder}
 */
export function ladderOf(latency, full) {
  const total = latency?.total_ms ?? [];
  const all = total[full - 1];
  const ends = Array.from({ length: full }, (_, i) =>
    latency ? total[i] / all : BEFORE_UNKNOWN + ((1 - BEFORE_UNKNOWN) * (i + 1)) / full,
  );
  const start = latency ? firstLayerStart(latency) / all : BEFORE_UNKNOWN;
  const middles = ends.map((end, i) => (end + (i ? ends[i - 1] : start)) / 2);
  return {
    ends,
    middles,
    depthAt: (at) => {
      const distances = ends.map((end) => Math.abs(end - at));
      return distances.indexOf(Math.min(...distances)) + 1;
    },
    savedAt: (depth) => {
      if (!latency || depth >= full) return null;
      const ms = all - total[depth - 1];
      const stands = ms > 0 && !latency.within_noise?.[depth - 1];
      return stands ? { ms, times: all / total[depth - 1] } : null;
    },
  };
}

/**
 * The stages as parts of a full pass, in order; shares add up to 1.
 *
 * @param {Latency | null} latency
 * @param {number} full
 * @returns {{name: string, kind: "pre" | "backbone" | "encoder" | "layer", share: number, layer?: number}[]}
 */
export function segmentsOf(latency, full) {
  const { ends } = ladderOf(latency, full);
  const all = latency?.total_ms[full - 1] ?? 1;
  const start = latency ? firstLayerStart(latency) / all : BEFORE_UNKNOWN;
  const stages = latency?.stages_ms;
  /** @type {ReturnType<typeof segmentsOf>} */
  const before = [];
  if (stages?.backbone) {
    // The stages' own times give the proportions; together they fill what lies before layer 1.
    const named = /** @type {const} */ ([
      ["pre", "pre", (stages.preprocess ?? 0) + (stages.postprocess ?? 0)],
      ["backbone", "backbone", stages.backbone],
      ["encoder", "encoder", stages.encoder ?? 0],
    ]);
    const sum = named.reduce((total, [, , ms]) => total + ms, 0);
    for (const [name, kind, ms] of named)
      if (ms) before.push({ name, kind, share: (start * ms) / sum });
  } else before.push({ name: "before the decoder", kind: "backbone", share: start });
  const layers = ends.map((end, i) => ({
    name: String(i + 1),
    kind: /** @type {const} */ ("layer"),
    share: Math.max(end - (i ? ends[i - 1] : start), 0),
    layer: i + 1,
  }));
  return [...before, ...layers];
}

/**
 * Where an axis of shares begins that ends at 1: a round share, a little under the least of them.
 *
 * @param {number[]} shares
 */
export function axisStart(shares) {
  const least = Math.min(1, ...shares);
  return Math.min(Math.max(Math.floor(10 * least - 0.5) / 10, 0), 0.9);
}

/**
 * Milliseconds until layer 1 begins: measured by stages, or what the other layers suggest.
 *
 * @param {Latency} latency
 */
function firstLayerStart({ total_ms, stages_ms }) {
  const layer = stages_ms?.["decoder layer 1"];
  const usual =
    total_ms.length > 1
      ? (total_ms[total_ms.length - 1] - total_ms[0]) / (total_ms.length - 1)
      : total_ms[0] * 0.1;
  return Math.max(total_ms[0] - Math.max(layer ?? usual, 0), 0);
}
