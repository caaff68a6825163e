import { AppElement, define } from "../lib/element.js";

/**
 * Where detection runs: this server or this device, and the device's download.
 *
 * @typedef {import("../lib/types.js").State} State
 */
class RtRuntime extends AppElement {
  render() {
    const { config, actions, store } = this.app;
    const both = config.runtimes.length > 1;
    this.innerHTML = `
      <div class="switch" role="radiogroup" aria-label="Run on" ${both ? "" : "hidden"}>
        <span aria-hidden="true">Run on</span>
        <label><input type="radio" name="runtime" value="server" />Server</label>
        <label><input type="radio" name="runtime" value="device" />Your device</label>
      </div>
      <div class="way" hidden>
        <span class="words" role="status"></span>
        <progress max="1" aria-label="Download"></progress>
        <button type="button" class="primary get">Download</button>
        <button type="button" class="cancel">Cancel</button>
      </div>`;
    this.on(this.$(".switch"), "change", (event) => actions.chooseRuntime(event.target.value));
    this.on(this.$(".get"), "click", () => actions.download(store.get().checkpoint));
    this.on(this.$(".cancel"), "click", () => actions.cancelDownload(store.get().checkpoint));
    this.follow(["runtime", "status"], (state) => this.#show(state));
    this.follow(["source"], ({ source, runtimeChosen, runtime }) => {
      const usual = source === "camera" ? config.liveRuntime : config.runtimes[0];
      if (!runtimeChosen && usual && usual !== runtime) actions.useRuntime(usual);
    });
  }

  /** @param {State} state */
  #show({ runtime, status }) {
    for (const radio of this.querySelectorAll("input")) radio.checked = radio.value === runtime;
    const download = status?.download;
    const running = Boolean(download?.running);
    const needed = runtime === "device" && (!status || !status.here || running);
    this.$(".way").hidden = !needed;
    if (!needed) return;
    const { done = 0, total = 0 } = download ?? {};
    const arrived = running && total > 0 && done >= total;
    this.$(".words").textContent = !status
      ? "Checking the download …"
      : !running
        ? download?.error || status.notice
        : arrived
          ? "Preparing the model …"
          : total
            ? `${mega(done)} of ${mega(total)} MB, ${Math.floor((100 * done) / total)}%`
            : "Starting the download …";
    const bar = this.$("progress", HTMLProgressElement);
    bar.hidden = !running;
    if (total && !arrived) bar.value = done / total;
    else bar.removeAttribute("value");
    this.$(".get").hidden = running || !status;
    this.$(".get").textContent = download?.error ? "Try again" : "Download";
    this.$(".cancel").hidden = !running || arrived;
  }
}

/** @param {number} bytes */
const mega = (bytes) => (bytes / 1e6).toFixed(1);

define("rt-runtime", RtRuntime);
