import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveLog, mirrored, quantile } from "../../rtdetr_demo/ui/static/lib/live.js";

const answer = (at, latency, depth = 6) => ({ at, latency, depth, wait: 5, server: 40, model: 30 });

test("figures look back five seconds", () => {
  const log = new LiveLog();
  for (let at = 0; at <= 10_000; at += 100) log.answered(answer(at, at < 6000 ? 500 : 50));
  const { fps, median, parts } = log.figures(10_000, 6);
  assert.equal(Math.round(fps), 10);
  assert.equal(median, 50);
  assert.deepEqual(parts, { network: 10, wait: 5, model: 30 });
});

test("the band has a gap where nothing came", () => {
  const log = new LiveLog();
  for (const at of [100, 200, 9000, 9100]) log.answered(answer(at, 50));
  const { band } = log.figures(10_000, 6);
  const told = band.map(({ median }) => median !== null);
  const [first, last] = [told.indexOf(true), told.lastIndexOf(true)];
  assert.ok(told.slice(first, last).filter((one) => !one).length > 10);
});

test("each depth that was visited has its own median, and the others none", () => {
  const log = new LiveLog();
  for (const latency of [10, 20, 30]) log.answered(answer(latency, latency, 2));
  log.answered(answer(40, 90, 6));
  assert.deepEqual(log.figures(50, 6).byDepth, [null, 20, null, null, null, 90]);
});

test("frames that nobody looked at are counted", () => {
  const log = new LiveLog();
  for (let i = 0; i < 50; i++) log.shown(i * 100, i % 2 === 0);
  const { camera, dropped } = log.figures(5000, 6);
  assert.deepEqual([camera, dropped], [9.8, 4.8]);
});

test("before anything came there are no figures", () => {
  const { fps, median, parts } = new LiveLog().figures(0, 6);
  assert.deepEqual([fps, median, parts, quantile([], 0.5)], [null, null, null, null]);
});

test("a mirror turns the boxes and keeps left of right", () => {
  const layer = { scores: [0.9], labels: [0], queries: [1], boxes: [10, 20, 30, 60] };
  const turned = mirrored({ checkpoint: "", classes: [], width: 100, height: 80, layers: [layer] });
  assert.deepEqual(turned.layers[0].boxes, [70, 20, 90, 60]);
  assert.deepEqual(layer.boxes, [10, 20, 30, 60]);
});
