import { frontier, shortName } from "./lab.js";

/**
 * Charts by Observable Plot, which is fetched when the first of them is drawn.
 *
 * @typedef {import("./types.js").App} App
 * @typedef {import("./lab.js").Point} Point
 */

const PLOT = "../vendor/observable-plot-0.6.17/plot.min.js";
const COLORS = { layers: "var(--data-layer)", queries: "var(--data-agree)", size: "#6f8fd8" };
const NAMES = { layers: "decoder layers", queries: "queries (q)", size: "input size (px)" };

/**
 * @param {App} app
 * @returns {Promise<any>}
 */
const library = (app) => import(app.asset(PLOT));

/**
 * Agreement with full depth against milliseconds; the line is the Pareto frontier.
 *
 * @param {App} app
 * @param {Point[]} points
 * @param {{width: number, onPoint: (point: Point) => void}} options
 * @returns {Promise<Element>}
 */
export async function paretoChart(app, points, { width, onPoint }) {
  const { plot, dot, line, link, text, pointer } = await library(app);
  const best = frontier(points);
  const kinds = /** @type {const} */ (["layers", "queries", "size"]).filter((kind) =>
    points.some((one) => one.kind === kind),
  );
  const low = Math.min(...points.map(({ agreement }) => agreement), 1);
  const chart = plot({
    width: Math.max(width, 240),
    height: 320,
    marginLeft: 46,
    marginRight: 40,
    marginBottom: 40,
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px" },
    x: { label: "milliseconds →", nice: true, grid: true, insetLeft: 12, insetRight: 20 },
    y: {
      label: "↑ agreement",
      domain: [Math.max(0, Math.floor(10 * low - 1) / 10), 1],
      tickFormat: (/** @type {number} */ share) => `${Math.round(100 * share)}%`,
      grid: true,
      insetTop: 14,
      insetBottom: 10,
    },
    marks: [
      line(best, {
        x: "ms",
        y: "agreement",
        stroke: "var(--soft)",
        strokeDasharray: "4 4",
        curve: "step-after",
      }),
      link(points, {
        x1: (/** @type {Point} */ one) => Math.max(one.ms - one.spread, 0),
        x2: (/** @type {Point} */ one) => one.ms + one.spread,
        y1: "agreement",
        y2: "agreement",
        stroke: (/** @type {Point} */ one) => COLORS[one.kind],
        strokeOpacity: 0.6,
        strokeWidth: 2,
      }),
      dot(points, {
        x: "ms",
        y: "agreement",
        r: 6,
        fill: (/** @type {Point} */ one) => COLORS[one.kind],
        stroke: (/** @type {Point} */ one) => (best.includes(one) ? "var(--ink)" : "none"),
        strokeWidth: 1.5,
      }),
      text(points, {
        x: "ms",
        y: "agreement",
        text: shortName,
        dy: -14,
        fill: "var(--ink)",
        fontWeight: 600,
      }),
      dot(
        points,
        pointer({ x: "ms", y: "agreement", r: 10, stroke: "var(--accent)", strokeWidth: 2 }),
      ),
    ],
  });
  chart.addEventListener("input", () => chart.value && onPoint(chart.value));
  chart.setAttribute("role", "img");
  chart.setAttribute(
    "aria-label",
    points
      .map(
        (one) => `${one.name}: ${one.ms.toFixed(1)} ms, ${Math.round(100 * one.agreement)} percent`,
      )
      .join("; "),
  );
  const figure = document.createElement("div");
  const legend = document.createElement("p");
  legend.className = "legend";
  legend.innerHTML =
    kinds
      .map((kind) => `<span><i style="background:${COLORS[kind]}"></i>${NAMES[kind]}</span>`)
      .join("") + "<span>– – Pareto frontier</span>";
  figure.append(chart, legend);
  return figure;
}

/**
 * The chart's legend: the color that each kind of point has on the page now, and its name.
 *
 * @param {Point[]} points
 * @param {Element} on  gives the page's colors
 * @returns {[string, string][]}
 */
export function kindsOf(points, on) {
  const style = getComputedStyle(on);
  return /** @type {const} */ (["layers", "queries", "size"])
    .filter((kind) => points.some((one) => one.kind === kind))
    .map((kind) => {
      const variable = /^var\((.*)\)$/.exec(COLORS[kind])?.[1];
      return [variable ? style.getPropertyValue(variable) : COLORS[kind], NAMES[kind]];
    });
}

/**
 * One bar of what each stage takes.
 *
 * @param {App} app
 * @param {Record<string, number>} stages
 * @param {number} width
 * @returns {Promise<Element>}
 */
export async function stagesChart(app, stages, width) {
  const { plot, barX, text } = await library(app);
  const rows = Object.entries(stages).map(([name, ms]) => ({ name, ms }));
  const fill = (/** @type {{name: string}} */ { name }) =>
    name.startsWith("decoder")
      ? "var(--data-layer)"
      : name === "encoder"
        ? "var(--data-encoder)"
        : "var(--data-pre)";
  const chart = plot({
    width: Math.max(width, 240),
    height: 24 * rows.length + 56,
    marginLeft: 118,
    marginRight: 60,
    marginBottom: 40,
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px" },
    x: { label: "milliseconds →", grid: true },
    y: { label: null, domain: rows.map(({ name }) => name), tickSize: 0 },
    marks: [
      barX(rows, { x: "ms", y: "name", fill, rx: 3 }),
      text(rows, {
        x: "ms",
        y: "name",
        text: (/** @type {{ms: number}} */ one) => one.ms.toFixed(1),
        dx: 6,
        textAnchor: "start",
        fill: "var(--ink)",
      }),
    ],
  });
  chart.setAttribute("role", "img");
  chart.setAttribute(
    "aria-label",
    rows.map(({ name, ms }) => `${name}: ${ms.toFixed(1)} ms`).join("; "),
  );
  return chart;
}

const FAMILIES = /** @type {const} */ ({
  "RT-DETR, COCO + Objects365": "var(--data-layer)",
  "RT-DETR, COCO": "var(--data-agree)",
  "RT-DETRv2, COCO": "#6f8fd8",
});

/**
 * What the checkpoints' authors report: AP against frames a second.
 *
 * @param {App} app
 * @param {number} width
 * @returns {Promise<Element>}
 */
export async function publishedChart(app, width) {
  const { plot, dot, line, text } = await library(app);
  const families = /** @type {[keyof typeof FAMILIES, string][]} */ (Object.entries(FAMILIES));
  const rows = app.config.checkpoints.flatMap(
    ({ title, trained_on, published: { t4_fps, ap } }) => {
      const family = families.find(([name]) => name === `${title.split(" ")[0]}, ${trained_on}`);
      const name = title.split(" ").at(-1);
      return family && t4_fps && ap
        ? [{ name, family: family[0], color: family[1], t4_fps, ap }]
        : [];
    },
  );
  const at = { x: "t4_fps", y: "ap" };
  // What two families share a point of would else be written over itself.
  const label = (/** @type {string[]} */ of, /** @type {object} */ options) =>
    text(
      rows.filter(({ family }) => of.includes(family)),
      { ...at, text: "name", fill: "var(--ink)", fontWeight: 600, ...options },
    );
  const [widest, plain, second] = families.map(([name]) => name);
  const chart = plot({
    width: Math.max(width, 240),
    height: 272,
    marginLeft: 46,
    marginRight: 40,
    marginBottom: 40,
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px" },
    x: { label: "FPS →", nice: true, grid: true, insetLeft: 16 },
    y: { label: "↑ AP", nice: true, grid: true, insetTop: 10 },
    marks: [
      line(rows, { ...at, stroke: "color", z: "family", sort: "ap", strokeOpacity: 0.6 }),
      dot(rows, { ...at, r: 5, fill: "color" }),
      label([widest], { dy: -13 }),
      label([plain], { dx: -10, textAnchor: "end" }),
      label([second], { dx: 10, textAnchor: "start" }),
    ],
  });
  chart.setAttribute("role", "img");
  chart.setAttribute(
    "aria-label",
    rows
      .map(({ name, family, t4_fps, ap }) => `${family} ${name}: ${t4_fps} FPS, ${ap} AP`)
      .join("; "),
  );
  const figure = document.createElement("div");
  const legend = document.createElement("p");
  legend.className = "legend";
  legend.innerHTML = families
    .map(([name, color]) => `<span><i style="background:${color}"></i>${name}</span>`)
    .join("");
  figure.append(chart, legend);
  return figure;
}

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity",
  "font-size", "font-weight", "text-anchor", "color"]; // prettier-ignore

/**
 * A chart as a PNG at twice its size, with the colours that it has on the page now.
 *
 * @param {SVGElement} svg
 * @param {HTMLElement} on  what gives the paper's colour
 * @returns {Promise<Blob>}
 */
export async function pngOf(svg, on) {
  const copy = /** @type {SVGElement} */ (svg.cloneNode(true));
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of STYLES)
      /** @type {SVGElement} */ (node).style.setProperty(name, style.getPropertyValue(name));
    /** @type {SVGElement} */ (node).style.fontFamily = "sans-serif";
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("width", String(2 * width));
  copy.setAttribute("height", String(2 * height));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * width;
  canvas.height = 2 * height;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.fillStyle = getComputedStyle(on.querySelector(".card") ?? on).backgroundColor;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) =>
    canvas.toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png"),
  );
}
