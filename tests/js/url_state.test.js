import assert from "node:assert/strict";
import { test } from "node:test";

import { isStep, read, write } from "../../rtdetr_demo/ui/static/lib/url_state.js";

const state = {
  source: "photo",
  result: { depth: 6, source: { url: "https://a.example/b.jpg?c=d" } },
  depth: 2,
  threshold: 0.35,
  thresholdChosen: true,
  hideDuplicates: true,
  compare: 1,
  view: "lab",
  checkpoint: "PekingU/rtdetr_r18vd",
  queries: 100,
  size: 320,
  runtime: "server",
};

test("what is written is read again", () => {
  const { state: again, photo } = read(write(state, ""));
  assert.deepEqual(photo, { url: "https://a.example/b.jpg?c=d" });
  for (const [key, value] of Object.entries(again)) assert.deepEqual(value, state[key], key);
  assert.equal(Object.keys(again).length, 9);
});

test("what is usual stays out of the address", () => {
  const usual = {
    ...state,
    depth: 6,
    thresholdChosen: false,
    hideDuplicates: false,
    compare: null,
    view: "detections",
    checkpoint: "",
    queries: null,
    size: null,
    result: { depth: 6, source: { file: {} } },
  };
  assert.equal(write(usual, ""), "");
});

test("parameters that are not ours stay", () => {
  assert.match(write(state, "?__theme=dark&layers=5"), /__theme=dark/);
});

test("a threshold of nought is kept", () => {
  assert.equal(read(write({ ...state, threshold: 0 }, "")).state.threshold, 0);
});

test("nonsense is left out", () => {
  const { state: read_, photo } = read(
    "?layers=-1&threshold=2&view=<b>&size=1e99x&source=moon&queries=",
  );
  assert.deepEqual(read_, {});
  assert.equal(photo, null);
});

test("a slider's place is no step to go back to; another picture or view is", () => {
  assert.equal(isStep("?layers=2", "?layers=3&threshold=0.2"), false);
  assert.equal(isStep("?example=a.jpg", "?example=b.jpg"), true);
  assert.equal(isStep("", "?view=lab"), true);
});
