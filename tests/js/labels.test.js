import assert from "node:assert/strict";
import { test } from "node:test";

import { placeLabels } from "../../rtdetr_demo/ui/static/lib/labels.js";

const FRAME = { x: 0, y: 0, width: 400, height: 300 };
const overlaps = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
const label = (x, y, width = 100, height = 80) => ({
  box: { x, y, width, height },
  width: 60,
  height: 20,
});

test("labels of boxes in one place keep off each other", () => {
  const places = placeLabels([label(100, 100), label(102, 101), label(98, 103)], FRAME);
  for (const [i, a] of places.entries())
    for (const b of places.slice(i + 1)) assert.ok(!overlaps(a, b));
});

test("labels stay inside the frame, wherever their boxes lie", () => {
  const corners = [label(-20, -20), label(380, 0), label(0, 290), label(390, 290)];
  for (const { x, y, width, height } of placeLabels(corners, FRAME)) {
    assert.ok(x >= 0 && x + width <= 400);
    assert.ok(y >= 0 && y + height <= 300);
  }
});

test("labels keep off what lies over the picture", () => {
  const obstacle = { x: 80, y: 70, width: 140, height: 40 };
  const [place] = placeLabels([label(100, 100)], FRAME, [obstacle]);
  assert.ok(!overlaps(place, obstacle));
});

test("in a crowd, a label without a place stays away", () => {
  const crowd = Array.from({ length: 40 }, () => label(100, 100, 20, 20));
  const places = placeLabels(crowd, FRAME, [], false);
  assert.ok(places.filter(Boolean).length < 40);
  assert.equal(placeLabels(crowd, FRAME, [], true).filter(Boolean).length, 40);
});
