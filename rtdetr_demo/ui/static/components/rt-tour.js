import { AppElement, define, prefersReducedMotion } from "../lib/element.js";
import { TOUR } from "../lib/inside_text.js";

/** A tour of the Inside view: a few words at a time, beside the real controls. */
class RtTour extends AppElement {
  at = 0;
  /** @type {Element | null} */
  lit = null;

  render() {
    this.innerHTML = `
      <div class="card" role="dialog" aria-labelledby="tour-title" aria-describedby="tour-words" tabindex="-1">
        <div class="row"><h2 id="tour-title"></h2><span class="count"></span></div>
        <p id="tour-words"></p>
        <div class="row">
          <button type="button" class="end">End</button>
          <span><button type="button" class="back">Back</button> <button type="button" class="primary next">Next</button></span>
        </div>
      </div>`;
    this.depthBefore = this.app.store.get().depth;
    this.on(this.$(".next"), "click", () => this.#go(this.at + 1));
    this.on(this.$(".back"), "click", () => this.#go(this.at - 1));
    this.on(this.$(".end"), "click", () => this.remove());
    this.on(this, "keydown", (event) => {
      if (event.key === "Escape") this.remove();
      else if (event.key === "ArrowRight") this.#go(this.at + 1);
      else if (event.key === "ArrowLeft") this.#go(this.at - 1);
    });
    this.atEnd(() => {
      this.lit?.classList.remove("toured");
      this.app.store.set({ depth: this.depthBefore });
      /** @type {HTMLElement | null} */ (this.begin)?.focus({ preventScroll: true });
    });
    this.begin = this.parentElement?.querySelector(".begin");
    this.#go(0);
    this.$(".next").focus({ preventScroll: true });
  }

  /** @param {number} step */
  #go(step) {
    if (step >= TOUR.length) return this.remove();
    this.at = Math.max(step, 0);
    const { on, title, words, depth } = TOUR[this.at];
    const { store, actions } = this.app;
    actions.stopPlaying();
    const full = store.get().result?.depth ?? 1;
    if (depth) store.set({ depth: depth < 0 ? full + 1 + depth : Math.min(depth, full) });
    this.$("#tour-title").textContent = title;
    this.$("#tour-words").textContent = words;
    this.$(".count").textContent = `${this.at + 1} of ${TOUR.length}`;
    this.$(".next").textContent = this.at === TOUR.length - 1 ? "Done" : "Next";
    /** @type {HTMLButtonElement} */ (this.$(".back")).disabled = this.at === 0;
    this.lit?.classList.remove("toured");
    const root = /** @type {ShadowRoot} */ (this.getRootNode());
    this.lit = root.querySelector(on);
    this.lit?.classList.add("toured");
    this.lit?.scrollIntoView({
      block: "center",
      behavior: prefersReducedMotion() ? "instant" : "smooth",
    });
  }
}

define("rt-tour", RtTour);
