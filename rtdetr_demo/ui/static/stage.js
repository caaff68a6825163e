// The picture with boxes over it, as one SVG: the same for photos, snapshots and live frames.

const escapeText = (text) =>
  String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

// Past this many boxes, labels would only hide the picture: the weaker ones show theirs when lit.
const LABELS_AT_ONCE = 80;

class Stage {
  /** `element` is the frame; `onHover(index or null)` hears which detection is pointed at. */
  constructor(element, onHover) {
    this.element = element;
    // Ids are the document's, and a page may hold several stages.
    const id = `stage-${Math.random().toString(36).slice(2)}`;
    element.insertAdjacentHTML(
      "afterbegin",
      `<svg viewBox="0 0 4 3" preserveAspectRatio="xMidYMid meet" aria-hidden="true">
        <defs>
          <clipPath id="${id}-front" class="clip-front"><rect x="0" y="0" /></clipPath>
          <clipPath id="${id}-back" class="clip-back"><rect x="0" y="0" /></clipPath>
        </defs>
        <image x="0" y="0" />
        <g clip-path="url(#${id}-back)"><g class="back"></g></g>
        <g clip-path="url(#${id}-front)"><g class="front"></g></g>
        <line class="divider" />
      </svg>`,
    );
    this.svg = element.querySelector("svg");
    this.image = this.svg.querySelector("image");
    this.front = this.svg.querySelector(".front");
    this.back = this.svg.querySelector(".back");
    this.ruler = document.createElement("canvas").getContext("2d");
    this.widths = new Map();
    this.size = { width: 4, height: 3 };
    this.colors = {};
    this.shown = [[], null];
    this.split = 0.5;
    this.frame = element.getBoundingClientRect();
    new ResizeObserver(([entry]) => {
      this.frame = entry.contentRect;
      this.redraw();
    }).observe(element);
    const point = (event) => {
      const group = event.target.closest?.(".front .detection");
      onHover(group ? Number(group.dataset.index) : null);
    };
    this.front.addEventListener("pointerover", point);
    this.front.addEventListener("pointerout", () => onHover(null));
  }

  /** Draw over something of this size in pixels, as large as the frame allows. */
  setSize(width, height) {
    this.size = { width, height };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Show a picture (any URL an <image> takes) of this size in pixels. */
  setPicture(url, width, height) {
    this.setSize(width, height);
    this.image.setAttribute("width", width);
    this.image.setAttribute("height", height);
    this.image.setAttribute("href", url);
    this.element.classList.add("filled");
  }

  /** Draw detections; with `compared`, those lie left of the divider and `detections` right of it. */
  draw(detections, colors, compared = null) {
    this.shown = [detections, compared];
    this.colors = colors;
    this.redraw();
  }

  /** The divider of a comparison, 0 (left edge) to 1. */
  setSplit(split) {
    this.split = split;
    this.placeDivider();
  }

  light(index) {
    this.svg.classList.toggle("lit", index !== null);
    this.front.querySelector(".detection.lit")?.classList.remove("lit");
    const group = index === null ? null : this.front.querySelector(`[data-index="${index}"]`);
    if (!group) return;
    group.classList.add("lit");
    if (!group.querySelector(".tag"))
      group.insertAdjacentHTML("beforeend", this.labelMarkup(this.shown[0][index], this.layout));
  }

  redraw() {
    const { width, height } = this.size;
    const scale = Math.min(this.frame.width / width, this.frame.height / height) || 1;
    const font = Math.min(Math.max(width * scale * 0.018, 11), 16);
    this.layout = { font: font / scale, pad: 3 / scale, scale, fontPx: font };
    const [detections, compared] = this.shown;
    this.front.innerHTML = this.markup(detections, this.layout);
    this.back.innerHTML = compared ? this.markup(compared, this.layout) : "";
    this.placeDivider();
  }

  placeDivider() {
    const { width, height } = this.size;
    const comparing = this.shown[1] !== null;
    const x = width * this.split;
    const place = (name, from, to) => {
      const rect = this.svg.querySelector(`.${name} rect`);
      rect.setAttribute("x", from);
      rect.setAttribute("width", Math.max(to - from, 0));
      rect.setAttribute("height", height);
    };
    place("clip-front", comparing ? x : 0, width);
    place("clip-back", 0, x);
    const line = this.svg.querySelector(".divider");
    line.style.display = comparing ? "" : "none";
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", 0], ["y2", height]])
      line.setAttribute(name, value);
  }

  /** SVG of detections, the smallest on top, so that each can be pointed at. */
  markup(detections, layout) {
    const area = (i) => detections[i].width * detections[i].height;
    return [...detections.keys()]
      .sort((a, b) => area(b) - area(a))
      .map((i) => this.detectionMarkup(detections[i], i, layout))
      .join("");
  }

  detectionMarkup(detection, index, layout) {
    const { label, score, x, y, width, height } = detection;
    const [fill] = this.colorsOf(label);
    const rect = `x="${x}" y="${y}" width="${width}" height="${height}"`;
    return (
      `<g class="detection" data-index="${index}" data-label="${escapeText(label)}" data-score="${score}">` +
      `<rect class="halo" ${rect}/><rect class="box" ${rect} stroke="${fill}" style="--fill:${fill}"/>` +
      (index < LABELS_AT_ONCE ? this.labelMarkup(detection, layout) : "") +
      `</g>`
    );
  }

  labelMarkup({ label, score, x, y }, { font, pad, scale, fontPx }) {
    const [fill, ink] = this.colorsOf(label);
    const text = `${label} ${Math.round(score * 100)}%`;
    const width = this.textWidth(text, fontPx) / scale + 2 * pad;
    const height = font * 1.35;
    const left = Math.max(0, Math.min(x, this.size.width - width));
    const top = y >= height ? y - height : Math.min(y, this.size.height - height);
    return (
      `<rect class="tag" x="${left}" y="${top}" width="${width}" height="${height}" fill="${fill}"/>` +
      `<text x="${left + pad}" y="${top + font}" font-size="${font}" fill="${ink}">${escapeText(text)}</text>`
    );
  }

  colorsOf(label) {
    return this.colors[label] || ["#ffffff", "#000000"];
  }

  textWidth(text, fontPx) {
    const key = `${fontPx}|${text}`;
    if (!this.widths.has(key)) {
      if (this.widths.size > 5000) this.widths.clear();
      this.ruler.font = `600 ${fontPx}px system-ui, sans-serif`;
      this.widths.set(key, this.ruler.measureText(text).width);
    }
    return this.widths.get(key);
  }
}
