import { AppElement, create, define, escapeText } from "../lib/element.js";
import { SOURCES } from "../lib/views.js";
import "./rt-confidence.js";
import "./rt-ladder.js";
import "./rt-runtime.js";
import "./rt-stage.js";
import "./rt-views.js";

/** The whole page: header, stage, controls, views. */
class RtApp extends AppElement {
  render() {
    this.innerHTML = `
      <header class="head">
        <h1>RT-DETR, layer by layer</h1>
        <p>Use fewer decoder layers. See the trade-off.</p>
        <button type="button" class="pill" aria-haspopup="dialog">
          <i class="dot" aria-hidden="true"></i><span class="pill-text"></span>
        </button>
      </header>
      <main>
        <div class="bench">
          <div class="controls"></div>
          <div class="panel"></div>
        </div>
        <div class="below"></div>
      </main>`;
    this.$(".pill").before(create("rt-runtime", this.app));
    this.$(".bench").prepend(create("rt-stage", this.app));
    this.$(".controls").append(create("rt-ladder", this.app), create("rt-confidence", this.app));
    this.$(".below").append(create("rt-views", this.app));
    this.follow(["status", "result", "checkpoint"], () => this.#pill());
    this.follow(["source"], ({ source }) => this.#panel(source));
    this.on(this.$(".pill"), "click", () => this.#sheet());
    for (const type of ["dragenter", "dragover"])
      this.on(window, type, (event) => {
        event.preventDefault();
        this.classList.add("over");
      });
    this.on(window, "dragleave", (event) => {
      if (!event.relatedTarget) this.classList.remove("over");
    });
    this.on(window, "drop", (event) => this.#drop(event));
    this.on(window, "paste", (event) => this.#paste(event));
  }

  /**
   * What a source has to say or to ask stands under the stage; where all is in one column, under the
   * ladder.
   *
   * @param {string} source
   */
  async #panel(source) {
    const place = this.$(".bench > .panel");
    for (const other of this.$$(".panel > *")) if (other.dataset.of !== source) other.remove();
    const entry = SOURCES.find((one) => one.name === source);
    if (!entry?.panel || place.firstElementChild) return;
    await entry.load();
    if (this.app.store.get().source !== source) return;
    const panel = create(entry.panel, this.app);
    panel.dataset.of = source;
    place.replaceChildren(panel);
  }

  #pill() {
    const { status, result } = this.app.store.get();
    const { config } = this.app;
    const id = result?.settings.checkpoint ?? status?.serving ?? config.serving;
    const info = config.checkpoints.find((one) => one.id === id);
    const running = status?.download?.running;
    const state = running
      ? "busy"
      : (status?.missing ?? config.serving !== config.wanted)
        ? "away"
        : "ok";
    const words = {
      busy: "Downloading a checkpoint from the hub.",
      away: status?.notice || "The configured checkpoint is not available yet.",
      ok: "The configured checkpoint is in use.",
    }[state];
    const runtime = status?.checkpoint === id ? status.latency?.runtime : undefined;
    const classes = result?.picture && `${result.predictions.classes.length} classes`;
    const short = info?.title.replace(" RT-DETR", "") ?? id;
    this.$(".pill-text").innerHTML =
      escapeText(short) +
      [classes, runtime]
        .map((part) => (part ? `<span> · ${escapeText(part)}</span>` : ""))
        .join("");
    this.$(".dot").dataset.state = state;
    this.$(".pill").setAttribute(
      "aria-label",
      `Checkpoint: ${this.$(".pill-text").textContent}. ${words}`,
    );
    this.$(".pill").title = words;
  }

  async #sheet() {
    await import("./rt-checkpoint-sheet.js");
    const sheet =
      this.querySelector("rt-checkpoint-sheet") ?? create("rt-checkpoint-sheet", this.app);
    if (!sheet.isConnected) this.append(sheet);
    /** @type {any} */ (sheet).open();
  }

  /** @param {DragEvent} event */
  #drop(event) {
    event.preventDefault();
    this.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    const address = event.dataTransfer?.getData("text/uri-list").split("\n")[0].trim();
    if (file) this.app.actions.openFile(file);
    else if (address) this.app.actions.openPhoto({ url: address });
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    const target = event.composedPath()[0];
    if (target instanceof HTMLElement && target.matches("input, textarea")) return;
    const file = event.clipboardData?.files[0];
    const text = event.clipboardData?.getData("text").trim() ?? "";
    if (file) this.app.actions.openFile(file);
    else if (/^https?:\/\//i.test(text)) this.app.actions.openPhoto({ url: text });
  }
}

define("rt-app", RtApp);
