import assert from "node:assert/strict";
import { test } from "node:test";

import { axisStart, ladderOf, segmentsOf } from "../../rtdetr_demo/ui/static/lib/ladder.js";

const latency = {
  device: "cpu",
  runtime: "r",
  precision: "p",
  size: [1, 1],
  total_ms: [14, 16, 20],
  within_noise: [false, true, false],
  stages_ms: {
    preprocess: 1,
    backbone: 6,
    encoder: 3,
    "decoder layer 1": 3,
    "decoder layer 2": 2,
    "decoder layer 3": 4,
    postprocess: 1,
  },
};
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("segments are as wide as measured, and fill the axis", () => {
  const segments = segmentsOf(latency, 3);
  near(
    segments.reduce((sum, one) => sum + one.share, 0),
    1,
  );
  near(segments.find((one) => one.kind === "backbone").share, 6 / 20);
  assert.deepEqual(
    segments.filter((one) => one.layer).map((one) => Math.round(20 * one.share)),
    [3, 2, 4],
  );
});

test("the handle stands where the pass of that depth ends", () => {
  const { ends } = ladderOf(latency, 3);
  near(ends[0], 14 / 20);
  near(ends[2], 1);
});

test("a place on the axis is the nearest cut", () => {
  const { depthAt } = ladderOf(latency, 3);
  assert.deepEqual([0, 0.7, 0.76, 0.9, 0.99].map(depthAt), [1, 1, 2, 2, 3]);
});

test("a saving is told where it stands out, and never a negative one", () => {
  const { savedAt } = ladderOf(latency, 3);
  assert.equal(savedAt(1).ms, 6);
  near(savedAt(1).times, 20 / 14);
  assert.equal(savedAt(2), null, "within noise");
  assert.equal(savedAt(3), null);
  assert.equal(ladderOf({ ...latency, total_ms: [21, 16, 20] }, 3).savedAt(1), null);
});

test("without a measurement the layers stand evenly", () => {
  const shares = segmentsOf(null, 4)
    .filter((one) => one.layer)
    .map((one) => one.share);
  for (const share of shares) near(share, shares[0]);
});

test("an axis of shares begins a little under the least, at a round one", () => {
  assert.equal(axisStart([1, 0.67, 0.8]), 0.6);
  assert.equal(axisStart([1, 0.7]), 0.6);
  assert.equal(axisStart([1, 1]), 0.9);
  assert.equal(axisStart([]), 0.9);
  assert.equal(axisStart([0, 1]), 0);
});
