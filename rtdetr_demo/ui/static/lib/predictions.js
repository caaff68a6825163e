/**
 * The cheap questions that a page asks of predictions. No DOM in here.
 *
 * @typedef {import("./types.js").Predictions} Predictions
 * @typedef {import("./types.js").Detection} Detection
 */

export const MATCH_IOU = 0.5;
export const DUPLICATE_IOU = 0.7;

const NONE = /** @type {ReadonlySet<string>} */ (new Set());

/**
 * Detections of decoder layer `layer` (1 is the first) above `threshold`, best first.
 *
 * @param {Predictions} predictions
 * @param {number} layer
 * @param {number} threshold
 * @param {ReadonlySet<string>} hidden  classes to leave out
 * @returns {Detection[]}
 */
export function select(predictions, layer, threshold, hidden = NONE) {
  const { width, height, classes, first = 1 } = predictions;
  const { scores, labels, boxes, queries } = predictions.layers[layer - first];
  const clamp = (/** @type {number} */ value, /** @type {number} */ top) =>
    Math.min(Math.max(value, 0), top);
  /** @type {Detection[]} */
  const chosen = [];
  /** @type {Map<number, number>} */
  const times = new Map();
  for (let i = 0; i < scores.length && scores[i] > threshold; i++) {
    const query = queries[i];
    const time = times.get(query) ?? 0;
    times.set(query, time + 1);
    const label = classes[labels[i]];
    if (hidden.has(label)) continue;
    const x = clamp(boxes[4 * i], width);
    const y = clamp(boxes[4 * i + 1], height);
    chosen.push({
      label,
      classId: labels[i],
      score: scores[i],
      query,
      key: time ? `${query}.${time}` : `${query}`,
      x,
      y,
      width: clamp(boxes[4 * i + 2], width) - x,
      height: clamp(boxes[4 * i + 3], height) - y,
    });
  }
  return chosen;
}

/**
 * How many of each class, most frequent first.
 *
 * @param {Detection[]} detections
 * @returns {[string, number][]}
 */
export function countClasses(detections) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

/**
 * Intersection over union of two boxes.
 *
 * @param {{x: number, y: number, width: number, height: number}} a
 * @param {{x: number, y: number, width: number, height: number}} b
 */
export function iou(a, b) {
  const w = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (w <= 0 || h <= 0) return 0;
  return (w * h) / (a.width * a.height + b.width * b.height - w * h);
}

/**
 * How far `shown` agrees with `reference`: pairs of one class whose boxes overlap by half (IoU),
 * one to one, the best overlaps first.
 *
 * @param {Detection[]} shown
 * @param {Detection[]} reference
 * @returns {{kept: number, of: number, extra: number, f1: number, meanIou: number | null,
 *   lost: Detection[], gained: Detection[]}}  `f1` is 1 where both are empty
 */
export function agreement(shown, reference) {
  /** @type {[number, number, number][]} */
  const pairs = [];
  reference.forEach((wanted, i) =>
    shown.forEach((found, j) => {
      if (wanted.label !== found.label) return;
      const overlap = iou(wanted, found);
      if (overlap >= MATCH_IOU) pairs.push([overlap, i, j]);
    }),
  );
  pairs.sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
  const kept = new Set();
  const used = new Set();
  let sum = 0;
  for (const [overlap, i, j] of pairs) {
    if (kept.has(i) || used.has(j)) continue;
    kept.add(i);
    used.add(j);
    sum += overlap;
  }
  const total = shown.length + reference.length;
  return {
    kept: kept.size,
    of: reference.length,
    extra: shown.length - used.size,
    f1: total ? (2 * kept.size) / total : 1,
    meanIou: kept.size ? sum / kept.size : null,
    lost: reference.filter((_, i) => !kept.has(i)),
    gained: shown.filter((_, j) => !used.has(j)),
  };
}

/**
 * Without duplicates: of boxes of one class that overlap by more than `DUPLICATE_IOU`, the best
 * stays.
 *
 * @param {Detection[]} detections  best first
 * @returns {Detection[]}
 */
export function withoutDuplicates(detections) {
  /** @type {Detection[]} */
  const kept = [];
  for (const one of detections)
    if (!kept.some((other) => other.label === one.label && iou(other, one) > DUPLICATE_IOU))
      kept.push(one);
  return kept;
}

/**
 * What one query said in every layer: the score of one class, and its box against the last one.
 *
 * @param {Predictions} predictions
 * @param {Detection} detection
 * @returns {{layer: number, score: number | null, iou: number | null}[]}  null: it is not among
 *   the candidates of that layer
 */
export function queryHistory(predictions, detection) {
  const { first = 1 } = predictions;
  const boxes = predictions.layers.map(({ scores, labels, queries, boxes: flat }) => {
    for (let i = 0; i < queries.length; i++)
      if (queries[i] === detection.query && labels[i] === detection.classId) {
        const [x, y, right, bottom] = flat.slice(4 * i, 4 * i + 4);
        return { score: scores[i], x, y, width: right - x, height: bottom - y };
      }
    return null;
  });
  const last = boxes.findLast((box) => box !== null) ?? null;
  return boxes.map((box, i) => ({
    layer: first + i,
    score: box && box.score,
    iou: box && last && iou(box, last),
  }));
}

/**
 * How many candidates of a layer score within each of `bins` equal steps from 0 to 1.
 *
 * @param {Predictions} predictions
 * @param {number} layer
 * @param {number} bins
 */
export function histogram(predictions, layer, bins) {
  const counts = new Array(bins).fill(0);
  for (const score of predictions.layers[layer - (predictions.first ?? 1)].scores)
    counts[Math.min(bins - 1, Math.floor(score * bins))]++;
  return counts;
}
