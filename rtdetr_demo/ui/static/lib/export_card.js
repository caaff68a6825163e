/**
 * Exports that stand by themselves: what was measured or compared, on which picture, on which
 * machine, with which versions, and what its marks mean.
 *
 * @typedef {import("./types.js").PageConfig} PageConfig
 * @typedef {import("./types.js").Latency} Latency
 *
 * @typedef {Object} Card
 * @property {string} title
 * @property {CanvasImageSource & {width: number, height: number}} [picture]
 * @property {(CanvasImageSource & {width: number, height: number})[]} [layers]  drawn over it
 * @property {CanvasImageSource & {width: number, height: number}} [chart]
 * @property {[string, string][]} [legend]  a color, and what it stands for
 * @property {string[]} lines
 */

const WIDTH = 1280;
const MARGIN = 32;
const LINE = 30;
const FONT = '20px Inter, system-ui, "Noto Sans", sans-serif';

/**
 * What ran, for people and tables: name and value of each.
 *
 * @param {Object} known
 * @param {string} known.picture  its file name
 * @param {{width: number, height: number}} known.size
 * @param {Latency | null} known.latency
 * @param {Record<string, any> | null} known.conditions  of a report
 * @param {PageConfig} config
 * @param {string} agent  of the browser
 * @returns {[string, string][]}
 */
export function circumstances({ picture, size, latency, conditions }, config, agent) {
  /** @type {Record<string, string>} */
  const rows = { picture, "picture size": `${size.width} x ${size.height}` };
  if (latency?.device === "device") {
    rows.device = "visitor's device";
    rows.browser = agent;
    rows.runtime = latency.runtime;
    rows["onnxruntime-web"] = "1.30.0";
  } else {
    for (const [name, value] of Object.entries(config.machine ?? {})) rows[name] = String(value);
    if (latency && !latency.from)
      Object.assign(rows, { device: latency.device, runtime: latency.runtime });
  }
  if (latency?.from) rows["times from"] = latency.from;
  if (latency) Object.assign(rows, { precision: latency.precision });
  for (const [name, value] of Object.entries(conditions ?? {})) rows[name] = String(value);
  return Object.entries(rows);
}

/**
 * A card as a PNG.
 *
 * @param {Card} card
 * @returns {Promise<Blob>}
 */
export async function pngOfCard({ title, picture, layers = [], chart, legend = [], lines }) {
  const inner = WIDTH - 2 * MARGIN;
  const heightOf = (/** @type {{width: number, height: number}} */ { width, height }) =>
    Math.round((inner * height) / width);
  const canvas = document.createElement("canvas");
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.font = FONT;
  const wrapped = lines.flatMap((line) => wrap(pen, line, inner));
  const images = [picture, chart].filter((one) => one !== undefined);
  canvas.width = WIDTH;
  canvas.height =
    2 * MARGIN +
    2 * LINE +
    images.reduce((sum, one) => sum + heightOf(one) + LINE / 2, 0) +
    LINE * (legend.length + wrapped.length + 1);
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#14171a";
  pen.font = FONT.replace("20px", "600 28px");
  let y = MARGIN + LINE;
  pen.fillText(title, MARGIN, y);
  y += LINE;
  for (const image of images) {
    const height = heightOf(image);
    for (const layer of image === picture ? [image, ...layers] : [image])
      pen.drawImage(layer, MARGIN, y, inner, height);
    y += height + LINE / 2;
  }
  pen.font = FONT;
  for (const [color, words] of legend) {
    pen.fillStyle = color;
    pen.fillRect(MARGIN, y + 8, 18, 18);
    pen.fillStyle = "#14171a";
    pen.fillText(words, MARGIN + 30, y + LINE - 6);
    y += LINE;
  }
  y += LINE / 2;
  for (const line of wrapped) {
    pen.fillText(line, MARGIN, y + LINE - 6);
    y += LINE;
  }
  return new Promise((done) =>
    canvas.toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png"),
  );
}

/**
 * @param {{measureText: (text: string) => {width: number}}} pen
 * @param {string} line
 * @param {number} width
 */
export function wrap(pen, line, width) {
  /** @type {string[]} */
  const rows = [];
  for (const word of line.split(" ")) {
    const longer = rows.length ? `${rows.at(-1)} ${word}` : word;
    if (rows.length && pen.measureText(longer).width <= width) rows[rows.length - 1] = longer;
    else rows.push(word);
  }
  return rows;
}

/**
 * @param {string} address
 * @returns {Promise<HTMLImageElement>}
 */
export async function loaded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
