import { AppElement, create, define, escapeText } from "../lib/element.js";
import { queryHistory } from "../lib/predictions.js";
import { detectionsOf } from "../lib/view_model.js";
import "./rt-export.js";

/**
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/types.js").Detection} Detection
 * @typedef {"label" | "score" | "x" | "y" | "width" | "height" | "area"} Column
 */

/** As many as are in sight. */
const ROWS_AT_ONCE = 12;
/** @type {[Column, string][]} */
const COLUMNS = [
  ["label", "Class"],
  ["score", "Score"],
  ["x", "x"],
  ["y", "y"],
  ["width", "Width"],
  ["height", "Height"],
  ["area", "Area"],
];

/** The table of what is shown, each with its score across the layers. */
class RtDetections extends AppElement {
  /** @type {{key: Column, descending: boolean}} */
  sort = { key: "score", descending: true };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  tail = undefined;

  render() {
    this.innerHTML = `
      <div class="table" tabindex="0" role="region" aria-label="Detections">
        <table>
          <thead><tr>${COLUMNS.map(
            ([key, title]) =>
              `<th scope="col" data-key="${key}" aria-sort="none"><button type="button">${title}</button></th>`,
          ).join("")}<th scope="col">Score by layer</th></tr></thead>
          <tbody></tbody>
        </table>
      </div>
      <aside>
        <p class="hint">Click a box or a row to see it layer by layer.</p>
        <div class="history" aria-live="polite"></div>
      </aside>`;
    this.$("aside").prepend(create("rt-export", this.app));
    const { store } = this.app;
    const body = this.$("tbody");
    this.on(this.$("thead"), "click", (event) => {
      const key = /** @type {Column | undefined} */ (event.target.closest("th")?.dataset.key);
      if (!key) return;
      const descending = this.sort.key === key ? !this.sort.descending : key !== "label";
      this.sort = { key, descending };
      this.#rows(store.get());
    });
    const keyOf = (/** @type {Event} */ event) =>
      /** @type {HTMLElement} */ (event.target).closest("tr")?.dataset.key ?? null;
    this.on(body, "pointerover", (event) => store.set({ hovered: keyOf(event) }));
    this.on(body, "pointerleave", () => store.set({ hovered: null }));
    this.on(body, "click", (event) => store.set({ selected: keyOf(event) }));
    this.follow(["result", "depth", "threshold", "hidden", "hideDuplicates"], (state) =>
      this.#rows(state),
    );
    this.follow(["hovered", "selected"], (state) => this.#light(state));
    this.follow(["result", "selected", "depth"], (state) => this.#history(state));
  }

  /** @param {State} state */
  #rows(state) {
    const { result } = state;
    if (!result) return;
    const whole = result.predictions.width * result.predictions.height;
    const rows = detectionsOf(state).map((one, index) => ({
      ...one,
      index,
      area: (one.width * one.height) / whole,
    }));
    const { key, descending } = this.sort;
    rows.sort((a, b) => {
      const order =
        key === "label" ? a.label.localeCompare(b.label) : Number(a[key]) - Number(b[key]);
      return (descending ? -order : order) || a.index - b.index;
    });
    const body = this.$("tbody");
    const markup = (/** @type {typeof rows} */ some) =>
      some.map((row) => this.#row(row, row.area, state)).join("");
    body.innerHTML = rows.length
      ? markup(rows.slice(0, ROWS_AT_ONCE))
      : '<tr class="none"><td colspan="8">No detections above this threshold. Lower it to see more.</td></tr>';
    clearTimeout(this.tail);
    // A long table's tail waits until the picture has been painted.
    if (rows.length > ROWS_AT_ONCE)
      this.tail = setTimeout(
        () => body.insertAdjacentHTML("beforeend", markup(rows.slice(ROWS_AT_ONCE))),
        80,
      );
    for (const head of this.$$("th[data-key]"))
      head.setAttribute(
        "aria-sort",
        head.dataset.key === key
          ? descending ? "descending" : "ascending"
          : "none",
      ); // prettier-ignore
    this.#light(state);
  }

  /**
   * @param {Detection} one
   * @param {number} area
   * @param {State} state
   */
  #row(one, area, { result, depth }) {
    if (!result) return "";
    const [color] = result.colors[one.label] ?? ["#888"];
    const cells = [one.x, one.y, one.width, one.height].map((v) => `<td>${Math.round(v)}</td>`);
    return (
      `<tr data-key="${one.key}"><th scope="row"><button type="button"><i style="background:${color}"></i>${escapeText(one.label)}</button></th>` +
      `<td>${one.score.toFixed(2)}</td>${cells.join("")}<td>${(100 * area).toFixed(1)}%</td>` +
      `<td class="line">${spark(queryHistory(result.predictions, one), depth)}</td></tr>`
    );
  }

  /** @param {State} state */
  #light({ hovered, selected }) {
    for (const row of this.$$(".table tbody tr")) {
      row.classList.toggle("lit", row.dataset.key === hovered);
      row.classList.toggle("chosen", row.dataset.key === selected);
    }
  }

  /** @param {State} state */
  #history(state) {
    const { result, selected } = state;
    const one = selected && detectionsOf(state).find((found) => found.key === selected);
    const box = this.$(".history");
    this.$(".hint").hidden = Boolean(one);
    if (!result || !one) {
      box.innerHTML = "";
      return;
    }
    const rows = queryHistory(result.predictions, one)
      .map(
        ({ layer, score, iou }) =>
          `<tr class="${layer === state.depth ? "now" : ""}"><th scope="row">${layer}</th><td>${score === null ? "–" : score.toFixed(2)}</td>` +
          `<td>${iou === null ? "" : iou.toFixed(2)}</td></tr>`,
      )
      .join("");
    box.innerHTML =
      `<table><caption>${escapeText(one.label)}, query ${one.query}</caption><thead><tr>` +
      `<th scope="col">Layer</th><th scope="col">Score</th><th scope="col">IoU with final box</th></tr></thead><tbody>${rows}</tbody></table>`;
  }
}

/**
 * Scores across the layers, as a small line.
 *
 * @param {ReturnType<typeof queryHistory>} steps
 * @param {number} depth
 */
function spark(steps, depth) {
  const [width, height] = [96, 26];
  const x = (/** @type {number} */ i) => 3 + (i * (width - 6)) / Math.max(steps.length - 1, 1);
  const y = (/** @type {number | null} */ score) => height - 3 - (score ?? 0) * (height - 6);
  const points = steps.map(({ score }, i) => `${x(i).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  const at = steps.findIndex(({ layer }) => layer === depth);
  const dot = at < 0 ? "" : `<circle cx="${x(at)}" cy="${y(steps[at].score)}" r="2.6"/>`;
  const words = steps.map(({ score }) => (score === null ? "none" : score.toFixed(2))).join(", ");
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Scores by layer: ${words}"><polyline points="${points}"/>${dot}</svg>`;
}

define("rt-detections", RtDetections);
