import { FULL_LABELS, MOST_LABELS, placeLabels } from "./labels.js";

/**
 * Draws detections on a canvas over a picture; the same for the stage, a video, a comparison of
 * checkpoints, and the picture that is exported.
 *
 * @typedef {import("./types.js").Detection} Detection
 * @typedef {import("./labels.js").Rect} Rect
 *
 * @typedef {Object} Scene
 * @property {Detection[]} detections
 * @property {Detection[]} [ghosts]  drawn dashed
 * @property {Detection[] | null} [compared]  drawn left of the divider, `detections` right of it
 * @property {number} [split]  where the divider is, 0 to 1
 * @property {Record<string, [string, string]>} colors
 * @property {{width: number, height: number}} size  of the picture, in its pixels
 * @property {string | null} [lit]  key of the detection to bring out
 * @property {boolean} [dim]  whether the others step back meanwhile
 * @property {Rect[]} [obstacles]  that labels keep off, in CSS pixels of the canvas
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

const GLIDE_MS = 150;
const PULSE_MS = 450;
const FONT = '600 {}px Inter, system-ui, "Noto Sans", sans-serif';
/** @type {[string, string]} */
const PLAIN = ["#ffffff", "#000000"];

export class BoxCanvas {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Scene | null} */
    this.scene = null;
    /** @type {Map<string, Box>} where each box is drawn now, by key */
    this.boxes = new Map();
    /** @type {Map<string, Box>} where it came from */
    this.from = new Map();
    /** @type {Set<string>} */
    this.fresh = new Set();
    this.began = -Infinity;
    this.frame = 0;
    this.cssWidth = 0;
    this.cssHeight = 0;
  }

  /**
   * The canvas has another size, in CSS pixels.
   *
   * @param {number} width
   * @param {number} height
   * @param {number} [ratio]  device pixels to one of them
   */
  resize(width, height, ratio = window.devicePixelRatio || 1) {
    this.cssWidth = width;
    this.cssHeight = height;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paint();
  }

  /**
   * Show a scene. With `animate`, boxes glide to their places and new ones pulse once.
   *
   * @param {Scene} scene
   * @param {boolean} [animate]
   */
  show(scene, animate = false) {
    const now = performance.now();
    this.from = animate ? new Map(this.boxes) : new Map();
    this.fresh = new Set(
      animate ? scene.detections.map((one) => one.key).filter((key) => !this.boxes.has(key)) : [],
    );
    this.boxes = new Map(scene.detections.map((one) => [one.key, one]));
    this.scene = scene;
    this.began = animate ? now : -Infinity;
    this.paint(now);
  }

  /** How the picture lies on the canvas: pixels of the picture to CSS pixels. */
  layout() {
    const { width, height } = this.scene?.size ?? { width: 4, height: 3 };
    const scale = Math.min(this.cssWidth / width, this.cssHeight / height) || 1;
    return {
      scale,
      left: (this.cssWidth - width * scale) / 2,
      top: (this.cssHeight - height * scale) / 2,
    };
  }

  /**
   * The smallest detection under a point of the canvas, in CSS pixels.
   *
   * @param {number} x
   * @param {number} y
   * @returns {Detection | null}
   */
  at(x, y) {
    if (!this.scene) return null;
    const { scale, left, top } = this.layout();
    const [px, py] = [(x - left) / scale, (y - top) / scale];
    const { compared, split = 0.5, size, detections } = this.scene;
    const pool = compared && px < size.width * split ? compared : detections;
    const slack = 4 / scale;
    return pool
      .filter(
        (one) =>
          px >= one.x - slack &&
          px <= one.x + one.width + slack &&
          py >= one.y - slack &&
          py <= one.y + one.height + slack,
      )
      .reduce(
        (best, one) => (!best || one.width * one.height < best.width * best.height ? one : best),
        /** @type {Detection | null} */ (null),
      );
  }

  /** @param {number} [now] */
  paint(now = performance.now()) {
    cancelAnimationFrame(this.frame);
    const { context: pen, scene } = this;
    pen.clearRect(0, 0, this.cssWidth, this.cssHeight);
    if (!scene) return;
    const since = now - this.began;
    const glide = ease(Math.min(Math.max(since / GLIDE_MS, 0), 1));
    const pulse = Math.min(Math.max(since / PULSE_MS, 0), 1);
    const { compared, split = 0.5 } = scene;
    if (compared) {
      const { scale, left } = this.layout();
      const at = left + scene.size.width * scale * split;
      this.#clipped(0, at, () => this.#all(scene, compared, [], 1, 1));
      this.#clipped(at, this.cssWidth, () =>
        this.#all(scene, scene.detections, scene.ghosts ?? [], glide, pulse),
      );
    } else {
      this.#all(scene, scene.detections, scene.ghosts ?? [], glide, pulse);
    }
    if (since < PULSE_MS && (glide < 1 || this.fresh.size))
      this.frame = requestAnimationFrame((time) => this.paint(time));
  }

  /**
   * @param {number} from
   * @param {number} to
   * @param {() => void} draw
   */
  #clipped(from, to, draw) {
    const { context: pen } = this;
    pen.save();
    pen.beginPath();
    pen.rect(from, 0, Math.max(to - from, 0), this.cssHeight);
    pen.clip();
    draw();
    pen.restore();
  }

  /**
   * @param {Scene} scene
   * @param {Detection[]} detections
   * @param {Detection[]} ghosts
   * @param {number} glide
   * @param {number} pulse
   */
  #all(scene, detections, ghosts, glide, pulse) {
    const { context: pen } = this;
    const layout = this.layout();
    const { scale, left, top } = layout;
    /** @param {Box} box */
    const onCanvas = (box) => ({
      x: left + box.x * scale,
      y: top + box.y * scale,
      width: box.width * scale,
      height: box.height * scale,
    });
    const line =
      Math.max(1.5, Math.min(2.5, this.cssWidth / 320)) * (detections.length > 40 ? 0.7 : 1);
    pen.setLineDash([6, 5]);
    for (const ghost of ghosts) {
      const { x, y, width, height } = onCanvas(ghost);
      this.#outline(x, y, width, height, "rgb(0 0 0 / .45)", line + 2);
      this.#outline(x, y, width, height, "rgb(255 255 255 / .95)", line);
    }
    pen.setLineDash([]);
    const places = detections.map((one) => {
      const was = glide < 1 ? this.from.get(one.key) : undefined;
      return onCanvas(was ? between(was, one, glide) : one);
    });
    const dimmed = Boolean(scene.dim) && detections.some((one) => one.key === scene.lit);
    const order = [...detections.keys()].sort(
      (a, b) =>
        Number(detections[a].key === scene.lit) - Number(detections[b].key === scene.lit) ||
        detections[b].width * detections[b].height - detections[a].width * detections[a].height,
    );
    for (const i of order) {
      const { x, y, width, height } = places[i];
      const [color] = scene.colors[detections[i].label] ?? PLAIN;
      const lit = detections[i].key === scene.lit;
      pen.globalAlpha = dimmed && !lit ? 0.45 : 1;
      if (this.fresh.has(detections[i].key) && pulse < 1) {
        const grow = 10 * pulse;
        pen.globalAlpha = 1 - pulse;
        this.#outline(x - grow, y - grow, width + 2 * grow, height + 2 * grow, color, 2);
        pen.globalAlpha = Math.min(1, 2 * pulse);
      }
      if (lit) {
        pen.fillStyle = color;
        pen.globalAlpha = 0.16;
        pen.fillRect(x, y, width, height);
        pen.globalAlpha = 1;
      }
      this.#outline(x, y, width, height, "rgb(0 0 0 / .55)", line + 2);
      this.#outline(x, y, width, height, color, lit ? line + 1 : line);
    }
    pen.globalAlpha = 1;
    this.#labels(scene, detections, places, layout, dimmed);
  }

  /**
   * @param {Scene} scene
   * @param {Detection[]} detections
   * @param {Rect[]} places
   * @param {{scale: number, left: number, top: number}} layout
   * @param {boolean} dimmed
   */
  #labels(scene, detections, places, { scale, left, top }, dimmed) {
    const { context: pen } = this;
    const crowded = detections.length > FULL_LABELS;
    const font = Math.round(Math.min(14, Math.max(11, this.cssWidth / 60)));
    const pad = Math.round(font * 0.45);
    pen.font = FONT.replace("{}", String(font));
    pen.textBaseline = "middle";
    const shown = detections
      .map((one, i) => ({ one, i, lit: one.key === scene.lit }))
      .sort((a, b) => Number(b.lit) - Number(a.lit))
      .filter(({ lit }, rank) => lit || rank < MOST_LABELS)
      .map(({ one, i, lit }) => {
        const score = String(Math.round(100 * one.score));
        const text = crowded && !lit ? score : `${one.label} ${score}`;
        const width = Math.ceil(pen.measureText(text).width) + 2 * pad;
        return { one, text, lit, width, height: Math.round(font * 1.6), box: places[i] };
      });
    const frame = {
      x: left,
      y: top,
      width: scene.size.width * scale,
      height: scene.size.height * scale,
    };
    const spots = placeLabels(shown, frame, scene.obstacles, !crowded);
    shown.forEach(({ one, text, lit, box }, n) => {
      const spot = spots[n] ?? (lit ? { x: box.x, y: box.y, width: 0, height: 0 } : null);
      if (!spot) return;
      const { width, height } = shown[n];
      const [color, ink] = scene.colors[one.label] ?? PLAIN;
      pen.globalAlpha = dimmed && !lit ? 0.45 : 1;
      pen.fillStyle = color;
      pen.beginPath();
      pen.roundRect(spot.x, spot.y, width, height, height / 3);
      pen.fill();
      pen.fillStyle = ink;
      pen.fillText(text, spot.x + pad, spot.y + height / 2 + 0.5);
    });
    pen.globalAlpha = 1;
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} width
   * @param {number} height
   * @param {string} color
   * @param {number} line
   */
  #outline(x, y, width, height, color, line) {
    const { context: pen } = this;
    pen.strokeStyle = color;
    pen.lineWidth = line;
    pen.beginPath();
    pen.roundRect(x, y, Math.max(width, 1), Math.max(height, 1), 3);
    pen.stroke();
  }
}

/** @param {number} t */
const ease = (t) => 1 - (1 - t) ** 3;

/**
 * @param {Box} a
 * @param {Box} b
 * @param {number} t
 * @returns {Box}
 */
const between = (a, b, t) => ({
  x: a.x + (b.x - a.x) * t,
  y: a.y + (b.y - a.y) * t,
  width: a.width + (b.width - a.width) * t,
  height: a.height + (b.height - a.height) * t,
});
