import { DUPLICATE_IOU } from "./predictions.js";

/**
 * What the Inside view asks of an inspection. No DOM in here.
 *
 * @typedef {Object} Grid
 * @property {number} width  in cells
 * @property {number} height
 *
 * @typedef {Object} Overview
 * `Inspection.overview` of Python: all that is not of one query.
 * @property {string} checkpoint
 * @property {string[]} classes
 * @property {{width: number, height: number}} image  in pixels
 * @property {number} decoder_layers
 * @property {(Grid & {scores: number[]})[]} maps  finest first; the encoder's score of each cell
 * @property {number[]} chosen  the token of each query, best first
 * @property {{boxes: number[], scores: number[], labels: number[]}[]} film  proposal, layer 1, ...
 * @property {Record<"backbone" | "aifi" | "ccff", (Grid & {values: number[]})[]>} energy
 *
 * @typedef {Object} Rival
 * @property {number} query
 * @property {number[]} scores  of the winner's class, by stage
 * @property {number[]} iou  with the winner, by stage
 * @property {number[]} takes  attention that it pays to the winner, by layer
 * @property {number[]} gives  attention that the winner pays to it, by layer
 *
 * @typedef {Object} Query
 * `Inspection.query_json`: one query.
 * @property {number} query
 * @property {{map: number, row: number, column: number}} token
 * @property {string} label
 * @property {[string, number][][]} classes  best three, by stage
 * @property {number[]} iou  with its last box, by stage
 * @property {number} heads
 * @property {number} points  in each map
 * @property {number[][]} layers  x, y, weight of each point, flat over heads, maps and points
 * @property {number} even_share
 * @property {Rival[]} rivals
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 * @typedef {{x: number, y: number, weight: number, head: number, map: number}} Point
 */

const FINEST_STRIDE = 8;

/**
 * A query's box at a stage; between two stages, on its way.
 *
 * @param {Overview} overview
 * @param {number} query
 * @param {number} time  0: the proposal, 1: after the first layer
 * @returns {Rect}
 */
export function boxAt({ film }, query, time) {
  const last = film.length - 1;
  const at = Math.min(Math.max(time, 0), last);
  const from = Math.floor(at);
  const part = at - from;
  const [x, y, right, bottom] = [0, 1, 2, 3].map((i) => {
    const a = film[from].boxes[4 * query + i];
    const b = film[Math.min(from + 1, last)].boxes[4 * query + i];
    return a + (b - a) * part;
  });
  return { x, y, width: right - x, height: bottom - y };
}

/**
 * A query's best score at a stage; between two, on its way.
 *
 * @param {Overview} overview
 * @param {number} query
 * @param {number} time
 */
export function scoreAt({ film }, query, time) {
  const last = film.length - 1;
  const at = Math.min(Math.max(time, 0), last);
  const from = Math.floor(at);
  const [a, b] = [film[from].scores[query], film[Math.min(from + 1, last)].scores[query]];
  return a + (b - a) * (at - from);
}

/**
 * How many pixels of the model's input a cell of a map stands for.
 *
 * @param {Overview} overview
 * @param {number} map
 */
export const strideOf = ({ maps }, map) =>
  Math.round((FINEST_STRIDE * maps[0].width) / maps[map].width);

/**
 * The cell of a token, in pixels of the picture.
 *
 * @param {Overview} overview
 * @param {{map: number, row: number, column: number}} token
 * @returns {Rect}
 */
export function cellOf({ maps, image }, { map, row, column }) {
  const width = image.width / maps[map].width;
  const height = image.height / maps[map].height;
  return { x: column * width, y: row * height, width, height };
}

/**
 * The map, row and column of a token.
 *
 * @param {Overview} overview
 * @param {number} token
 */
export function placeOf({ maps }, token) {
  let rest = token;
  for (let map = 0; map < maps.length; map++) {
    const { width, height } = maps[map];
    if (rest < width * height) return { map, row: Math.floor(rest / width), column: rest % width };
    rest -= width * height;
  }
  throw new RangeError("there is no such token");
}

/**
 * The points that a query looked at in a layer (1 is the first), heaviest last.
 *
 * @param {Query} query
 * @param {number} layer
 * @param {number | null} [head]  null: all of them
 * @returns {Point[]}
 */
export function pointsOf(query, layer, head = null) {
  const flat = query.layers[layer - 1];
  const perHead = flat.length / 3 / query.heads;
  /** @type {Point[]} */
  const points = [];
  for (let i = 0; i < flat.length / 3; i++) {
    const of = Math.floor(i / perHead);
    if (head !== null && of !== head) continue;
    const map = Math.floor((i % perHead) / query.points);
    points.push({ x: flat[3 * i], y: flat[3 * i + 1], weight: flat[3 * i + 2], head: of, map });
  }
  return points.sort((a, b) => a.weight - b.weight);
}

/**
 * How the weight of a layer is shared among the maps, each 0 to 1.
 *
 * @param {Query} query
 * @param {number} layer
 * @param {number} maps
 * @param {number | null} [head]
 */
export function shareOfMaps(query, layer, maps, head = null) {
  const shares = new Array(maps).fill(0);
  for (const { map, weight } of pointsOf(query, layer, head)) shares[map] += weight;
  const whole = shares.reduce((sum, one) => sum + one, 0) || 1;
  return shares.map((one) => one / whole);
}

/**
 * The part of a picture to show so that all of these can be seen well, with room around.
 *
 * @param {Rect[]} rects
 * @param {{width: number, height: number}} size  of the picture
 * @param {number} [aspect]  width by height of the view
 * @returns {Rect}
 */
export function viewAround(rects, size, aspect = size.width / size.height) {
  const left = Math.min(...rects.map((one) => one.x));
  const top = Math.min(...rects.map((one) => one.y));
  const right = Math.max(...rects.map((one) => one.x + one.width));
  const bottom = Math.max(...rects.map((one) => one.y + one.height));
  let width = Math.max((right - left) * 1.4, size.width * 0.2);
  let height = Math.max((bottom - top) * 1.4, size.height * 0.2);
  if (width / height < aspect) width = height * aspect;
  else height = width / aspect;
  const shrink = Math.min(1, size.width / width, size.height / height);
  width *= shrink;
  height *= shrink;
  const clamp = (/** @type {number} */ value, /** @type {number} */ max) =>
    Math.min(Math.max(value, 0), Math.max(max, 0));
  return {
    x: clamp((left + right - width) / 2, size.width - width),
    y: clamp((top + bottom - height) / 2, size.height - height),
    width,
    height,
  };
}

/**
 * At each stage, how many rivals would be shown as duplicates of the winner: above the threshold,
 * and in the same place.
 *
 * @param {Query} query
 * @param {number} threshold
 */
export const duplicatesByStage = ({ rivals, iou }, threshold) =>
  iou.map(
    (_, stage) =>
      rivals.filter((one) => one.scores[stage] > threshold && one.iou[stage] > DUPLICATE_IOU)
        .length,
  );

/**
 * A colour for a value from 0 to 1: dark violet, through red and orange, to pale yellow. Perceived
 * lightness rises evenly, so it reads without colour, too.
 *
 * @param {number} value
 * @returns {[number, number, number]}
 */
export function heatColor(value) {
  const at = Math.min(Math.max(value, 0), 1) * (HEAT.length - 1);
  const from = Math.min(Math.floor(at), HEAT.length - 2);
  return /** @type {[number, number, number]} */ (
    HEAT[from].map((one, i) => Math.round(one + (HEAT[from + 1][i] - one) * (at - from)))
  );
}

/** Colours at equal steps from 0 to 1; `media/inspection_pictures.py` has the same. */
const HEAT = [
  [24, 14, 58],
  [88, 24, 110],
  [158, 42, 99],
  [217, 76, 60],
  [248, 138, 36],
  [249, 201, 84],
  [252, 250, 190],
];
