import { escapeText } from "./element.js";
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
} from "./inspection.js";

/**
 * What each panel of the Inside view draws: pictures on a canvas, facts as markup.
 *
 * @typedef {import("./inspection.js").Overview} Overview
 * @typedef {import("./inspection.js").Query} Query
 * @typedef {import("./picture_canvas.js").PictureCanvas} PictureCanvas
 *
 * @typedef {Object} Scene
 * @property {Overview} overview
 * @property {Query} query
 * @property {HTMLImageElement | null} image
 * @property {string} color  of the detection's class
 * @property {number} time  0: the proposal, 1: after the first layer
 * @property {number | null} scale  the map whose heat is shown; null: all
 * @property {number | null} head
 * @property {boolean} everyone  whether the film is that of all queries
 * @property {number} threshold
 */

export const SCALE_COLORS = ["#5fe0c6", "#8ab4ff", "#f08bd0"];
const RIVAL = "#d5d9dc";
const LEAST_SHOWN = 0.05;

const whole = (/** @type {Overview} */ { image }) => ({ x: 0, y: 0, ...image });
/** @param {{time: number, overview: Overview}} scene */
const stageOf = ({ time, overview }) =>
  Math.min(Math.max(Math.round(time), 0), overview.film.length - 1);
const layerOf = (/** @type {Scene} */ scene) => Math.max(stageOf(scene), 1);
const scaleColor = (/** @type {number} */ map) => SCALE_COLORS[map % SCALE_COLORS.length];
const percent = (/** @type {number} */ value) => `${Math.round(100 * value)}%`;

/** @type {(stage: number) => string} */
export const stageName = (stage) => (stage === 0 ? "proposal" : `layer ${stage}`);

/**
 * @param {PictureCanvas} canvas
 * @param {Scene} scene
 */
export function paintBorn(canvas, { overview, query, image, scale, color }) {
  const size = overview.image;
  canvas.begin(image, size, whole(overview), 0.62);
  const [red, green, blue] = [255, 176, 32];
  for (let map = overview.maps.length - 1; map >= 0; map--) {
    if (scale !== null && scale !== map) continue;
    const grid = overview.maps[map];
    canvas.grid(grid, (i) => [red, green, blue, Math.round(235 * grid.scores[i])], size);
  }
  const { pen } = canvas;
  pen.fillStyle = "#ffffff";
  for (const token of overview.chosen) {
    const place = placeOf(overview, token);
    if (scale !== null && scale !== place.map) continue;
    const cell = cellOf(overview, place);
    pen.beginPath();
    pen.arc(
      canvas.x(cell.x + cell.width / 2), canvas.y(cell.y + cell.height / 2), 1.6, 0, 2 * Math.PI,
    ); // prettier-ignore
    pen.fill();
  }
  const cell = cellOf(overview, query.token);
  const [x, y] = [canvas.x(cell.x + cell.width / 2), canvas.y(cell.y + cell.height / 2)];
  canvas.box(cell, color, { width: 2 });
  pen.lineWidth = 2.5;
  pen.strokeStyle = "#ffffff";
  pen.beginPath();
  pen.arc(x, y, 11, 0, 2 * Math.PI);
  pen.stroke();
  canvas.label(`#${query.query + 1}`, cell.x + cell.width, cell.y);
}

/** @param {Scene} scene */
export function tellBorn({ overview, query }) {
  const { map, row, column } = query.token;
  const score = overview.film[0].scores[query.query];
  return (
    `Selected <b>${ordinal(query.query + 1)} of ${overview.chosen.length}</b>, from the map with ` +
    `${strideOf(overview, map)} px per cell, row ${row + 1}, column ${column + 1}. ` +
    `Encoder score: <b>${score.toFixed(2)}</b>.`
  );
}

/**
 * @param {PictureCanvas} canvas
 * @param {Scene} scene
 */
export function paintRefined(canvas, { overview, query, image, color, time, everyone }) {
  const size = overview.image;
  const last = overview.film.length - 1;
  if (everyone) {
    canvas.begin(image, size, whole(overview), 0.5);
    for (let other = overview.chosen.length - 1; other >= 0; other--) {
      const score = scoreAt(overview, other, time);
      const isIt = other === query.query;
      if (score < LEAST_SHOWN && !isIt) continue;
      const look = isIt ? { width: 3 } : { width: 1.5, alpha: Math.min(1, 0.15 + score) };
      canvas.box(boxAt(overview, other, time), isIt ? color : "#ffffff", look);
    }
    return;
  }
  const stages = overview.film.map((_, stage) => boxAt(overview, query.query, stage));
  canvas.begin(image, size, viewAround(stages, size), 0.35);
  stages.forEach((box, stage) => {
    if (stage < time) canvas.box(box, "#ffffff", { width: 1, alpha: 0.25 + (0.4 * stage) / last });
  });
  canvas.box(stages[last], "#ffffff", { width: 2, dash: [6, 5] });
  const now = boxAt(overview, query.query, time);
  canvas.box(now, color, { width: 3 });
  const [label, score] = query.classes[stageOf({ time, overview })][0];
  canvas.label(`${label} ${score.toFixed(2)}`, now.x, now.y);
}

/** @param {Scene} scene */
export function tellRefined(scene) {
  const { query } = scene;
  const now = stageOf(scene);
  const rows = query.classes
    .map((best, stage) => {
      const bars = best
        .map(
          ([label, score], i) =>
            `<span class="class ${i ? "other" : ""}"><i style="width:${(100 * score).toFixed(1)}%"></i><span><b>${escapeText(label)}</b> ${score.toFixed(2)}</span></span>`,
        )
        .join("");
      return `<tr class="${stage === now ? "now" : ""}"><th scope="row">${stage || "Proposal"}</th><td>${query.iou[stage].toFixed(2)}</td><td><div class="classes">${bars}</div></td></tr>`;
    })
    .join("");
  return `<table><thead><tr><th scope="col">Stage</th><th scope="col">IoU</th><th scope="col">Top 3 classes</th></tr></thead><tbody>${rows}</tbody></table>`;
}

/**
 * @param {PictureCanvas} canvas
 * @param {Scene} scene
 */
export function paintLooked(canvas, scene) {
  const { overview, query, image, color, head } = scene;
  const layer = layerOf(scene);
  const size = overview.image;
  const points = pointsOf(query, layer, head);
  const before = boxAt(overview, query.query, layer - 1);
  const spots = points
    .filter(({ weight }) => weight > 0.02)
    .map(({ x, y }) => ({ x, y, width: 0, height: 0 }));
  canvas.begin(image, size, viewAround([before, ...spots], size), 0.5);
  canvas.box(before, color, { width: 2, dash: [6, 5] });
  const { pen } = canvas;
  const heaviest = Math.max(...points.map(({ weight }) => weight), 1e-6);
  for (const { x, y, weight, map } of points) {
    const share = weight / heaviest;
    pen.globalAlpha = 0.25 + 0.75 * share;
    pen.beginPath();
    pen.arc(canvas.x(x), canvas.y(y), 2.5 + 5 * Math.sqrt(share), 0, 2 * Math.PI);
    pen.fillStyle = `rgb(${heatColor(0.15 + 0.85 * share).join(" ")})`;
    pen.fill();
    pen.lineWidth = 1.5;
    pen.strokeStyle = scaleColor(map);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  const [x, y] = [canvas.x(before.x + before.width / 2), canvas.y(before.y + before.height / 2)];
  for (const [line, ink] of /** @type {[number, string][]} */ ([[4, "#14171a"], [2, "#ffffff"]])) {
    pen.lineWidth = line;
    pen.strokeStyle = ink;
    pen.beginPath();
    pen.moveTo(x - 8, y);
    pen.lineTo(x + 8, y);
    pen.moveTo(x, y - 8);
    pen.lineTo(x, y + 8);
    pen.stroke();
  } // prettier-ignore
}

/** @param {Scene} scene */
export function tellLooked(scene) {
  const { overview, query, head } = scene;
  const layer = layerOf(scene);
  const shares = shareOfMaps(query, layer, overview.maps.length, head)
    .map(
      (share, map) =>
        `<li><i style="border-color:${scaleColor(map)}"></i>${strideOf(overview, map)} px per cell: <b>${percent(share)}</b></li>`,
    )
    .join("");
  const of = head === null ? `all ${query.heads} heads` : `head ${head + 1}`;
  const points = query.layers[layer - 1].length / 3 / (head === null ? 1 : query.heads);
  return `Layer ${layer}, ${of}: ${points} sampling points. Attention by map:<ul class="legend">${shares}</ul>`;
}

/**
 * @param {PictureCanvas} canvas
 * @param {Scene} scene
 */
export function paintSilenced(canvas, scene) {
  const { overview, query, image, color, time } = scene;
  const size = overview.image;
  const stage = stageOf(scene);
  const mine = boxAt(overview, query.query, time);
  const others = query.rivals.map((one) => ({ ...one, box: boxAt(overview, one.query, time) }));
  const near = others.filter(({ iou }) => iou[stage] > 0.1).map(({ box }) => box);
  canvas.begin(image, size, viewAround([mine, ...near], size), 0.5);
  for (const { box, scores } of others)
    canvas.box(box, RIVAL, { width: 1.5, alpha: Math.min(1, 0.25 + scores[stage]) });
  canvas.box(mine, color, { width: 3 });
  canvas.label(
    `#${query.query + 1} ${scoreAt(overview, query.query, time).toFixed(2)}`,
    mine.x,
    mine.y,
  );
}

/** @param {Scene} scene */
export function tellSilenced(scene) {
  const { overview, query, threshold, color } = scene;
  const stage = stageOf(scene);
  if (!query.rivals.length) return "<p>No other query predicted this class here at any stage.</p>";
  const duplicates = duplicatesByStage(query, threshold);
  const last = duplicates.length - 1;
  const told =
    duplicates[last] === 0
      ? `After ${stageName(last)}, <b>no</b> duplicate is above the threshold of ${threshold.toFixed(2)}, so NMS is not needed.`
      : `After ${stageName(last)}, <b>${duplicates[last]}</b> ${duplicates[last] === 1 ? "duplicate is" : "duplicates are"} still above the threshold of ${threshold.toFixed(2)}: the model did not settle on one query here.`;
  const now =
    stage === last
      ? ""
      : ` ${stage ? `After ${stageName(stage)}` : "In the proposals"} there ${duplicates[stage] === 1 ? "is" : "are"} ${duplicates[stage] || "none"}.`;
  const share = (/** @type {number[]} */ passed) =>
    stage === 0 ? "" : `${(passed[stage - 1] / query.even_share).toFixed(1)}×`;
  const rows = query.rivals
    .map(
      (one) =>
        `<tr><th scope="row">#${one.query + 1}</th><td>${one.scores[stage].toFixed(2)}</td><td>${one.iou[stage].toFixed(2)}</td><td>${share(one.takes)}</td><td>${share(one.gives)}</td></tr>`,
    )
    .join("");
  return (
    `<p>${told}${now}</p>${chart(overview, query, stage, threshold, color)}` +
    `<div class="scroll" tabindex="0" role="region" aria-label="Competing queries"><table><caption>Competing queries, ${stageName(stage)}${stage ? "" : " (attention starts at layer 1)"}</caption>` +
    `<thead><tr><th scope="col">Query</th><th scope="col">Score</th><th scope="col">IoU</th><th scope="col">Attention to it</th><th scope="col">Attention from it</th></tr></thead><tbody>${rows}</tbody></table></div>`
  );
}

/**
 * Scores of the winner and its rivals across the stages.
 *
 * @param {Overview} overview
 * @param {Query} query
 * @param {number} now
 * @param {number} threshold
 * @param {string} color
 */
function chart({ film, classes }, { query, label, rivals }, now, threshold, color) {
  const [width, height, left, bottom] = [340, 130, 30, 22];
  const last = film.length - 1;
  const x = (/** @type {number} */ stage) => left + (stage * (width - left - 8)) / last;
  const y = (/** @type {number} */ score) => height - bottom - score * (height - bottom - 8);
  const line = (/** @type {number[]} */ scores) =>
    scores.map((score, stage) => `${x(stage).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  const own = film.map(({ scores, labels }) =>
    classes[labels[query]] === label ? scores[query] : 0,
  );
  const ticks = film
    .map(
      (_, stage) => `<text x="${x(stage)}" y="${height - 6}" text-anchor="middle">${stage}</text>`,
    )
    .join("");
  const marks = [0, 0.5, 1]
    .map((score) => `<text x="${left - 6}" y="${y(score) + 4}" text-anchor="end">${score}</text>`)
    .join("");
  return (
    `<svg class="race" viewBox="0 0 ${width} ${height}" role="img" aria-label="Scores by stage: this query ${own.map((v) => v.toFixed(2)).join(", ")}; its strongest competitor ${rivals[0].scores.map((v) => v.toFixed(2)).join(", ")}">` +
    `<line class="at" x1="${x(now)}" x2="${x(now)}" y1="4" y2="${height - bottom}"/>` +
    `<line class="threshold" x1="${left}" x2="${width - 8}" y1="${y(threshold)}" y2="${y(threshold)}"/>${ticks}${marks}` +
    rivals.map(({ scores }) => `<polyline class="rival" points="${line(scores)}"/>`).join("") +
    `<polyline class="winner halo" points="${line(own)}"/><polyline class="winner" style="stroke:${color}" points="${line(own)}"/></svg>`
  );
}

/**
 * @param {PictureCanvas} canvas
 * @param {Scene} scene
 * @param {{width: number, height: number, values: number[]}} map
 */
export function paintSaw(canvas, { overview, query }, map) {
  const size = overview.image;
  canvas.begin(null, size, whole(overview), 0);
  const least = Math.min(...map.values);
  const span = Math.max(...map.values) - least || 1;
  canvas.grid(map, (i) => [...heatColor((map.values[i] - least) / span), 255], size);
  canvas.box(boxAt(overview, query.query, overview.film.length - 1), "#ffffff", { width: 1.5 });
}

/** @param {number} number */
function ordinal(number) {
  const ending = { 1: "st", 2: "nd", 3: "rd" }[
    number % 100 > 10 && number % 100 < 14 ? 0 : number % 10
  ];
  return `${number}${ending ?? "th"}`;
}
