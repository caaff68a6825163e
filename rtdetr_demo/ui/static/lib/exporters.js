import { BoxCanvas } from "./box_canvas.js";
import { categoryIds } from "./coco_ids.js";
import { csvOf } from "./csv.js";
import { Refusal } from "./detector.js";
import { detectionsOf, latencyOf } from "./view_model.js";

/**
 * What is shown, as a file: the same forms that `media/exporters.py` writes.
 *
 * @typedef {import("./types.js").App} App
 * @typedef {import("./types.js").State} State
 * @typedef {import("./types.js").Detection} Detection
 */

/** @type {Record<string, string>} */
const SUFFIXES = {
  png: "-annotated.png",
  json: ".json",
  csv: ".csv",
  coco: ".coco.json",
  yolo: ".txt",
};

/**
 * The picture's own file name: an example's, an upload's, or the last part of its address.
 *
 * @param {Pick<import("./types.js").Result, "source" | "title">} result
 */
export function pictureName({ source, title }) {
  if (source?.example)
    return source.example.includes(".") ? source.example : `${source.example}.jpg`;
  return source?.file?.name || decoded(source?.url?.split(/[?#]/)[0].split("/").pop()) || title;
}

/** @param {string | undefined} part  of an address */
function decoded(part) {
  try {
    return decodeURIComponent(part ?? "");
  } catch {
    return part ?? "";
  }
}

/**
 * What a file is called, after the picture; YOLO's as its readers require.
 *
 * @param {string} form  a key of `SUFFIXES`
 * @param {Pick<import("./types.js").Result, "source" | "title">} result
 */
export const fileName = (form, result) => stemOf(pictureName(result)) + (SUFFIXES[form] ?? "");

/** @param {string} name  of a file */
export const stemOf = (name) => name.replace(/(?<=.)\.[^.]*$/, "").replace(/[\\/:*?"<>|]/g, "_");

/**
 * @param {string} form  a key of `SUFFIXES`
 * @param {App} app
 * @returns {Promise<Blob>}
 */
export async function exportAs(form, app) {
  const state = app.store.get();
  if (!state.result) throw new Refusal("There is nothing to export yet. Open a picture first.");
  if (form === "png") return drawn(app);
  const write = WRITERS[form];
  if (!write) throw new Refusal("This export format is not available.");
  const type = form === "csv" || form === "yolo" ? "text/plain" : "application/json";
  return new Blob([write(state, app.config)], { type });
}

/**
 * @param {State} state
 * @param {import("./types.js").PageConfig} config
 */
export function json(state, config) {
  const { result, depth, threshold, hidden, hideDuplicates } = state;
  if (!result) return "";
  const { width, height } = result.predictions;
  const latency = latencyOf(state, config);
  const content = {
    checkpoint: result.settings.checkpoint,
    decoder_layers: depth,
    image: { width, height },
    settings: {
      threshold,
      queries: result.settings.queries,
      size: result.settings.size,
      runtime: result.settings.runtime,
      hidden_classes: [...hidden],
      hide_doubles: hideDuplicates,
    },
    detections: detectionsOf(state).map((one) => ({
      label: one.label,
      score: round(one.score, 6),
      box: {
        xmin: Math.trunc(one.x),
        ymin: Math.trunc(one.y),
        xmax: Math.trunc(one.x + one.width),
        ymax: Math.trunc(one.y + one.height),
      },
    })),
    ...(latency && !latency.from ? { latency_ms: round(latency.total_ms[depth - 1], 2) } : {}),
  };
  return JSON.stringify(content, null, 2) + "\n";
}

/** @param {State} state */
export function csv(state) {
  const { width = 1, height = 1 } = state.result?.predictions ?? {};
  const rows = detectionsOf(state).map((one) => [
    one.label,
    one.score.toFixed(4),
    ...[one.x, one.y, one.width, one.height].map((value) => value.toFixed(1)),
    ((one.width * one.height) / (width * height)).toFixed(4),
  ]);
  const head = ["label", "score", "x", "y", "width", "height", "area_share"];
  return csvOf([head, ...rows]);
}

/** @param {State} state */
export function coco(state) {
  const { result } = state;
  if (!result) return "";
  const { width, height, classes } = result.predictions;
  const ids = categoryIds(classes);
  const content = {
    images: [{ id: 1, file_name: pictureName(result), width, height }],
    categories: classes.map((name, i) => ({ id: ids[i], name })),
    annotations: detectionsOf(state).map((one, i) => ({
      id: i + 1,
      image_id: 1,
      category_id: ids[one.classId],
      bbox: [one.x, one.y, one.width, one.height].map((value) => round(value, 2)),
      area: round(one.width * one.height, 2),
      iscrowd: 0,
      score: round(one.score, 4),
    })),
  };
  return JSON.stringify(content, null, 2) + "\n";
}

/** @param {State} state */
export function yolo(state) {
  const { width = 1, height = 1 } = state.result?.predictions ?? {};
  return detectionsOf(state)
    .map((one) => {
      const values = [
        (one.x + one.width / 2) / width,
        (one.y + one.height / 2) / height,
        one.width / width,
        one.height / height,
      ];
      return `${one.classId} ${values.map((value) => value.toFixed(6)).join(" ")}\n`;
    })
    .join("");
}

/** @type {Record<string, (state: State, config: import("./types.js").PageConfig) => string>} */
const WRITERS = { json, csv, coco, yolo };

/**
 * The picture at its full size with the boxes on it, drawn as the stage draws them.
 *
 * @param {App} app
 * @returns {Promise<Blob>}
 */
async function drawn(app) {
  const state = app.store.get();
  const { result } = state;
  if (!result?.picture) throw new Refusal("There is no picture to draw on. Open one first.");
  const image = new Image();
  image.src = await app.detector().original(result);
  await image.decode();
  const { width, height } = result.predictions;
  // Sizes of lines and labels are those of a screen: a larger picture has them larger.
  const ratio = Math.max(1, Math.max(width, height) / 1200);
  const layer = document.createElement("canvas");
  const boxes = new BoxCanvas(layer);
  boxes.resize(width / ratio, height / ratio, ratio);
  boxes.show({
    detections: detectionsOf(state),
    colors: result.colors,
    size: { width, height },
  });
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.drawImage(image, 0, 0, width, height);
  pen.drawImage(layer, 0, 0, width, height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (!blob) throw new Refusal("This browser could not create the image. Try another format.");
  return /** @type {Blob} */ (blob);
}

/**
 * @param {number} value
 * @param {number} places
 */
const round = (value, places) => Number(value.toFixed(places));
