import assert from "node:assert/strict";
import { test } from "node:test";

import { categoryIds } from "../../rtdetr_demo/ui/static/lib/coco_ids.js";
import {
  coco,
  csv,
  fileName,
  json,
  pictureName,
  yolo,
} from "../../rtdetr_demo/ui/static/lib/exporters.js";

const state = {
  result: {
    title: "a.jpg",
    predictions: {
      checkpoint: "c",
      classes: ['say "cat", please', "dog"],
      width: 100,
      height: 50,
      layers: [
        {
          scores: [0.9, 0.8, 0.1],
          labels: [1, 0, 1],
          queries: [1, 2, 3],
          boxes: [10, 10, 30.6, 20, 0, 0, 200, 50, 0, 0, 1, 1],
        },
      ],
    },
    colors: {},
    depth: 1,
    settings: { checkpoint: "c", queries: null, size: 320, runtime: "PyTorch" },
  },
  depth: 1,
  threshold: 0.5,
  hidden: new Set(),
  hideDuplicates: false,
  status: null,
};
const config = { checkpoints: [] };

test("JSON holds what is shown and the settings it was made with", () => {
  const content = JSON.parse(json(state, config));
  assert.equal(content.checkpoint, "c");
  assert.equal(content.decoder_layers, 1);
  assert.equal(content.settings.size, 320);
  assert.deepEqual(content.detections[0], {
    label: "dog",
    score: 0.9,
    box: { xmin: 10, ymin: 10, xmax: 30, ymax: 20 },
  });
  assert.equal(content.detections.length, 2);
  assert.equal(content.latency_ms, undefined, "no time that was not measured");
});

test("CSV quotes names and cuts boxes at the picture's edges", () => {
  assert.deepEqual(csv(state).trimEnd().split("\n"), [
    "label,score,x,y,width,height,area_share",
    "dog,0.9000,10.0,10.0,20.6,10.0,0.0412",
    '"say ""cat"", please",0.8000,0.0,0.0,100.0,50.0,1.0000',
  ]);
});

test("COCO numbers classes from one, in the checkpoint's order", () => {
  const content = JSON.parse(coco(state));
  assert.deepEqual(
    content.categories.map((one) => one.id),
    [1, 2],
  );
  assert.deepEqual(content.annotations[0].bbox, [10, 10, 20.6, 10]);
  assert.equal(content.annotations[0].category_id, 2);
});

test("category ids are COCO's own where every class is one of COCO's", () => {
  assert.deepEqual(
    categoryIds(["person", "stop sign", "tvmonitor", "toothbrush"]),
    [1, 13, 72, 90],
  );
  assert.deepEqual(categoryIds(["person", "helmet"]), [1, 2]);
  assert.deepEqual(categoryIds(["tv", "tvmonitor"]), [1, 2]);
  assert.deepEqual(categoryIds([""]), [1]);
});

const result = (source) => ({ title: "Cows", source });

test("COCO holds the picture's own file name", () => {
  const named = { ...state, result: { ...state.result, ...result({ example: "cows.jpg" }) } };
  assert.equal(JSON.parse(coco(named)).images[0].file_name, "cows.jpg");
  assert.equal(pictureName(result({ file: { name: "IMG 1.HEIC" } })), "IMG 1.HEIC");
  assert.equal(pictureName(result({ url: "https://host/a%20b.png?size=2" })), "a b.png");
  assert.equal(pictureName(result({ url: "https://host/%E0%A4%A.png" })), "%E0%A4%A.png");
  assert.equal(pictureName(result({ url: "https://host/" })), "Cows");
});

test("files are named after the picture, and YOLO's as its readers look for it", () => {
  const picture = result({ file: { name: "my.photo.jpg" } });
  assert.deepEqual(
    ["png", "json", "csv", "coco", "yolo"].map((form) => fileName(form, picture)),
    [
      "my.photo-annotated.png",
      "my.photo.json",
      "my.photo.csv",
      "my.photo.coco.json",
      "my.photo.txt",
    ],
  );
  assert.equal(fileName("csv", result({ file: { name: "a/b:c.jpg" } })), "a_b_c.csv");
  assert.equal(fileName("csv", result({ file: { name: ".jpg" } })), ".jpg.csv");
});

test("YOLO gives centres and sizes as shares of the picture", () => {
  assert.equal(yolo(state).split("\n")[1], "0 0.500000 0.500000 1.000000 1.000000");
});

test("what is hidden is not exported", () => {
  assert.equal(
    yolo({ ...state, hidden: new Set(["dog"]) })
      .trim()
      .split("\n").length,
    1,
  );
});
