import { BoxCanvas } from "../lib/box_canvas.js";
import { AppElement, create, define, prefersReducedMotion } from "../lib/element.js";
import { detectionsOf, shown } from "../lib/view_model.js";
import { SOURCES } from "../lib/views.js";
import "./rt-filmstrip.js";

/** @type {Record<string, number>} */
const STEP_KEYS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
/** @type {Record<string, number>} */
const DIVIDER_KEYS = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 };

/**
 * The picture with boxes over it, whatever its source. `drawn` is what the canvas shows: the
 * detections and the ghosts.
 *
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/types.js").Detection} Detection
 */
class RtStage extends AppElement {
  /** @type {{detections: Detection[], ghosts: Detection[]}} */
  drawn = { detections: [], ghosts: [] };
  /** @type {import("../lib/labels.js").Rect[] | null} */
  obstacles = null;
  boxes = new BoxCanvas(document.createElement("canvas"));
  dragging = false;
  /** @type {import("../lib/types.js").Result | null} */
  lastResult = null;
  lastDepth = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  waiting = undefined;

  get frame() {
    return this.$(".frame");
  }

  render() {
    const offered = SOURCES.filter((one) => this.app.rpc || !one.needsServer);
    const sources = [{ name: "photo", title: "Photo" }, ...offered];
    this.innerHTML = `
      <p class="problem" role="alert" hidden></p>
      <div class="frame" tabindex="0" role="group">
        <canvas class="backdrop" width="48" height="36" aria-hidden="true"></canvas>
        <div class="media"><img alt="" hidden /></div>
        <div class="divider" role="slider" tabindex="0" aria-label="Comparison divider" aria-valuemin="0" aria-valuemax="100" hidden><i></i></div>
        <span class="side left" hidden></span><span class="side right" hidden></span>
        <div class="busy" role="status" hidden><i class="spinner"></i><span></span></div>
        <div class="top">
          <div class="sources" role="tablist" aria-label="Source" ${sources.length > 1 ? "" : "hidden"}>${sources
            .map(
              ({ name, title }) =>
                `<button type="button" role="tab" data-source="${name}">${title}</button>`,
            )
            .join("")}</div>
          <button type="button" class="add" aria-haspopup="dialog">+ Your picture</button>
        </div>
      </div>`;
    this.append(create("rt-filmstrip", this.app));
    this.boxes.canvas.setAttribute("aria-hidden", "true");
    this.$(".media").after(this.boxes.canvas);
    this.#wire();
    this.follow(["source"], (state) => this.#showSource(state));
    this.follow(["result"], (state) => this.#showPicture(state));
    this.follow(
      [
        "result",
        "depth",
        "threshold",
        "hidden",
        "hideDuplicates",
        "compare",
        "split",
        "hovered",
        "selected",
      ],
      (state) => this.#draw(state),
    );
    this.follow(["busy"], ({ busy }) => this.#busy(busy));
    this.follow(["problem"], ({ problem }) => {
      this.$(".problem").hidden = !problem;
      this.$(".problem").textContent = problem;
    });
  }

  #wire() {
    const { store } = this.app;
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(this.frame);
    observer.observe(this.$("rt-filmstrip"));
    this.atEnd(() => observer.disconnect());
    this.on(this.$(".media > img"), "load", () => this.#paintBackdrop());
    this.on(this.$(".add"), "click", async () => {
      await import("./rt-add-picture.js");
      const dialog = this.querySelector("rt-add-picture") ?? create("rt-add-picture", this.app);
      if (!dialog.isConnected) this.append(dialog);
      /** @type {any} */ (dialog).open();
    });
    this.on(this.$(".sources"), "click", (event) => {
      const name = event.target.closest("button")?.dataset.source;
      if (name) store.set({ source: name, problem: "" });
    });
    tabsByArrows(this, this.$(".sources"));
    const under = (/** @type {PointerEvent} */ event) => {
      const box = this.frame.getBoundingClientRect();
      return this.boxes.at(event.clientX - box.left, event.clientY - box.top);
    };
    this.on(this.frame, "pointermove", (event) => {
      if (!this.dragging) store.set({ hovered: under(event)?.key ?? null });
    });
    this.on(this.frame, "pointerleave", () => store.set({ hovered: null }));
    this.on(this.frame, "click", (event) => {
      if (event.target.closest?.(".divider, .top")) return;
      store.set({ selected: under(event)?.key ?? null });
    });
    this.on(this.frame, "keydown", (event) => this.#step(event));
    this.#wireDivider();
  }

  #wireDivider() {
    const { store } = this.app;
    const divider = this.$(".divider");
    const move = (/** @type {PointerEvent} */ event) => {
      const box = this.frame.getBoundingClientRect();
      const { scale, left } = this.boxes.layout();
      const width = (this.boxes.scene?.size.width ?? 1) * scale;
      store.set({ split: Math.min(1, Math.max(0, (event.clientX - box.left - left) / width)) });
    };
    this.on(divider, "pointerdown", (event) => {
      this.dragging = true;
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
      divider.focus();
    });
    this.on(divider, "pointermove", (event) => this.dragging && move(event));
    for (const type of ["pointerup", "pointercancel"])
      this.on(divider, type, () => (this.dragging = false));
    this.on(divider, "keydown", (event) => {
      const by = DIVIDER_KEYS[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      store.set({ split: Math.min(1, Math.max(0, store.get().split + by)) });
    });
  }

  /**
   * Arrow keys on the stage step through the detections; Enter opens one.
   *
   * @param {KeyboardEvent} event
   */
  #step(event) {
    if (event.target !== this.frame) return;
    const { store } = this.app;
    const found = detectionsOf(store.get());
    if (event.key === "Escape") return store.set({ hovered: null, selected: null });
    if (event.key === "Enter") return store.set({ selected: store.get().hovered });
    const move = STEP_KEYS[event.key];
    if (!move || !found.length) return;
    event.preventDefault();
    const at = found.findIndex((one) => one.key === store.get().hovered);
    const next =
      at < 0 ? (move > 0 ? 0 : found.length - 1) : (at + move + found.length) % found.length;
    store.set({ hovered: found[next].key });
    const { label, score } = found[next];
    this.frame.setAttribute(
      "aria-label",
      `${next + 1} of ${found.length}: ${label}, ${Math.round(100 * score)} percent`,
    );
  }

  /** @param {State} state */
  async #showSource({ source }) {
    for (const tab of this.$$(".sources button")) {
      const chosen = tab.dataset.source === source;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.dataset.source = source;
    const media = this.$(".media");
    for (const other of media.querySelectorAll("[data-of]"))
      if (/** @type {HTMLElement} */ (other).dataset.of !== source) other.remove();
    const entry = SOURCES.find((one) => one.name === source);
    if (!entry || media.querySelector(`[data-of="${source}"]`)) return;
    await entry.load();
    if (this.app.store.get().source !== source) return;
    const element = create(entry.element, this.app);
    element.dataset.of = source;
    media.append(element);
  }

  /** @param {State} state */
  #showPicture({ result }) {
    const image = this.$(".media > img", HTMLImageElement);
    image.hidden = !result?.picture;
    if (result?.picture && image.src !== result.picture) {
      image.src = result.picture;
      image.alt = result.title;
    }
  }

  /** The picture, out of focus: small, so that the browser's own scaling blurs it, once. */
  #paintBackdrop() {
    const { width, height } = this.$(".backdrop", HTMLCanvasElement);
    const image = this.$(".media > img", HTMLImageElement);
    const scale = 1.15 * Math.max(width / image.naturalWidth, height / image.naturalHeight);
    const [w, h] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const pen = this.$(".backdrop", HTMLCanvasElement).getContext("2d");
    if (!pen) return;
    pen.clearRect(0, 0, width, height);
    pen.filter = "blur(1.5px)";
    pen.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  }

  /** @param {State} state */
  #draw(state) {
    const { result, depth, compare, split } = state;
    const all = shown(state);
    if (!result || !all) return;
    const detections = all.byDepth[depth - 1] ?? [];
    const ghosts = compare ? [] : (all.agreements[depth - 1]?.lost ?? []);
    const sameScene = this.lastResult === result && this.boxes.scene !== null;
    const moved = sameScene && this.lastDepth !== depth;
    this.lastResult = result;
    this.lastDepth = depth;
    this.drawn = { detections, ghosts };
    this.boxes.show(
      {
        detections,
        ghosts,
        compared: compare ? (all.byDepth[compare - 1] ?? []) : null,
        split,
        colors: result.colors,
        size: result.predictions,
        lit: state.hovered ?? state.selected,
        dim: state.hovered !== null,
        obstacles: this.#obstacles(),
      },
      moved && !prefersReducedMotion() && state.source === "photo",
    );
    if (!this.frame.matches(":focus"))
      this.frame.setAttribute(
        "aria-label",
        `${result.title}: ${detections.length} detections after ${depth} of ${result.depth} decoder ` +
          "layers. Use the arrow keys to step through them.",
      );
    this.#placeDivider(state);
  }

  /** @param {State} state */
  #placeDivider({ compare, split, depth }) {
    const { scale, left } = this.boxes.layout();
    const width = (this.boxes.scene?.size.width ?? 1) * scale;
    const divider = this.$(".divider");
    divider.hidden = compare === null;
    divider.style.left = `${left + width * split}px`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * split)));
    for (const [name, layer] of /** @type {const} */ ([
      ["left", compare],
      ["right", depth],
    ])) {
      const side = this.$(`.side.${name}`);
      side.hidden = compare === null;
      side.textContent = `${layer} layer${layer === 1 ? "" : "s"}`;
      side.style.left = `${left + width * split}px`;
    }
  }

  /**
   * What lies over the picture, so that no label lies under it; asked of the browser once for each
   * size of the frame, as the answer costs a layout.
   */
  #obstacles() {
    return (this.obstacles ??= this.#findObstacles());
  }

  #findObstacles() {
    const origin = this.frame.getBoundingClientRect();
    return [this.$(".sources"), this.$(".add"), this.$("rt-filmstrip")]
      .map((element) => element.getBoundingClientRect())
      .filter(({ width }) => width)
      .map(({ left, top, width, height }) => ({
        x: left - origin.left,
        y: top - origin.top,
        width,
        height,
      }));
  }

  #resize() {
    const { width, height } = this.frame.getBoundingClientRect();
    this.obstacles = null;
    this.boxes.resize(width, height);
    this.lastResult = null; // no motion: everything lies elsewhere now
    this.#draw(this.app.store.get());
  }

  /** @param {string} text */
  #busy(text) {
    clearTimeout(this.waiting);
    this.frame.setAttribute("aria-busy", String(Boolean(text)));
    if (!text) {
      this.$(".busy").hidden = true;
      return;
    }
    this.waiting = setTimeout(() => {
      this.$(".busy").hidden = false;
      this.$(".busy span").textContent = `${text} …`;
    }, 250);
  }
}

/**
 * Arrow keys move between the tabs of a list, Home and End to its ends.
 *
 * @param {AppElement} owner
 * @param {HTMLElement} list
 */
export function tabsByArrows(owner, list) {
  owner.on(list, "keydown", (event) => {
    const tabs = /** @type {HTMLElement[]} */ ([...list.querySelectorAll('[role="tab"]')]);
    const at = tabs.indexOf(event.target);
    /** @type {Record<string, number>} */
    const targets = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    const to = targets[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
}

define("rt-stage", RtStage);
