import { AppElement, define, escapeText } from "../lib/element.js";
import { countClasses, histogram, select } from "../lib/predictions.js";
import { shown } from "../lib/view_model.js";

const BINS = 40;

/**
 * The threshold over the histogram of scores, the classes as chips, and "Hide duplicates".
 *
 * @typedef {import("../lib/types.js").State} State
 */
class RtConfidence extends AppElement {
  /** What stands as chips. */
  markup = "";

  render() {
    this.innerHTML = `
      <section class="card" aria-labelledby="confidence-title">
        <div class="row">
          <h2 id="confidence-title">Confidence</h2>
          <output for="threshold"></output>
        </div>
        <div class="scores">
          <div class="bars" aria-hidden="true">${"<i></i>".repeat(BINS)}</div>
          <input id="threshold" type="range" min="0" max="1" step="0.01" aria-label="Confidence threshold" />
          <i class="handle" aria-hidden="true"></i>
        </div>
        <div class="chips" role="group" aria-label="Classes"></div>
      </section>`;
    const { store } = this.app;
    const input = this.$("#threshold", HTMLInputElement);
    this.on(input, "input", () =>
      store.set({ threshold: Number(input.value), thresholdChosen: true }),
    );
    this.on(this.$(".chips"), "click", (event) => {
      const { label, act } = event.target.closest("button")?.dataset ?? {};
      const { hidden, hideDuplicates } = store.get();
      if (act === "duplicates") store.set({ hideDuplicates: !hideDuplicates });
      else if (act === "all") store.set({ hidden: new Set() });
      else if (label !== undefined) {
        const next = new Set(hidden);
        if (!next.delete(label)) next.add(label);
        store.set({ hidden: next });
      }
    });
    this.follow(["threshold"], ({ threshold }) => {
      input.value = String(threshold);
      this.$("output").textContent = threshold.toFixed(2);
      this.$(".handle").style.left = `${100 * threshold}%`;
    });
    this.follow(["result", "depth"], (state) => this.#bars(state));
    this.follow(["result", "depth", "threshold", "hidden", "hideDuplicates"], (state) =>
      this.#chips(state),
    );
  }

  /** @param {State} state */
  #bars({ result, depth }) {
    if (!result || !hasLayer(result, depth)) return;
    const counts = histogram(result.predictions, depth, BINS);
    const most = Math.log1p(Math.max(...counts, 1));
    this.$$(".bars i").forEach((bar, i) => {
      bar.style.height = `${(100 * Math.log1p(counts[i])) / most}%`;
    });
  }

  /** @param {State} state */
  #chips(state) {
    const { result, depth, threshold, hidden, hideDuplicates, source, video } = state;
    const all = shown(state);
    if (!result || !all || !hasLayer(result, depth)) return;
    let counts = countClasses(select(result.predictions, depth, threshold));
    // In a clip every class of it keeps its place, whatever this frame shows.
    if (source === "video" && video?.outcome)
      counts = video.outcome.labels.map((name) => [name, new Map(counts).get(name) ?? 0]);
    for (const label of hidden)
      if (!counts.some(([name]) => name === label)) counts.push([label, 0]);
    const chips = counts.map(([label]) => {
      const [color] = result.colors[label] ?? ["#888"];
      return (
        `<button type="button" data-label="${escapeText(label)}" aria-pressed="${!hidden.has(label)}">` +
        `<i style="background:${color}"></i>${escapeText(label)} <b></b></button>`
      );
    });
    this.#put(
      (chips.length
        ? chips.join("")
        : '<span class="hint">No detections above this threshold.</span>') +
        (hidden.size
          ? '<button type="button" data-act="all" class="plain">Show all</button>'
          : "") +
        `<button type="button" data-act="duplicates" class="toggle" aria-pressed="${hideDuplicates}" ` +
        `title="Boxes of the same class with an IoU above 0.7: only the best one is kept">` +
        `${hideDuplicates ? "Duplicates hidden" : "Hide duplicates"} <b></b></button>`,
    );
    const numbers = [...counts.map(([, count]) => count), all.duplicates[depth - 1]];
    this.$$(".chips b").forEach((place, i) => (place.textContent = String(numbers[i])));
  }

  /**
   * The chips themselves stay from frame to frame, so that they can be clicked.
   *
   * @param {string} markup
   */
  #put(markup) {
    if (this.markup === markup) return;
    this.markup = markup;
    const root = /** @type {ShadowRoot} */ (this.getRootNode());
    const focused = this.contains(root.activeElement)
      ? /** @type {HTMLElement} */ (root.activeElement).dataset
      : {};
    this.$(".chips").innerHTML = markup;
    const again = focused.label
      ? this.querySelector(`[data-label="${CSS.escape(focused.label)}"]`)
      : focused.act && this.querySelector(`[data-act="${focused.act}"]`);
    if (again) /** @type {HTMLElement} */ (again).focus();
  }
}

/**
 * @param {import("../lib/types.js").Result} result
 * @param {number} depth
 */
const hasLayer = ({ predictions: { first = 1, layers } }, depth) =>
  depth >= first && depth < first + layers.length;

define("rt-confidence", RtConfidence);
