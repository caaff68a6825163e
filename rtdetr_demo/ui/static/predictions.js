// What a detector said about one picture, at every decoder layer (`Predictions.for_browser`),
// and the cheap questions that a page asks of it. No DOM in here.

/** Detections of decoder layer `layer` (1 is the first) above `threshold`, best first. */
function selectDetections(predictions, layer, threshold, hiddenClasses = new Set()) {
  const { scores, labels, boxes } = predictions.layers[layer - 1];
  const { width, height, classes } = predictions;
  const clamp = (value, top) => Math.min(Math.max(value, 0), top);
  const chosen = [];
  for (let i = 0; i < scores.length && scores[i] > threshold; i++) {
    const label = classes[labels[i]];
    if (hiddenClasses.has(label)) continue;
    const x = clamp(boxes[4 * i], width);
    const y = clamp(boxes[4 * i + 1], height);
    const right = clamp(boxes[4 * i + 2], width);
    const bottom = clamp(boxes[4 * i + 3], height);
    chosen.push({ label, score: scores[i], x, y, width: right - x, height: bottom - y });
  }
  return chosen;
}

/** How many of each class, most frequent first: [[label, count], ...]. */
function countClasses(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

function overlap(a, b) {
  const w = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (w <= 0 || h <= 0) return 0;
  return (w * h) / (a.width * a.height + b.width * b.height - w * h);
}

/**
 * How far `shown` agrees with `reference`: each reference box is kept if a shown box of its class
 * overlaps it by half (IoU), each shown box serving once, the best overlaps first.
 */
function agreement(shown, reference) {
  const pairs = [];
  reference.forEach((wanted, i) =>
    shown.forEach((found, j) => {
      if (wanted.label !== found.label) return;
      const iou = overlap(wanted, found);
      if (iou >= 0.5) pairs.push([iou, i, j]);
    }),
  );
  pairs.sort((a, b) => b[0] - a[0]);
  const [kept, used] = [new Set(), new Set()];
  let sum = 0;
  for (const [iou, i, j] of pairs) {
    if (kept.has(i) || used.has(j)) continue;
    kept.add(i);
    used.add(j);
    sum += iou;
  }
  return {
    kept: kept.size,
    of: reference.length,
    extra: shown.length - used.size,
    meanIou: kept.size ? sum / kept.size : null,
  };
}
