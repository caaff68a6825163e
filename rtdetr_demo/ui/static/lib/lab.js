import { csvOf } from "./csv.js";

/**
 * The speed lab's arithmetic. No DOM in here.
 *
 * @typedef {import("./types.js").Detection} Detection
 *
 * @typedef {Object} Point
 * One configuration: what it costs, and how far its detections are those of full depth.
 * @property {string} name  for people
 * @property {"layers" | "queries" | "size"} kind  the knob that differs from the checkpoint's own
 * @property {number} value
 * @property {number} ms
 * @property {number} spread
 * @property {number} agreement  F1 with full depth, 0 to 1
 * @property {string} runtime
 * @property {Detection[]} detections
 *
 * @typedef {Object} Line
 * As `evaluation/benchmark.py` reports it.
 * @property {string} contender
 * @property {number} ms
 * @property {number} spread
 * @property {number} median
 * @property {number} p5
 * @property {number} p95
 * @property {Point["kind"] | ""} kind
 * @property {number | null} value
 * @property {string} runtime
 * @property {number | null} agreement
 * @property {{label: string, score: number, box: {xmin: number, ymin: number, xmax: number, ymax: number}}[]} detections
 *
 * @typedef {Object} Report
 * @property {Record<string, any>} conditions
 * @property {Line[]} lines
 * @property {Record<string, number>} stages
 * @property {import("./types.js").Latency | null} latency
 */

/**
 * The points that no other beats in both: fastest first.
 *
 * @param {Point[]} points
 */
export function frontier(points) {
  /** @type {Point[]} */
  const best = [];
  for (const one of [...points].sort((a, b) => a.ms - b.ms || b.agreement - a.agreement))
    if (one.agreement > (best.at(-1)?.agreement ?? -1)) best.push(one);
  return best;
}

/**
 * What is measured without being asked: the depths, on the picture that the stage shows.
 *
 * @param {import("./types.js").Latency | null} latency
 * @param {import("./view_model.js").Shown | null} shown
 * @returns {Point[]}
 */
export function knownPoints(latency, shown) {
  if (!latency || !shown || latency.total_ms.length !== shown.byDepth.length) return [];
  return latency.total_ms.map((ms, i) => ({
    name: `${i + 1} of ${latency.total_ms.length} layers`,
    kind: /** @type {const} */ ("layers"),
    value: i + 1,
    ms,
    spread: latency.spread_ms?.[i] ?? 0,
    agreement: shown.agreements[i].f1,
    runtime: latency.runtime,
    detections: shown.byDepth[i],
  }));
}

/**
 * @param {Report} report
 * @returns {Point[]}
 */
export function reportPoints({ lines }) {
  return lines.flatMap(({ contender, kind, value, ms, spread, agreement, runtime, detections }) =>
    kind && value !== null
      ? [
          {
            name: contender,
            kind,
            value,
            ms,
            spread,
            agreement: agreement ?? 0,
            runtime,
            detections: detections.map(({ label, score, box }, i) => ({
              label,
              classId: 0,
              score,
              query: i,
              key: String(i),
              x: box.xmin,
              y: box.ymin,
              width: box.xmax - box.xmin,
              height: box.ymax - box.ymin,
            })),
          },
        ]
      : [],
  );
}

/**
 * A short name to stand beside a point.
 *
 * @param {Point} point
 */
export const shortName = ({ kind, value }) =>
  kind === "layers" ? `${value}` : kind === "queries" ? `${value} q` : `${value} px`;

/** What the columns and marks of an export mean. */
export const LEGEND = {
  ms: "milliseconds from decoded picture to detections",
  spread_ms: "spread between runs, in milliseconds",
  agreement: "F1 with the detections at full depth at IoU 0.5",
};

/**
 * Everything that was measured, as a table.
 *
 * @param {Point[]} points
 * @param {Record<string, number>} stages
 * @param {Report | null} report
 * @param {[string, string][]} circumstances  picture, machine and versions, by name
 */
export function csv(points, stages, report, circumstances = []) {
  const others = report?.lines.filter(({ kind }) => !kind) ?? [];
  return csvOf([
    ["contender", "knob", "value", "ms", "spread_ms", "agreement", "runtime"],
    ...points.map((one) => [
      one.name,
      one.kind,
      one.value,
      one.ms,
      one.spread,
      one.agreement,
      one.runtime,
    ]),
    ...others.map((one) => [one.contender, "", "", one.ms, one.spread, "", one.runtime]),
    ...Object.entries(stages).map(([name, ms]) => [name, "stage", "", ms]),
    ...circumstances.map(([name, value]) => [name, "condition", value]),
    ...Object.entries(LEGEND).map(([name, meaning]) => [name, "legend", meaning]),
  ]);
}
