import { AppElement, define } from "../lib/element.js";
import { askOf, assistant, beyond, curl, javascript, python } from "../lib/snippets.js";
import { tabsByArrows } from "./rt-stage.js";

/** The request for what the stage shows, in the words of several clients, to copy. */

/** @type {Record<string, string>} */
const ACCESS = {
  open: "Open to programs on this machine: no key is asked for.",
  keys: "Asks for one of its operator's keys: put yours into RTDETR_API_KEY.",
  closed: "Closed at present: its operator has set no keys (RTDETR_API_KEYS).",
};

/** @type {Record<string, [(ask: import("../lib/snippets.js").Ask) => string, string]>} */
const KINDS = {
  curl: [curl, "For a terminal, in the folder that holds the picture."],
  Python: [python, "With OpenAI's package, unchanged."],
  JavaScript: [javascript, "For Node.js, as a module (.mjs), with OpenAI's package, unchanged."],
  Assistants: [
    assistant,
    "For the settings of a desktop assistant that speaks MCP: it can then call the tool detect_objects.",
  ],
};

class RtApi extends AppElement {
  kind = "curl";

  get access() {
    return this.app.config.apiAccess ?? "closed";
  }

  render() {
    const base = new URL(".", document.baseURI.split(/[?#]/)[0]).href.replace(/\/$/, "");
    const links = [
      ["docs", "All requests and fields"],
      ["openapi.json", "OpenAPI"],
      ...(this.access === "open" ? [["v1/models", "Checkpoints"]] : []), // a browser sends no key
    ];
    this.innerHTML = `
      <div class="about">
        <p>This demo's server answers clients of OpenAI's API, and a plain form of its own, in JSON.
        This is the request for <b class="subject"></b> as the page shows it.</p>
        <p class="access ${this.access === "closed" ? "problem" : "hint"}">${ACCESS[this.access]}</p>
        <p class="beyond hint"></p>
        <p class="links">${links.map(([path, title]) => `<a href="${base}/${path}" target="_blank">${title}</a>`).join("")}</p>
      </div>
      <div class="code">
        <div class="row">
          <div class="kinds" role="tablist" aria-label="Client">${Object.keys(KINDS)
            .map((name) => `<button type="button" role="tab" data-kind="${name}">${name}</button>`)
            .join("")}</div>
          <button type="button" class="primary copy">Copy</button>
        </div>
        <p class="hint note"></p>
        <pre tabindex="0" role="tabpanel" aria-label="The request"><code></code></pre>
      </div>`;
    tabsByArrows(this, this.$(".kinds"));
    this.on(this.$(".kinds"), "click", (event) => {
      const kind = event.target.closest("button")?.dataset.kind;
      if (!kind) return;
      this.kind = kind;
      this.#show(base);
    });
    this.on(this.$(".copy"), "click", () => this.#copy());
    this.follow(["result", "depth", "threshold", "hidden", "hideDuplicates"], () =>
      this.#show(base),
    );
  }

  /** @param {string} base */
  #show(base) {
    const state = this.app.store.get();
    const [write, note] = KINDS[this.kind];
    const ask = askOf(state, base, this.access);
    this.$(".subject").textContent = ask.url ?? ask.file;
    this.$(".beyond").textContent = beyond(state);
    this.$(".note").textContent = note;
    this.$("code").textContent = write(ask);
    for (const tab of this.$$('[role="tab"]')) {
      tab.setAttribute("aria-selected", String(tab.dataset.kind === this.kind));
      tab.tabIndex = tab.dataset.kind === this.kind ? 0 : -1;
    }
  }

  async #copy() {
    const text = this.$("code").textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers keep the clipboard from pages without https: select, and copy the old way.
      getSelection()?.selectAllChildren(this.$("code"));
      if (!document.execCommand("copy")) return;
      getSelection()?.removeAllRanges();
    }
    this.$(".copy").textContent = "Copied";
    setTimeout(() => (this.$(".copy").textContent = "Copy"), 1500);
  }
}

define("rt-api", RtApi);
