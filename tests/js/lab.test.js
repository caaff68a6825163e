import assert from "node:assert/strict";
import { test } from "node:test";
import { csv, frontier, knownPoints, reportPoints } from "../../rtdetr_demo/ui/static/lib/lab.js";
import { circumstances, wrap } from "../../rtdetr_demo/ui/static/lib/export_card.js";
import { momentAt, predictionsOf, progressOf } from "../../rtdetr_demo/ui/static/lib/clip.js";

const point = (ms, agreement, kind = "layers") => ({
  name: `a, "b"`,
  kind,
  value: 1,
  ms,
  spread: 1,
  agreement,
  runtime: "PyTorch",
  detections: [],
});

test("the frontier holds what nothing beats in both", () => {
  const points = [point(30, 1), point(20, 0.8), point(25, 0.7), point(10, 0.5), point(40, 1)];
  assert.deepEqual(
    frontier(points).map(({ ms }) => ms),
    [10, 20, 30],
  );
});

test("the lab opens with the depths, and with nothing where they are not timed", () => {
  const shown = { byDepth: [[], []], duplicates: [], agreements: [{ f1: 0.5 }, { f1: 1 }] };
  const latency = { total_ms: [10, 20], spread_ms: [1, 2], runtime: "OpenVINO" };
  const [first, last] = knownPoints(latency, shown);
  assert.deepEqual([first.ms, first.agreement, last.spread], [10, 0.5, 2]);
  assert.deepEqual(knownPoints(null, shown), []);
});

test("a report's lines of no knob are no points, and its boxes are pixels", () => {
  const detection = { label: "cat", score: 0.9, box: { xmin: 1, ymin: 2, xmax: 11, ymax: 22 } };
  const line = { contender: "x", kind: "size", value: 320, ms: 5, spread: 1, agreement: 0.9 };
  const report = {
    lines: [
      { ...line, detections: [detection] },
      { ...line, kind: "" },
    ],
  };
  const [only, ...rest] = reportPoints(report);
  assert.equal(rest.length, 0);
  const { x, y, width, height } = only.detections[0];
  assert.deepEqual([x, y, width, height], [1, 2, 10, 20]);
});

test("the table quotes what has commas", () => {
  const [head, row, stage] = csv([point(1, 1)], { backbone: 3 }, null).split("\n");
  assert.equal(head.split(",")[3], "ms");
  assert.ok(row.startsWith('"a, ""b""",layers,1,1,1,1,PyTorch'));
  assert.equal(stage, "backbone,stage,,3");
});

test("the table holds picture, machine, versions and what its columns mean", () => {
  const rows = circumstances(
    {
      picture: "cows.jpg",
      size: { width: 640, height: 480 },
      latency: { device: "cpu", runtime: "OpenVINO", precision: "float32" },
      conditions: { torch: "2.13.0" },
    },
    { machine: { processor: "a CPU", transformers: "5" } },
    "browser",
  );
  const lines = csv([point(1, 1)], {}, null, rows)
    .trimEnd()
    .split("\n");
  for (const line of [
    "picture,condition,cows.jpg",
    "picture size,condition,640 x 480",
    "processor,condition,a CPU",
    "torch,condition,2.13.0",
    "transformers,condition,5",
    "runtime,condition,OpenVINO",
  ])
    assert.ok(lines.includes(line), line);
  assert.ok(lines.some((line) => line.startsWith("agreement,legend,")));
});

test("what ran on the visitor's device is told with the browser, not with the server", () => {
  const rows = Object.fromEntries(
    circumstances(
      {
        picture: "a.jpg",
        size: { width: 1, height: 1 },
        latency: { device: "device", runtime: "WebAssembly, 1 thread", precision: "float32" },
        conditions: null,
      },
      { machine: { processor: "a CPU" } },
      "Browser 1",
    ),
  );
  assert.equal(rows.browser, "Browser 1");
  assert.equal(rows.processor, undefined);
});

test("lines are broken between words", () => {
  const pen = { measureText: (text) => ({ width: text.length }) };
  assert.deepEqual(wrap(pen, "one two three four", 9), ["one two", "three", "four"]);
  assert.deepEqual(wrap(pen, "unbreakable-word x", 5), ["unbreakable-word", "x"]);
});

test("a moment holds until the next one that was looked at", () => {
  const moments = [0, 0.1, 0.5].map((time) => ({ time, detections: [] }));
  assert.equal(momentAt(moments, 0.49).time, 0.1);
  assert.equal(momentAt(moments, 0.5).time, 0.5);
  assert.equal(momentAt([], 1), null);
});

test("a clip's tracks are predictions of the one layer that ran, best first", () => {
  const box = { xmin: 0, ymin: 1, xmax: 2, ymax: 3 };
  const tracks = [
    { id: 4, label: "cow", score: 0.5, box },
    { id: 7, label: "dog", score: 0.9, box },
  ];
  const outcome = { labels: ["cow", "dog"], ran: { checkpoint: "bundled", depth: 3 } };
  const { first, layers } = predictionsOf(outcome, tracks, { width: 10, height: 10 });
  assert.equal(first, 3);
  assert.deepEqual([layers[0].scores, layers[0].labels, layers[0].queries], [[0.9, 0.5], [1, 0], [7, 4]]); // prettier-ignore
});

test("progress is told in frames, and in none before the first", () => {
  assert.equal(progressOf({}).told, "Preparing");
  const { told, share } = progressOf({ done: 5, total: 10, fps: 2.5, left: 100 });
  assert.deepEqual([told, share], ["5 of 10 frames, 2.5 FPS, 1 min 40 s left", 0.5]);
});
