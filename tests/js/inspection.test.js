import assert from "node:assert/strict";
import { test } from "node:test";

import {
  boxAt,
  cellOf,
  duplicatesByStage,
  heatColor,
  placeOf,
  pointsOf,
  scoreAt,
  shareOfMaps,
  strideOf,
  viewAround,
} from "../../rtdetr_demo/ui/static/lib/inspection.js";

const overview = /** @type {any} */ ({
  image: { width: 80, height: 40 },
  maps: [
    { width: 4, height: 4 },
    { width: 2, height: 2 },
  ],
  film: [
    { boxes: [0, 0, 9, 9, 0, 0, 10, 10], scores: [0, 0.2] },
    { boxes: [0, 0, 9, 9, 10, 20, 40, 40], scores: [0, 0.6] },
  ],
});

const query = /** @type {any} */ ({
  heads: 2,
  points: 1,
  layers: [[1, 1, 0.9, 2, 2, 0.1, 3, 3, 0.5, 4, 4, 0.5]],
  iou: [0.3, 1],
  rivals: [
    { scores: [0.6, 0.1], iou: [0.9, 0.9] },
    { scores: [0.6, 0.6], iou: [0.5, 0.8] },
  ],
});

test("a box is on its way between two stages, and rests at the ends", () => {
  assert.deepEqual(boxAt(overview, 1, 0.5), { x: 5, y: 10, width: 20, height: 15 });
  assert.deepEqual(boxAt(overview, 1, 7), { x: 10, y: 20, width: 30, height: 20 });
  assert.equal(scoreAt(overview, 1, 0.5), 0.4);
});

test("a token lies in its map, row by row", () => {
  assert.deepEqual(placeOf(overview, 5), { map: 0, row: 1, column: 1 });
  assert.deepEqual(placeOf(overview, 18), { map: 1, row: 1, column: 0 });
  assert.throws(() => placeOf(overview, 20), RangeError);
  assert.deepEqual(cellOf(overview, placeOf(overview, 18)), { x: 0, y: 20, width: 40, height: 20 });
  assert.equal(strideOf(overview, 1), 16);
});

test("points know their head and map, the heaviest is drawn last", () => {
  assert.deepEqual(
    pointsOf(query, 1).map(({ head, map, weight }) => [head, map, weight]),
    [[0, 1, 0.1], [1, 0, 0.5], [1, 1, 0.5], [0, 0, 0.9]],
  ); // prettier-ignore
  assert.equal(pointsOf(query, 1, 1).length, 2);
});

test("the maps' shares sum to one, for a head and for all", () => {
  assert.deepEqual(
    shareOfMaps(query, 1, 2).map((one) => Math.round(100 * one)),
    [70, 30],
  );
  assert.deepEqual(shareOfMaps(query, 1, 2, 1), [0.5, 0.5]);
});

test("a view holds what it is about, and stays within the picture", () => {
  const size = { width: 100, height: 50 };
  const view = viewAround([{ x: 90, y: 0, width: 20, height: 10 }], size);
  assert.ok(view.x + view.width <= 100 && view.y === 0 && view.x < 90);
  assert.equal(view.width / view.height, 2);
  const whole = viewAround([{ x: -20, y: -20, width: 300, height: 300 }], size);
  assert.deepEqual(whole, { x: 0, y: 0, width: 100, height: 50 });
});

test("duplicates are counted where they stand above the threshold in the same place", () => {
  assert.deepEqual(duplicatesByStage(query, 0.5), [1, 1]);
  assert.deepEqual(duplicatesByStage(query, 0.65), [0, 0]);
});

test("heat gets lighter with every step", () => {
  const light = [0, 0.25, 0.5, 0.75, 1].map((value) => {
    const [r, g, b] = heatColor(value);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  });
  assert.deepEqual(
    light,
    [...light].sort((a, b) => a - b),
  );
});
