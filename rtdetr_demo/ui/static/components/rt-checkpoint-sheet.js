import { AppElement, define, escapeText } from "../lib/element.js";

/**
 * Every checkpoint with its figures, which one serves, and what is on its way from the hub.
 *
 * @typedef {import("../lib/types.js").State} State
 * @typedef {import("../lib/types.js").CheckpointInfo} CheckpointInfo
 */
class RtCheckpointSheet extends AppElement {
  get dialog() {
    return this.$("dialog", HTMLDialogElement);
  }

  render() {
    const { checkpoints, anyCheckpoint } = this.app.config;
    this.innerHTML = `
      <dialog aria-labelledby="sheet-title">
        <div class="row"><h2 id="sheet-title">Checkpoint</h2><button type="button" class="close" aria-label="Close">✕</button></div>
        <p class="notice" role="status"></p>
        <div class="way" hidden>
          <progress max="1" aria-label="Download"></progress>
          <span class="amount"></span>
          <button type="button" class="cancel">Cancel</button>
        </div>
        <div class="shape" hidden><span></span> <button type="button">Reset</button></div>
        <div class="list" role="radiogroup" aria-label="Checkpoint">
          <label class="item auto"><input type="radio" name="checkpoint" value="" /><span><b>Automatic</b><small></small></span></label>
          ${checkpoints.map((one) => item(one, checkpoints)).join("")}
        </div>
        ${
          anyCheckpoint
            ? `<form class="custom" novalidate><input type="text" placeholder="owner/name or a local folder" aria-label="Hub ID or folder" autocomplete="off" spellcheck="false" /><button type="submit">Use</button></form>`
            : ""
        }
        <div class="detail"></div>
        <p class="hint">Published figures: AP on COCO val2017 at 640 × 640, FPS on one T4 with TensorRT FP16, batch size 1. The bundled model was measured on 500 photos with 20 classes, so its AP is not comparable.</p>
      </dialog>`;
    const { actions, store } = this.app;
    this.on(this.$(".close"), "click", () => this.dialog.close());
    this.on(this.dialog, "click", (event) => event.target === this.dialog && this.dialog.close());
    this.on(this.$(".list"), "change", (event) => actions.chooseCheckpoint(event.target.value));
    this.on(this.$(".shape button"), "click", () => actions.setShape({}));
    this.on(this.$(".cancel"), "click", () => {
      const download = store.get().status?.download;
      if (download) actions.cancelDownload(download.checkpoint);
    });
    this.on(this.$(".detail"), "click", (event) => {
      const id = event.target.closest("[data-get]")?.dataset.get;
      if (id) actions.download(id);
    });
    if (anyCheckpoint)
      this.on(this.$(".custom"), "submit", (event) => {
        event.preventDefault();
        const id = this.$(".custom input", HTMLInputElement).value.trim();
        if (id) actions.chooseCheckpoint(id);
      });
    this.follow(["status", "checkpoint", "queries", "size", "problem"], (state) =>
      this.#show(state),
    );
  }

  open() {
    this.dialog.showModal();
    this.app.actions.refreshStatus();
  }

  /** @param {State} state */
  #show(state) {
    const { status, checkpoint, queries, size, problem } = state;
    const { checkpoints, serving } = this.app.config;
    for (const radio of this.querySelectorAll("input"))
      if (radio.type === "radio") radio.checked = radio.value === checkpoint;
    this.$(".auto small").textContent =
      `currently ${titleOf(status?.serving ?? serving, checkpoints)}`;
    const download = status?.download;
    const running = Boolean(download?.running);
    this.$(".way").hidden = !running;
    if (download && running) {
      const bar = this.$("progress", HTMLProgressElement);
      if (download.total) bar.value = download.done / download.total;
      else bar.removeAttribute("value");
      this.$(".amount").textContent = download.total
        ? `${mega(download.done)} of ${mega(download.total)} MB, ${Math.round((100 * download.done) / download.total)}%`
        : "connecting to the hub";
    }
    const notice = running
      ? `Downloading ${download?.checkpoint}:`
      : problem || (status?.notice ?? "");
    if (this.$(".notice").textContent !== notice) this.$(".notice").textContent = notice;
    const parts = [size && `input ${size} px`, queries && `${queries} queries`].filter(Boolean);
    this.$(".shape").hidden = !parts.length;
    this.$(".shape span").textContent = `From the speed lab: ${parts.join(", ")}.`;
    this.#detail(state);
  }

  /** @param {State} state */
  #detail({ status, checkpoint }) {
    const missing = status?.missing ? status.wanted : "";
    const wanted = checkpoint && status && !status.here ? checkpoint : missing;
    const error = status?.download && !status.download.running ? status.download.error : "";
    this.$(".detail").innerHTML =
      wanted && !status?.download?.running
        ? `<p>${escapeText(error || `${titleOf(wanted, this.app.config.checkpoints)} is not downloaded yet.`)}</p>` +
          `<button type="button" class="primary" data-get="${escapeText(wanted)}">${error || !checkpoint ? "Try again" : "Download"}</button>`
        : "";
  }
}

/** @param {number} bytes */
const mega = (bytes) => (bytes / 1e6).toFixed(0);

/**
 * @param {string} id
 * @param {CheckpointInfo[]} checkpoints
 */
function titleOf(id, checkpoints) {
  const known = checkpoints.find((one) => one.id === id);
  return known ? `${known.title} (${known.trained_on})` : id;
}

/**
 * @param {CheckpointInfo} one
 * @param {CheckpointInfo[]} all
 */
function item(one, all) {
  const { id, title, trained_on, decoder_layers, published, measured } = one;
  const most = Math.max(...all.map((other) => other.published.ap ?? 0));
  const fastest = Math.max(...all.map((other) => other.published.t4_fps ?? 0));
  const ap = measured ? measured.ap[measured.ap.length - 1] : published.ap;
  const bar = (
    /** @type {number | null | undefined} */ value,
    /** @type {number} */ top,
    /** @type {string} */ name,
  ) =>
    value
      ? `<span class="bar ${name}"><i style="width:${(100 * value) / top}%"></i><em>${value} ${name}</em></span>`
      : `<span class="bar ${name}"></span>`;
  const depths = measured
    ? `<small>AP by depth: ${measured.ap.map((value) => value.toFixed(1)).join(", ")}</small>`
    : "";
  const { ap_s, ap_m, ap_l } = published;
  const sizes =
    ap_s && ap_m && ap_l
      ? `<small>AP by object size: small ${ap_s.toFixed(1)}, medium ${ap_m.toFixed(1)}, large ${ap_l.toFixed(1)}</small>`
      : "";
  const rest = [
    decoder_layers && `${decoder_layers} layers`,
    published.params && `${published.params} M parameters`,
    published.gflops && `${published.gflops} GFLOPs`,
    published.ap50 && `AP50 ${published.ap50}`,
    published.ap75 && `AP75 ${published.ap75}`,
  ].filter(Boolean);
  return (
    `<label class="item"><input type="radio" name="checkpoint" value="${escapeText(id)}" />` +
    `<span><b>${escapeText(title)}</b> <span class="on">${escapeText(trained_on)}</span>` +
    `<small>${rest.join(" · ")}</small>${sizes}${depths}</span>` +
    `<span class="bars">${bar(ap, measured ? 100 : most, "AP")}${bar(published.t4_fps, fastest, "FPS")}</span></label>`
  );
}

define("rt-checkpoint-sheet", RtCheckpointSheet);
