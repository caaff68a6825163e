import { sentence } from "../lib/actions.js";
import { BoxCanvas } from "../lib/box_canvas.js";
import { kindsOf, paretoChart, pngOf, publishedChart, stagesChart } from "../lib/charts.js";
import { AppElement, create, define, escapeText, saveFile } from "../lib/element.js";
import { circumstances, loaded, pngOfCard } from "../lib/export_card.js";
import { pictureName, stemOf } from "../lib/exporters.js";
import { csv, frontier, knownPoints, LEGEND, reportPoints } from "../lib/lab.js";
import { latencyOf, shown } from "../lib/view_model.js";
import "./rt-versus.js";

/**
 * What depth, queries and input size cost here, against what they find.
 *
 * @typedef {import("../lib/lab.js").Point} Point
 * @typedef {import("../lib/lab.js").Report} Report
 * @typedef {import("../lib/types.js").Result} Result
 */

const WATCH_MS = 500;

class RtLab extends AppElement {
  /** @type {{report: Report, result: Result} | null} what was measured, and of which picture */
  measured = null;
  /** @type {string | null} */
  job = null;
  /** @type {Point[]} */
  points = [];
  boxes = new BoxCanvas(document.createElement("canvas"));
  drawing = 0;

  render() {
    this.innerHTML = `
      <div class="row head">
        <p class="conditions"></p>
        <div class="ways">
          <label>Rounds <select class="rounds" aria-label="Rounds"><option>5</option><option selected>10</option><option>30</option></select></label>
          <label><input type="checkbox" class="pipeline" /> Include transformers pipeline</label>
          <button type="button" class="primary measure">Run benchmark</button>
          <button type="button" class="csv">CSV</button>
          <button type="button" class="png">PNG</button>
        </div>
      </div>
      <div class="way" hidden>
        <progress max="1" aria-label="Progress"></progress><span class="told" role="status"></span>
        <button type="button" class="cancel">Cancel</button>
      </div>
      <p class="problem lab-problem" role="alert" hidden></p>
      <div class="charts">
        <figure class="card pareto"><figcaption><b>Latency and agreement of each setting</b> <span class="hint">agreement: F1 with full depth at IoU 0.5; error bars: spread between runs</span></figcaption><div class="plot"></div></figure>
        <figure class="card preview"><figcaption class="preview-name"></figcaption><div class="picture"><img alt="" /></div></figure>
      </div>
      <div class="card table"><table><thead><tr><th scope="col">Setting</th><th scope="col">ms</th><th scope="col">Agreement</th><th scope="col">Detections</th><th scope="col">Runtime</th><th></th></tr></thead><tbody></tbody></table></div>
      <p class="theirs hint" hidden></p>
      <div class="charts halves">
        <figure class="card stages"><figcaption><b>Latency by stage, full depth</b></figcaption><div class="plot"></div></figure>
        <figure class="card published"><figcaption><b>Published results (not measured here)</b> <span class="hint">NVIDIA T4, TensorRT FP16, batch size 1, 640 px; AP on COCO val2017</span></figcaption><div class="plot"></div></figure>
      </div>`;
    this.$(".picture").append(this.boxes.canvas);
    this.append(create("rt-versus", this.app));
    this.on(this.$(".measure"), "click", () => this.#measure());
    this.on(this.$(".cancel"), "click", () => {
      if (this.job) this.app.rpc?.call("cancel_measure", { id: this.job }).catch(() => undefined);
    });
    this.on(this.$(".csv"), "click", () => this.#save("csv"));
    this.on(this.$(".png"), "click", () => this.#save("png"));
    const body = this.$("tbody");
    const of = (/** @type {Event} */ event) => {
      const row = /** @type {HTMLElement} */ (event.target).closest("tr");
      return row && this.points[Number(row.dataset.index)];
    };
    for (const type of ["pointerover", "focusin"])
      this.on(body, type, (event) => this.#preview(of(event) ?? undefined));
    this.on(body, "click", (event) => {
      const point = of(event);
      if (point && event.target.closest("button")) this.#use(point);
    });
    const observer = new ResizeObserver(() => this.#draw());
    observer.observe(this.$(".pareto"));
    this.atEnd(() => observer.disconnect());
    this.atEnd(() => (this.job = null));
    this.follow(["result", "status", "threshold", "hidden", "hideDuplicates"], () => this.#draw());
  }

  /** @returns {Record<string, number>} */
  get stages() {
    const latency = latencyOf(this.app.store.get(), this.app.config);
    return this.measured?.report.stages ?? latency?.stages_ms ?? {};
  }

  /** @param {"csv" | "png"} form */
  async #save(form) {
    const state = this.app.store.get();
    const result = this.measured?.result ?? state.result;
    if (!result || !this.points.length) return this.#problem("There is nothing to export yet.");
    const report = this.measured?.report ?? null;
    const name = pictureName(result);
    const known = {
      picture: name,
      size: result.predictions,
      latency: report?.latency ?? latencyOf(state, this.app.config),
      conditions: report?.conditions ?? { checkpoint: result.settings.checkpoint },
    };
    const rows = circumstances(known, this.app.config, navigator.userAgent);
    const file = `${stemOf(name)}-speed.${form}`;
    if (form === "csv") {
      const text = csv(this.points, this.stages, report, rows);
      return saveFile(file, new Blob([text], { type: "text/csv" }));
    }
    try {
      const chart = URL.createObjectURL(await pngOf(this.$(".pareto svg", SVGElement), this));
      const card = {
        title: `RT-DETR: latency and agreement of each setting on ${name}`,
        picture: result.picture ? await loaded(result.picture) : undefined,
        chart: await loaded(chart),
        legend: kindsOf(this.points, this),
        lines: [
          ...Object.entries(LEGEND).map(([column, meaning]) => `${column}: ${meaning}`),
          "dashed line: Pareto frontier",
          rows.map(([key, value]) => `${key} ${value}`).join(" · "),
        ],
      };
      saveFile(file, await pngOfCard(card));
      URL.revokeObjectURL(chart);
    } catch (error) {
      this.#problem(sentence(error));
    }
  }

  async #measure() {
    const { rpc, store } = this.app;
    const { result, threshold } = store.get();
    if (!result || !rpc) return;
    if (!result.source)
      return this.#problem("Take a snapshot or open a photo first: live frames are not kept.");
    this.#problem("");
    this.#working({ what: "preparing", share: 0 });
    try {
      const { id } = await rpc.call("measure", {
        ...(result.id ? { result: result.id } : { example: result.source.example }),
        checkpoint: result.settings.checkpoint,
        rounds: Number(this.$(".rounds", HTMLSelectElement).value),
        threshold,
        pipeline: this.$(".pipeline", HTMLInputElement).checked,
      });
      this.job = id;
      const report = await this.#watch(id);
      if (report) this.measured = { report, result };
    } catch (error) {
      this.#problem(sentence(error));
    } finally {
      this.job = null;
      this.$(".way").hidden = true;
      this.$(".measure", HTMLButtonElement).disabled = false;
    }
    this.#draw();
  }

  /**
   * @param {string} id
   * @returns {Promise<Report | null>}
   */
  async #watch(id) {
    while (this.job === id) {
      const answer = await this.app.rpc?.call("measured", { id });
      if (!answer.running) return answer.report;
      if (answer.progress) this.#working(answer.progress);
      await new Promise((done) => setTimeout(done, WATCH_MS));
    }
    return null;
  }

  /** @param {{what: string, share: number}} progress */
  #working({ what, share }) {
    this.$(".measure", HTMLButtonElement).disabled = true;
    this.$(".way").hidden = false;
    this.$("progress", HTMLProgressElement).value = share;
    this.$(".told").textContent =
      `${what[0].toUpperCase()}${what.slice(1)}, ${Math.round(100 * share)}%`;
  }

  /** @param {string} text */
  #problem(text) {
    this.$(".lab-problem").hidden = !text;
    this.$(".lab-problem").textContent = text;
  }

  async #draw() {
    const state = this.app.store.get();
    const { result } = state;
    if (!result || !this.isConnected) return;
    const latency = latencyOf(state, this.app.config);
    const { measured } = this;
    const whole = result.predictions.layers.length === result.depth;
    this.points = measured
      ? reportPoints(measured.report)
      : whole
        ? knownPoints(latency, shown(state))
        : [];
    const conditions = measured?.report.conditions;
    this.$(".conditions").textContent = conditions
      ? `${conditions.checkpoint} on “${measured.result.title}”: ${conditions.device} (${conditions.processor}), ${conditions.precision}, ${conditions.rounds} rounds, interleaved.`
      : !whole
        ? "Live frames are detected at one depth only. Take a snapshot or open a photo to compare depths."
        : latency
          ? `${result.settings.checkpoint} on “${result.title}”, by number of decoder layers; ${latency.from ? `times from ${latency.from}` : `measured on this ${latency.device.toUpperCase()}, ${latency.runtime}`}.`
          : "Measuring latency on this machine …";
    const theirs = measured?.report.lines.find((one) => one.contender.includes("pipeline"));
    this.$(".theirs").hidden = !theirs;
    if (theirs) {
      const full = this.points.findLast(({ kind }) => kind === "layers");
      this.$(".theirs").textContent =
        `transformers pipeline on the same picture: ${theirs.ms.toFixed(0)} ms, ${(theirs.ms / (full?.ms ?? 1)).toFixed(2)} times the latency of full depth here.`;
    }
    for (const part of [this.$(".charts"), this.$(".table")]) part.hidden = !this.points.length;
    this.#rows();
    this.#preview(this.points.at(-1));
    const turn = ++this.drawing;
    const width = this.$(".pareto .plot").clientWidth;
    const options = { width, onPoint: (/** @type {Point} */ point) => this.#preview(point) };
    this.$(".stages").hidden = !Object.keys(this.stages).length;
    const half = this.$(".published .plot").clientWidth;
    const [pareto, stages, published] = await Promise.all([
      paretoChart(this.app, this.points, options),
      stagesChart(this.app, this.stages, half),
      publishedChart(this.app, half),
    ]);
    if (turn !== this.drawing) return;
    this.$(".pareto .plot").replaceChildren(pareto);
    this.$(".stages .plot").replaceChildren(stages);
    this.$(".published .plot").replaceChildren(published);
  }

  #rows() {
    const best = new Set(frontier(this.points));
    this.$("tbody").innerHTML = this.points
      .map(
        (one, i) =>
          `<tr data-index="${i}"><th scope="row">${escapeText(one.name)}${best.has(one) ? ' <span class="best">Pareto</span>' : ""}</th>` +
          `<td>${one.ms.toFixed(1)}${one.spread ? ` ± ${one.spread.toFixed(1)}` : ""}</td><td>${Math.round(100 * one.agreement)}%</td>` +
          `<td>${one.detections.length}</td><td>${escapeText(one.runtime)}</td>` +
          `<td><button type="button" aria-label="Use ${escapeText(one.name)}">Use</button></td></tr>`,
      )
      .join("");
  }

  /** @param {Point} [point] */
  #preview(point) {
    const result = this.measured?.result ?? this.app.store.get().result;
    this.$(".preview").hidden = !point || !result?.picture;
    if (!point || !result?.picture) return;
    const image = this.$(".picture img", HTMLImageElement);
    if (image.src !== result.picture) image.src = result.picture;
    this.$(".preview-name").innerHTML =
      `<b>${escapeText(point.name)}</b> <span class="hint">${point.ms.toFixed(1)} ms, ${point.detections.length} detections</span>`;
    const { width, height } = result.predictions;
    this.$(".picture").style.setProperty("--ratio", `${width / height}`);
    const box = this.$(".picture").getBoundingClientRect();
    this.boxes.resize(box.width, box.height);
    this.boxes.show({
      detections: point.detections,
      colors: result.colors,
      size: { width, height },
    });
    for (const row of this.$$("tbody tr"))
      row.classList.toggle("lit", this.points[Number(row.dataset.index)] === point);
  }

  /** @param {Point} point */
  #use({ kind, value }) {
    const full = this.app.store.get().result?.depth;
    this.app.actions.setShape({
      depth: kind === "layers" ? value : full,
      queries: kind === "queries" ? value : null,
      size: kind === "size" ? value : null,
    });
  }
}

define("rt-lab", RtLab);
