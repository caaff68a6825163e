import { AppElement, define } from "../lib/element.js";
import { askOf, assistant, beyond, curl, javascript, python } from "../lib/snippets.js";
import { tabsByArrows } from "./rt-stage.js";

/** The request for what the stage shows, in the words of several clients, to copy. */

/** @type {Record<string, string>} */
const ACCESS = {
  open: "Open to programs on this machine. No key needed.",
  keys: "Requires an API key from the operator. Set it as RTDETR_API_KEY.",
  closed: "Closed: the operator has not set any API keys (RTDETR_API_KEYS).",
};

/** @type {Record<string, [(ask: import("../lib/snippets.js").Ask) => string, string]>} */
const KINDS = {
  curl: [curl, "Run it in the folder that contains the picture."],
  Python: [python, "Uses the official OpenAI package."],
  JavaScript: [javascript, "For Node.js, as a module (.mjs). Uses the official OpenAI package."],
  Assistants: [
    assistant,
    "Add this to the settings of a desktop assistant that supports MCP. It can then call the tool detect_objects.",
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
      ["docs", "API reference"],
      ["openapi.json", "OpenAPI"],
      ...(this.access === "open" ? [["v1/models", "Checkpoints"]] : []), // a browser sends no key
    ];
    this.innerHTML = `
      <div class="about">
        <p>This server has a JSON API of its own and works with OpenAI clients.
        This request gives the detections shown for <b class="subject"></b>.</p>
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
