/**
 * Rank a decoder layer's (query, class) pairs, as transformers' post-processing does: the best pairs,
 * as many as there are queries; a query may stand among them more than once.
 *
 * @param {Float32Array} logits  [queries, classes]
 * @param {Float32Array} boxes  [queries, 4]: centre x, centre y, width, height, from 0 to 1
 * @param {{width: number, height: number}} picture
 * @returns {import("./types.js").LayerPredictions}
 */
export function topkPostprocess(logits, boxes, { width, height }) {
  const count = boxes.length / 4;
  const classes = logits.length / count;
  const least = Float32Array.from(logits).sort()[logits.length - count];
  /** @type {number[]} */
  const best = [];
  /** @type {number[]} */
  const tied = [];
  for (let i = 0; i < logits.length; i++)
    if (logits[i] > least) best.push(i);
    else if (logits[i] === least) tied.push(i);
  best.push(...tied.slice(0, count - best.length));
  best.sort((a, b) => logits[b] - logits[a]);
  const queries = best.map((index) => Math.floor(index / classes));
  return {
    scores: best.map((index) => 1 / (1 + Math.exp(-logits[index]))),
    labels: best.map((index) => index % classes),
    queries,
    boxes: queries.flatMap((query) => {
      const [x, y, w, h] = boxes.subarray(4 * query, 4 * query + 4);
      return [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height];
    }),
  };
}
