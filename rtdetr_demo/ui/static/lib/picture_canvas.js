/**
 * A canvas that shows part of a picture, dimmed, with marks in the picture's own pixels on it.
 *
 * @typedef {import("./inspection.js").Rect} Rect
 */

const MOST_HEIGHT = 420;

export class PictureCanvas {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Rect} */
    this.view = { x: 0, y: 0, width: 1, height: 1 };
    this.scale = 1;
    this.left = 0;
    this.top = 0;
  }

  /**
   * Begin anew: size the canvas to its place in the page, and paint the picture.
   *
   * @param {HTMLImageElement | null} image
   * @param {{width: number, height: number}} size  of the original picture, in its pixels
   * @param {Rect} view  the part to show
   * @param {number} [dim]  how dark, 0 to 1
   */
  begin(image, size, view, dim = 0.45) {
    const { canvas, pen } = this;
    const wide = canvas.parentElement?.clientWidth || 320;
    const high = Math.min(MOST_HEIGHT, Math.round((wide * size.height) / size.width));
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${high}px`;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    this.scale = Math.min(wide / view.width, high / view.height);
    this.left = (wide - view.width * this.scale) / 2;
    this.top = (high - view.height * this.scale) / 2;
    this.view = view;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.beginPath();
    pen.rect(this.left, this.top, view.width * this.scale, view.height * this.scale);
    pen.clip();
    pen.fillStyle = "#14171a";
    pen.fillRect(0, 0, wide, high);
    if (!image?.complete || !image.naturalWidth) return;
    const shrunk = image.naturalWidth / size.width;
    pen.drawImage(
      image,
      view.x * shrunk, view.y * shrunk, view.width * shrunk, view.height * shrunk,
      this.left, this.top, view.width * this.scale, view.height * this.scale,
    ); // prettier-ignore
    pen.fillStyle = `rgb(12 14 16 / ${dim})`;
    pen.fillRect(0, 0, wide, high);
  }

  /** @param {number} x  in pixels of the picture; gives CSS pixels of the canvas */
  x(x) {
    return this.left + (x - this.view.x) * this.scale;
  }

  /** @param {number} y */
  y(y) {
    return this.top + (y - this.view.y) * this.scale;
  }

  /**
   * @param {Rect} box
   * @param {string} color
   * @param {{width?: number, dash?: number[], alpha?: number}} [how]
   */
  box({ x, y, width, height }, color, { width: line = 2, dash = [], alpha = 1 } = {}) {
    const { pen } = this;
    pen.save();
    pen.globalAlpha = alpha;
    pen.setLineDash(dash);
    pen.strokeStyle = color;
    pen.lineWidth = line;
    pen.strokeRect(this.x(x), this.y(y), width * this.scale, height * this.scale);
    pen.restore();
  }

  /**
   * A line of text on a dark ground, kept inside the canvas.
   *
   * @param {string} text
   * @param {number} x  in pixels of the picture
   * @param {number} y
   */
  label(text, x, y) {
    const { pen } = this;
    pen.font = "600 12px Inter, system-ui, sans-serif";
    const width = pen.measureText(text).width + 12;
    const right = this.left + this.view.width * this.scale;
    const bottom = this.top + this.view.height * this.scale;
    const at = Math.max(this.left, Math.min(this.x(x), right - width));
    const top = Math.max(this.top, Math.min(this.y(y) - 22, bottom - 20));
    pen.fillStyle = "rgb(12 14 16 / 0.85)";
    pen.fillRect(at, top, width, 20);
    pen.fillStyle = "#ffffff";
    pen.fillText(text, at + 6, top + 14);
  }

  /**
   * Values of a grid over the whole picture, cell by cell.
   *
   * @param {{width: number, height: number}} grid
   * @param {(index: number) => [number, number, number, number]} color  red, green, blue, alpha, 0
   *   to 255
   * @param {{width: number, height: number}} size  of the picture
   */
  grid({ width, height }, color, size) {
    const small = new OffscreenCanvas(width, height);
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d"));
    const pixels = pen.createImageData(width, height);
    for (let i = 0; i < width * height; i++) pixels.data.set(color(i), 4 * i);
    pen.putImageData(pixels, 0, 0);
    this.pen.imageSmoothingEnabled = false;
    this.pen.drawImage(
      small,
      this.x(0), this.y(0), size.width * this.scale, size.height * this.scale,
    ); // prettier-ignore
    this.pen.imageSmoothingEnabled = true;
  }
}
