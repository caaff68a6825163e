import { Refusal } from "../lib/detector.js";
import { AppElement, create, define, escapeText } from "../lib/element.js";
import {
  paintBorn,
  paintLooked,
  paintRefined,
  paintSaw,
  paintSilenced,
  stageName,
  tellBorn,
  tellLooked,
  tellRefined,
  tellSilenced,
} from "../lib/inside_panels.js";
import { PANELS, PAPER } from "../lib/inside_text.js";
import { strideOf } from "../lib/inspection.js";
import { Inspector } from "../lib/inspector.js";
import { PictureCanvas } from "../lib/picture_canvas.js";
import { detectionsOf } from "../lib/view_model.js";
import "./rt-tour.js";

/**
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/types.js").Detection} Detection
 * @typedef {import("../lib/inspection.js").Overview} Overview
 * @typedef {import("../lib/inspection.js").Query} Query
 * @typedef {import("../lib/inside_text.js").PanelName} PanelName
 */

const STAGE_MS = 700;
const CHIPS = 12;
const STEPS = /** @type {const} */ ([
  ["backbone", "Backbone"],
  ["aifi", "After AIFI"],
  ["ccff", "After CCFF"],
]);

/** Why the model found the detection that is chosen, in five panels. */
class RtInside extends AppElement {
  /** @type {{overview: Overview, query: Query} | null} */
  found = null;
  /** @type {{result: import("../lib/types.js").Result, key: string} | null} what was shown last */
  asked = null;
  /** @type {HTMLImageElement | null} */
  image = null;
  time = 0;
  /** @type {number | null} */
  scale = null;
  /** @type {number | null} */
  head = null;
  everyone = false;
  turn = 0;
  film = 0;
  /** @type {Map<string, PictureCanvas>} */
  canvases = new Map();

  render() {
    this.inspector = new Inspector(this.app);
    this.innerHTML = `
      <div class="intro">
        <p>Why did the model detect this? <span class="about"></span></p>
        <button type="button" class="primary begin">Take the tour</button>
      </div>
      <div class="chips" role="group" aria-label="Detections"></div>
      <p class="problem" role="alert" hidden></p>
      <p class="waiting" role="status"></p>
      <div class="panels" hidden>
        ${panel("born", `<div class="scales choice" role="group" aria-label="Map"></div><p class="told"></p>`)}
        ${panel(
          "refined",
          `<div class="time"><button type="button" class="play" aria-label="Play">▶</button>
             <input type="range" min="0" max="6" step="0.01" value="6" aria-label="Stage" />
             <output></output></div>
           <div class="who choice" role="group" aria-label="Queries shown">
             <button type="button" aria-pressed="true">This query</button><button type="button" aria-pressed="false">All queries</button>
           </div><div class="told"></div>`,
        )}
        ${panel("looked", `<div class="heads choice" role="group" aria-label="Head"></div><div class="told"></div><p class="tested"></p>`)}
        ${panel("silenced", `<div class="rivals told"></div>`)}
        <section class="card panel saw" aria-labelledby="inside-saw">
          <div class="lead">${heading("saw")}</div><div class="maps"></div>${reading("saw")}
        </section>
      </div>`;
    for (const name of ["born", "refined", "looked", "silenced"])
      this.canvases.set(name, new PictureCanvas(this.$(`.${name} canvas`, HTMLCanvasElement)));
    this.#wire();
    this.follow(["result"], (state) => this.#picture(state));
    this.follow(["result", "depth", "threshold", "hidden", "hideDuplicates", "selected"], (state) =>
      this.#choose(state),
    );
    this.follow(["depth", "threshold"], ({ depth }) => {
      if (Math.max(Math.round(this.time), 1) !== depth) this.#seek(depth);
      else this.#draw();
    });
    const observer = new ResizeObserver(() => this.#draw());
    observer.observe(this.$(".panels"));
    this.atEnd(() => {
      observer.disconnect();
      cancelAnimationFrame(this.film);
    });
  }

  #wire() {
    const { store, actions } = this.app;
    this.on(this.$(".begin"), "click", () => {
      const tour = this.querySelector("rt-tour") ?? create("rt-tour", this.app);
      if (!tour.isConnected) this.append(tour);
    });
    this.on(this.$(".chips"), "click", (event) => {
      const key = event.target.closest("button")?.dataset.key;
      if (key) store.set({ selected: key });
    });
    const slider = this.$(".time input", HTMLInputElement);
    this.on(slider, "input", () => {
      this.#stop();
      actions.stopPlaying();
      this.#seek(Number(slider.value), true);
    });
    this.on(this.$(".time .play"), "click", () => this.#play());
    this.#choices(".scales", (value) => (this.scale = value));
    this.#choices(".heads", (value) => (this.head = value));
    this.#choices(".who", (value) => (this.everyone = value === 1), 0);
  }

  /**
   * Buttons of which one is pressed; they say their number, or null for the first.
   *
   * @param {string} selector
   * @param {(value: number | null) => void} chosen
   * @param {number} [first]  number of the first button; without it the first means null
   */
  #choices(selector, chosen, first = -1) {
    const group = this.$(selector);
    this.on(group, "click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const index = [...group.children].indexOf(button) + first;
      for (const one of group.children) one.setAttribute("aria-pressed", String(one === button));
      chosen(index < 0 ? null : index);
      this.#draw();
    });
  }

  /** @param {State} state */
  #picture({ result }) {
    this.image = null;
    if (!result?.picture) return;
    const image = new Image();
    image.addEventListener("load", () => this.#draw());
    image.src = result.picture;
    this.image = image;
  }

  /** @param {State} state */
  async #choose(state) {
    const { result, selected, depth } = state;
    const all = detectionsOf(state);
    const one = all.find(({ key }) => key === selected) ?? this.#same(state, all) ?? all[0];
    this.#chips(state, all, one);
    const turn = ++this.turn;
    if (!result || !one) {
      this.found = null;
      return this.#tell("", "No detections above this threshold. Lower it or use more layers.");
    }
    this.asked = { result, key: one.key };
    const slow = setTimeout(() => this.#tell("", "Analyzing this picture …"), 200);
    try {
      const found = await this.inspector?.find(result, one, depth);
      if (turn !== this.turn || !found) return;
      this.#show(found, one.label);
      this.#tell();
    } catch (error) {
      if (turn !== this.turn) return;
      if (!(error instanceof Refusal)) throw error;
      this.found = null;
      this.#tell(error.message);
    } finally {
      clearTimeout(slow);
    }
  }

  /**
   * What was shown before, where nothing is selected.
   *
   * @param {State} state
   * @param {Detection[]} all
   */
  #same({ result }, all) {
    return this.asked?.result === result
      ? all.find(({ key }) => key === this.asked?.key)
      : undefined;
  }

  /**
   * @param {string} [problem]
   * @param {string} [waiting]
   */
  #tell(problem = "", waiting = "") {
    this.$(".problem").hidden = !problem;
    this.$(".problem").textContent = problem;
    this.$(".waiting").textContent = waiting;
    if (problem || (waiting && !this.found)) this.$(".panels").hidden = true;
  }

  /**
   * @param {State} state
   * @param {Detection[]} all
   * @param {Detection | undefined} chosen
   */
  #chips({ result }, all, chosen) {
    const shown = all.slice(0, CHIPS);
    if (chosen && !shown.includes(chosen)) shown.push(chosen);
    this.$(".chips").innerHTML = shown
      .map((one) => {
        const [color] = result?.colors[one.label] ?? ["#888"];
        return `<button type="button" data-key="${one.key}" aria-pressed="${one === chosen}"><i style="background:${color}"></i>${escapeText(one.label)} ${one.score.toFixed(2)}</button>`;
      })
      .join("");
    this.color = result?.colors[chosen?.label ?? ""]?.[0] ?? "#5fe0c6";
  }

  /**
   * @param {{overview: Overview, query: Query}} found
   * @param {string} label  of the detection: a query may say two classes, of which `query.label` is
   *   the stronger
   */
  #show(found, label) {
    const { overview, query } = found;
    const isNew = this.found?.overview !== overview;
    this.found = found;
    this.$(".panels").hidden = false;
    const stronger = query.label === label ? "" : ` Its top class is ${query.label}.`;
    this.$(".about").textContent =
      `${label}, query ${query.query + 1} of ${overview.chosen.length} in ${overview.checkpoint}.${stronger}`;
    this.$(".tested").textContent =
      this.app.config.checkpoints.find(({ id }) => id === overview.checkpoint)?.faithfulness ?? "";
    if (isNew) {
      const stages = overview.film.length - 1;
      this.$(".time input", HTMLInputElement).max = String(stages);
      this.time = Math.min(this.app.store.get().depth, stages);
      this.scale = this.head = null;
      this.$(".scales").innerHTML = buttons([
        "All maps",
        ...overview.maps.map((_, map) => `${strideOf(overview, map)} px`),
      ]);
      this.$(".heads").innerHTML = buttons([
        "All heads",
        ...Array.from({ length: query.heads }, (_, head) => String(head + 1)),
      ]);
      this.#maps(overview);
    }
    this.#draw();
  }

  /** @param {Overview} overview */
  #maps(overview) {
    const rows = STEPS.flatMap(([step, words]) =>
      overview.energy[step].map((map, level) => ({ step, words, map, level })),
    ).filter(({ step, level }) => step !== "aifi" || level === overview.energy.aifi.length - 1);
    this.$(".maps").innerHTML = rows
      .map(
        ({ words, map, level }) =>
          `<figure><div><canvas role="img" aria-label="${words}, ${map.width} by ${map.height} cells"></canvas></div><figcaption><b>${words}</b> ${strideOf(overview, level)} px per cell · ${Math.min(...map.values).toFixed(1)} to ${Math.max(...map.values).toFixed(1)}</figcaption></figure>`,
      )
      .join("");
    this.energies = [...this.querySelectorAll(".maps canvas")].map((canvas, i) => ({
      canvas: new PictureCanvas(/** @type {HTMLCanvasElement} */ (canvas)),
      map: rows[i].map,
    }));
  }

  #draw() {
    if (!this.found || this.$(".panels").hidden) return;
    const { threshold } = this.app.store.get();
    const { image, time, scale, head, everyone, color = "#5fe0c6" } = this;
    const scene = { ...this.found, image, time, scale, head, everyone, threshold, color };
    const canvas = (/** @type {string} */ name) =>
      /** @type {PictureCanvas} */ (this.canvases.get(name));
    paintBorn(canvas("born"), scene);
    this.$(".born .told").innerHTML = tellBorn(scene);
    paintRefined(canvas("refined"), scene);
    this.$(".refined .told").innerHTML = tellRefined(scene);
    paintLooked(canvas("looked"), scene);
    this.$(".looked .told").innerHTML = tellLooked(scene);
    paintSilenced(canvas("silenced"), scene);
    this.$(".silenced .told").innerHTML = tellSilenced(scene);
    for (const { canvas: one, map } of this.energies ?? []) paintSaw(one, scene, map);
    const slider = this.$(".time input", HTMLInputElement);
    if (Number(slider.value) !== time) slider.value = String(time);
    const stage = stageName(Math.round(time));
    slider.setAttribute("aria-valuetext", stage);
    this.$(".time output").textContent = stage;
  }

  /**
   * Move the film; with `lead` the ladder's handle comes along.
   *
   * @param {number} time
   * @param {boolean} [lead]
   */
  #seek(time, lead = false) {
    this.time = time;
    const depth = Math.max(Math.round(time), 1);
    if (lead && this.found && depth !== this.app.store.get().depth) this.app.store.set({ depth });
    this.#draw();
  }

  #stop() {
    cancelAnimationFrame(this.film);
    const played = this.film !== 0;
    this.film = 0;
    this.$(".time .play").textContent = "▶";
    this.$(".time .play").setAttribute("aria-label", "Play");
    return played;
  }

  #play() {
    if (this.#stop() || !this.found) return;
    this.app.actions.stopPlaying();
    const last = this.found.overview.film.length - 1;
    const from = this.time >= last ? 0 : this.time;
    const began = performance.now();
    this.$(".time .play").textContent = "■";
    this.$(".time .play").setAttribute("aria-label", "Stop");
    const step = (/** @type {number} */ now) => {
      const time = Math.min(from + Math.max(now - began, 0) / STAGE_MS, last);
      this.#seek(time, true);
      if (time < last) this.film = requestAnimationFrame(step);
      else this.#stop();
    };
    this.film = requestAnimationFrame(step);
  }
}

/** @param {string[]} words */
const buttons = (words) =>
  words.map((one, i) => `<button type="button" aria-pressed="${i === 0}">${one}</button>`).join("");

/** @param {PanelName} name */
function heading(name) {
  const { title, question, sentence, section, anchor } = PANELS[name];
  return `<h2 id="inside-${name}">${title} <span>${question}</span></h2>
    <p class="sentence">${sentence} <a href="${PAPER}#${anchor}" target="_blank" rel="noreferrer">Paper, section ${section}</a></p>`;
}

/** @param {PanelName} name */
const reading = (name) =>
  `<details><summary>How to read this</summary><p>${PANELS[name].reading}</p></details>`;

/**
 * @param {PanelName} name
 * @param {string} controls
 */
const panel = (name, controls) => `
  <section class="card panel ${name}" aria-labelledby="inside-${name}">
    <div class="lead">${heading(name)}</div>
    <div class="picture"><canvas role="img" aria-label="${PANELS[name].question}"></canvas></div>
    <div class="body">${controls}${reading(name)}</div>
  </section>`;

define("rt-inside", RtInside);
