import { sentence } from "../lib/actions.js";
import { BoxCanvas } from "../lib/box_canvas.js";
import { AppElement, define, escapeText, saveFile } from "../lib/element.js";
import { circumstances, loaded, pngOfCard } from "../lib/export_card.js";
import { pictureName, stemOf } from "../lib/exporters.js";
import { agreement, countClasses, select } from "../lib/predictions.js";
import { latencyOf } from "../lib/view_model.js";

/**
 * Two checkpoints on the stage's picture, side by side, at the stage's threshold and depth.
 *
 * @typedef {import("../lib/types.js").Predictions & {colors: Record<string, [string, string]>, timing_ms: {total: number}}} Side
 */
class RtVersus extends AppElement {
  /** @type {[Side, Side] | null} */
  sides = null;
  /** @type {import("../lib/types.js").Result | null} that was compared on */
  compared = null;
  /** @type {(string | number)[][]} */
  rows = [];
  split = 0.5;
  boxes = new BoxCanvas(document.createElement("canvas"));

  render() {
    this.innerHTML = `
      <section class="card" aria-labelledby="versus-title">
        <div class="row">
          <h2 id="versus-title">Compare two checkpoints</h2>
          <div class="ways">
            <select class="side-0" aria-label="Left checkpoint"></select>
            <select class="side-1" aria-label="Right checkpoint"></select>
            <button type="button" class="compare">Compare</button>
            <button type="button" class="save" hidden>PNG</button>
          </div>
        </div>
        <p class="problem" role="alert" hidden></p>
        <div class="outcome" hidden>
          <div>
            <div class="picture"><img alt="" /></div>
            <input type="range" min="0" max="100" value="50" aria-label="Divider" />
          </div>
          <table><tbody></tbody></table>
        </div>
      </section>`;
    this.$(".picture").append(this.boxes.canvas);
    for (const name of ["side-0", "side-1"]) {
      const choice = this.$(`.${name}`, HTMLSelectElement);
      choice.add(new Option("Current checkpoint", ""));
      for (const { id, title, trained_on } of this.app.config.checkpoints)
        choice.add(new Option(`${title} · ${trained_on}`, id));
    }
    this.$(".side-1", HTMLSelectElement).selectedIndex = 1;
    this.on(this.$(".compare"), "click", () => this.#compare());
    this.on(this.$(".save"), "click", () => this.#save());
    this.on(this.$("input"), "input", (event) => {
      this.split = event.target.value / 100;
      this.#draw();
    });
    this.follow(["threshold", "depth"], () => this.#draw());
    const observer = new ResizeObserver(() => this.#draw());
    observer.observe(this.$(".outcome"));
    this.atEnd(() => observer.disconnect());
  }

  async #compare() {
    const { result } = this.app.store.get();
    const button = this.$(".compare", HTMLButtonElement);
    this.#problem("");
    if (!result?.source) return this.#problem("Open a photo first: live frames are not kept.");
    button.disabled = true;
    button.textContent = "Comparing …";
    try {
      const { sides, picture } = await /** @type {import("../lib/rpc.js").Rpc} */ (
        this.app.rpc
      ).call("compare", {
        ...(result.id ? { result: result.id } : { example: result.source.example }),
        checkpoints: ["side-0", "side-1"].map(
          (name) => this.$(`.${name}`, HTMLSelectElement).value,
        ),
      });
      this.sides = sides;
      this.compared = result;
      this.$(".save").hidden = false;
      this.$(".picture img", HTMLImageElement).src = picture;
      this.$(".picture").style.setProperty("--ratio", `${sides[0].width / sides[0].height}`);
      this.$(".outcome").hidden = false;
      this.#draw();
    } catch (error) {
      this.#problem(sentence(error));
    } finally {
      button.disabled = false;
      button.textContent = "Compare";
    }
  }

  /** @param {string} text */
  #problem(text) {
    this.$(".problem").hidden = !text;
    this.$(".problem").textContent = text;
  }

  async #save() {
    const { sides, compared } = this;
    if (!sides || !compared) return;
    const state = this.app.store.get();
    const name = pictureName(compared);
    const known = {
      picture: name,
      size: sides[0],
      latency: latencyOf(state, this.app.config),
      conditions: { threshold: state.threshold },
    };
    try {
      const rows = circumstances(known, this.app.config, navigator.userAgent);
      const image = await loaded(this.$(".picture img", HTMLImageElement).src);
      const card = {
        title: `RT-DETR: two checkpoints on ${name}`,
        picture: image,
        layers: [this.boxes.canvas],
        lines: [
          `Left of the divider, at ${Math.round(100 * this.split)}% of the width: ${sides[0].checkpoint}; right: ${sides[1].checkpoint}. Colors show the class.`,
          ...this.rows.slice(1).map(([head, left, right]) => `${head}: ${left} | ${right}`),
          rows.map(([key, value]) => `${key} ${value}`).join(" · "),
        ],
      };
      saveFile(`${stemOf(name)}-comparison.png`, await pngOfCard(card));
    } catch (error) {
      this.#problem(sentence(error));
    }
  }

  #draw() {
    if (!this.sides) return;
    const { threshold, depth } = this.app.store.get();
    const depths = this.sides.map(({ layers }) => Math.min(depth, layers.length));
    const [left, right] = this.sides.map((side, i) => select(side, depths[i], threshold));
    const box = this.$(".picture").getBoundingClientRect();
    this.boxes.resize(box.width, box.height);
    this.boxes.show({
      detections: right,
      compared: left,
      split: this.split,
      colors: { ...this.sides[0].colors, ...this.sides[1].colors },
      size: this.sides[0],
    });
    this.$(".picture").style.setProperty("--split", `${100 * this.split}%`);
    const { kept, extra, meanIou } = agreement(right, left);
    const counts = (/** @type {typeof left} */ found) =>
      countClasses(found)
        .map(([name, n]) => `${n} ${name}`)
        .join(", ") || "nothing";
    this.rows = [
      ["", ...this.sides.map(({ checkpoint }) => checkpoint)],
      [
        "Full-depth latency",
        ...this.sides.map(({ timing_ms }) => `${timing_ms.total.toFixed(0)} ms`),
      ],
      ["Layers shown", ...this.sides.map(({ layers }, i) => `${depths[i]} of ${layers.length}`)],
      ["Detections", left.length, right.length],
      ["Classes", counts(left), counts(right)],
      ["In both", kept + (meanIou ? `, mean IoU ${meanIou.toFixed(2)}` : ""), kept],
      ["Only here", left.length - kept, extra],
    ];
    this.$("tbody").innerHTML = this.rows
      .map(
        ([head, ...cells]) =>
          `<tr><th scope="row">${head}</th>${cells.map((text) => `<td>${escapeText(text)}</td>`).join("")}</tr>`,
      )
      .join("");
  }
}

define("rt-versus", RtVersus);
