import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
  agreement,
  countClasses,
  histogram,
  queryHistory,
  select,
  withoutDuplicates,
} from "../../rtdetr_demo/ui/static/lib/predictions.js";

const shared = JSON.parse(
  readFileSync(new URL("../support/agreement_cases.json", import.meta.url), "utf8"),
);

/** Two layers of a picture of 100 x 50 pixels; query 7 stands twice in the second. */
const predictions = {
  checkpoint: "c",
  classes: ["cat", "dog"],
  width: 100,
  height: 50,
  layers: [
    { scores: [0.6, 0.2], labels: [0, 1], queries: [7, 3], boxes: [0, 0, 10, 10, 5, 5, 50, 50] },
    {
      scores: [0.9, 0.4, 0.3],
      labels: [0, 1, 1],
      queries: [7, 7, 3],
      boxes: [-5, -5, 20, 20, -5, -5, 20, 20, 90, 40, 120, 60],
    },
  ],
};

test("a selection is cut at its threshold and at the picture's edges, best first", () => {
  const found = select(predictions, 2, 0.25);
  assert.deepEqual(
    found.map(({ label, score, x, y, width, height }) => [label, score, x, y, width, height]),
    [
      ["cat", 0.9, 0, 0, 20, 20],
      ["dog", 0.4, 0, 0, 20, 20],
      ["dog", 0.3, 90, 40, 10, 10],
    ],
  );
  assert.equal(select(predictions, 2, 0.4).length, 1, "above the threshold, not at it");
});

test("a query keeps its key from layer to layer, its second label gets one of its own", () => {
  assert.deepEqual(
    select(predictions, 1, 0).map((one) => one.key),
    ["7", "3"],
  );
  assert.deepEqual(
    select(predictions, 2, 0).map((one) => one.key),
    ["7", "7.1", "3"],
  );
});

test("hiding a class changes no other detection's key", () => {
  const found = select(predictions, 2, 0, new Set(["cat"]));
  assert.deepEqual(
    found.map((one) => one.key),
    ["7.1", "3"],
  );
});

test("a frame of one layer answers for that layer alone", () => {
  const frame = { ...predictions, first: 2, layers: [predictions.layers[1]] };
  assert.deepEqual(select(frame, 2, 0.5), select(predictions, 2, 0.5));
});

test("classes are counted, the most frequent first", () => {
  assert.deepEqual(countClasses(select(predictions, 2, 0)), [
    ["dog", 2],
    ["cat", 1],
  ]);
});

test("of duplicates the best stays, and only within its class", () => {
  const box = (label, score, x) => ({ label, score, x, y: 0, width: 100, height: 100 });
  const found = [box("cat", 0.9, 0), box("cat", 0.8, 10), box("dog", 0.7, 0), box("cat", 0.6, 40)];
  assert.deepEqual(
    withoutDuplicates(found).map((one) => one.score),
    [0.9, 0.7, 0.6],
  );
});

test("a query's history tells score and overlap with the last box for every layer", () => {
  const [cat] = select(predictions, 2, 0.5);
  const steps = queryHistory(predictions, cat);
  assert.deepEqual(
    steps.map((step) => step.score),
    [0.6, 0.9],
  );
  assert.equal(steps[1].iou, 1);
  assert.ok(steps[0].iou > 0.1 && steps[0].iou < 0.2);
  const dog = select(predictions, 2, 0.35)[1];
  assert.equal(queryHistory(predictions, dog)[0].score, null, "no such guess in the first layer");
});

test("the histogram counts every candidate once", () => {
  const counts = histogram(predictions, 2, 10);
  assert.equal(counts[9] + counts[4] + counts[3], 3);
});

const detections = (rows) =>
  rows.map(([label, xmin, ymin, xmax, ymax]) => ({
    label,
    x: xmin,
    y: ymin,
    width: xmax - xmin,
    height: ymax - ymin,
  }));

for (const { claim, shown, reference, ...expected } of shared)
  test(`agreement, as in Python: ${claim}`, () => {
    const found = agreement(detections(shown), detections(reference));
    assert.equal(found.kept, expected.kept);
    assert.equal(found.extra, expected.extra);
    assert.equal(found.lost.length, reference.length - expected.kept);
    assert.equal(found.gained.length, expected.extra);
    assert.ok(Math.abs(found.f1 - expected.f1) < 1e-9);
    if (expected.mean_iou === null) assert.equal(found.meanIou, null);
    else assert.ok(Math.abs(found.meanIou - expected.mean_iou) < 1e-9);
  });
