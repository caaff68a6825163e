import { AppElement, define } from "../lib/element.js";
import { axisStart, ladderOf, segmentsOf } from "../lib/ladder.js";
import { latencyOf, shown } from "../lib/view_model.js";

/**
 * The decoder ladder: the stages of one pass on a time axis, cut where the visitor cuts them, with
 * what each cut is worth above, on the same axis. Underneath it is a range input.
 *
 * @typedef {import("../lib/types.js").State} State
 */
class RtLadder extends AppElement {
  ladder = ladderOf(null, 1);

  get input() {
    return this.$("#depth", HTMLInputElement);
  }

  render() {
    this.innerHTML = `
      <section class="card" aria-labelledby="ladder-title">
        <div class="row">
          <h2 id="ladder-title">Decoder layers</h2>
          <button type="button" class="play"><span aria-hidden="true">▶</span> Play</button>
        </div>
        <p class="big"><output for="depth"></output> <span class="unit"></span></p>
        <div class="axis">
          <div class="worth" aria-hidden="true"></div>
          <div class="legend" aria-hidden="true"><span class="top">100% of full depth</span><span class="agree"><i></i>agreement on this picture</span><span class="ap"><i></i>AP on 500 photos</span><span class="least"></span></div>
          <div class="track">
            <div class="segments" aria-hidden="true"></div>
            <input id="depth" type="range" min="1" max="6" step="1" aria-label="Decoder layers" />
            <i class="handle" aria-hidden="true"></i>
          </div>
          <div class="scale" aria-hidden="true"></div>
        </div>
        <div class="steps" role="group" aria-label="Change the number of layers">
          <button type="button" class="less" aria-label="One layer fewer">−</button>
          <span class="depth" aria-hidden="true"></span>
          <button type="button" class="more" aria-label="One layer more">+</button>
        </div>
        <p class="tip">Drag to stop after fewer layers.</p>
        <dl class="facts">
          <div><dt></dt><dd class="saved"></dd></div>
          <div><dt></dt><dd class="kept"></dd></div>
          <div><dt></dt><dd class="worth-ap"></dd></div>
        </dl>
        <div class="row compare">
          <label><input type="checkbox" /> Compare with layer</label>
          <select aria-label="Layer to compare with"></select>
        </div>
        <p class="where"></p>
      </section>`;
    this.#wire();
    this.follow(
      ["result", "status", "depth", "threshold", "hidden", "hideDuplicates", "compare"],
      (state) => this.#show(state),
    );
    this.follow(["playing"], ({ playing }) => {
      this.$(".play").innerHTML = playing
        ? '<span aria-hidden="true">■</span> Stop'
        : '<span aria-hidden="true">▶</span> Play';
    });
  }

  #wire() {
    const { store, actions } = this.app;
    const choose = (/** @type {number} */ depth) => {
      actions.stopPlaying();
      this.$(".tip").hidden = true;
      const most = store.get().result?.depth ?? 1;
      store.set({ depth: Math.min(Math.max(depth, 1), most) });
    };
    this.on(this.input, "input", () => choose(Number(this.input.value)));
    this.on(this.$(".less"), "click", () => choose(store.get().depth - 1));
    this.on(this.$(".more"), "click", () => choose(store.get().depth + 1));
    this.on(this.$(".play"), "click", () => actions.play());
    // The axis is in milliseconds and no range input's: a pointer is read on it by ourselves.
    const axis = this.$(".axis");
    let dragging = false;
    const follow = (/** @type {PointerEvent} */ event) => {
      const box = this.$(".track").getBoundingClientRect();
      choose(this.ladder.depthAt((event.clientX - box.left) / box.width));
    };
    this.on(axis, "pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      dragging = true;
      axis.setPointerCapture(event.pointerId);
      this.input.focus({ preventScroll: true });
      follow(event);
    });
    this.on(axis, "pointermove", (event) => dragging && follow(event));
    for (const type of ["pointerup", "pointercancel"])
      this.on(axis, type, () => (dragging = false));
    const box = this.$(".compare input", HTMLInputElement);
    const select = this.$(".compare select", HTMLSelectElement);
    const compare = () => store.set({ compare: box.checked ? Number(select.value) : null });
    this.on(box, "change", compare);
    this.on(select, "change", () => {
      box.checked = true;
      compare();
    });
  }

  /** @param {State} state */
  #show(state) {
    const { result, depth, compare } = state;
    const all = shown(state);
    if (!result || !all) return;
    const full = result.depth;
    const latency = latencyOf(state, this.app.config);
    this.ladder = ladderOf(latency, full);
    const card = this.app.config.checkpoints.find(
      (one) => one.id === result.settings.checkpoint,
    )?.measured;
    const ap = card?.ap.length === full ? card.ap : null;
    this.input.max = String(full);
    this.input.value = String(depth);
    this.#segments(latency, full, depth);
    // A camera's frame has the one layer that was asked for: there is nothing to agree with.
    const whole = result.predictions.layers.length === full;
    this.#worth(whole ? all.agreements.map((one) => one.f1) : [], ap, depth);
    this.#facts(state, latency, all, ap);
    this.$(".handle").style.left = `${100 * this.ladder.ends[depth - 1]}%`;
    this.$(".depth").textContent = `${depth} of ${full} layers`;
    this.$(".less", HTMLButtonElement).disabled = depth <= 1;
    this.$(".more", HTMLButtonElement).disabled = depth >= full;
    const select = this.$(".compare select", HTMLSelectElement);
    if (select.options.length !== full)
      select.innerHTML = Array.from({ length: full }, (_, i) => `<option>${i + 1}</option>`).join(
        "",
      );
    if (compare) select.value = String(compare);
    this.$(".compare input", HTMLInputElement).checked = compare !== null;
  }

  /**
   * @param {import("../lib/types.js").Latency | null} latency
   * @param {number} full
   * @param {number} depth
   */
  #segments(latency, full, depth) {
    const segments = segmentsOf(latency, full);
    const key = JSON.stringify(segments);
    const box = this.$(".segments");
    if (box.dataset.key !== key) {
      box.dataset.key = key;
      box.innerHTML = segments
        .map(
          ({ name, kind, share, layer }) =>
            `<span class="${kind}" title="${layer ? `decoder layer ${layer}` : name}" style="flex-grow:${share.toFixed(5)}" ${layer ? `data-layer="${layer}"` : ""}><b>${name}</b></span>`,
        )
        .join("");
      const total = latency?.total_ms.at(-1);
      this.$(".scale").innerHTML = total
        ? [0, 1 / 3, 2 / 3, 1]
            .map((at) => `<span>${format(at * total)}${at === 0 || at === 1 ? " ms" : ""}</span>`)
            .join("")
        : "<span>Not measured yet</span>";
    }
    for (const one of this.$$(".segments [data-layer]"))
      one.classList.toggle("cut", Number(one.dataset.layer) > depth);
  }

  /**
   * What each depth is worth, in shares of full depth.
   *
   * @param {number[]} agreements
   * @param {number[] | null} ap
   * @param {number} depth
   */
  #worth(agreements, ap, depth) {
    const most = ap && Math.max(...ap);
    const aps = ap && most ? ap.map((value) => value / most) : [];
    const least = axisStart([...agreements, ...aps]);
    const [width, height, top, bottom] = [1000, 104, 16, 98];
    const x = (/** @type {number} */ i) => this.ladder.middles[i] * width;
    const y = (/** @type {number} */ share) => top + ((1 - share) / (1 - least)) * (bottom - top);
    const line = (/** @type {number[]} */ values) =>
      values
        .map((value, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`)
        .join("");
    const dots = agreements
      .map((value, i) => {
        const at = `left:${100 * this.ladder.middles[i]}%;top:${(100 * y(value)) / height}%`;
        return `<i class="dot ${i + 1 === depth ? "now" : ""}" style="${at}"></i>`;
      })
      .join("");
    this.$(".worth").innerHTML =
      `<svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none">` +
      [top, (top + bottom) / 2, bottom]
        .map((at) => `<line class="grid" x1="0" x2="${width}" y1="${at}" y2="${at}"/>`)
        .join("") +
      `<path class="ap" d="${line(aps)}"/>` +
      `<path class="agree" d="${line(agreements)}"/></svg>${dots}`;
    this.$(".legend .agree").hidden = !agreements.length;
    this.$(".legend .ap").hidden = !ap;
    this.$(".legend").hidden = !agreements.length && !ap;
    this.$(".legend .least").textContent = `${Math.round(100 * least)}%`;
  }

  /**
   * @param {State} state
   * @param {import("../lib/types.js").Latency | null} latency
   * @param {import("../lib/view_model.js").Shown} all
   * @param {number[] | null} ap
   */
  #facts({ depth, result, status }, latency, all, ap) {
    const full = result?.depth ?? depth;
    const measuring = status?.measuring ?? true;
    const ms = latency?.total_ms[depth - 1];
    const spread = latency?.spread_ms?.[depth - 1];
    const put = (
      /** @type {string} */ name,
      /** @type {string} */ value,
      /** @type {string} */ words,
    ) => {
      const cell = this.$(`.facts .${name}`);
      cell.textContent = value;
      /** @type {HTMLElement} */ (cell.previousElementSibling).textContent = words;
    };
    this.$(".big output").textContent = ms ? format(ms) : `${depth} / ${full}`;
    this.$(".unit").textContent = ms
      ? `ms${spread ? ` ± ${format(spread)}` : ""} · ${format(1000 / ms)} FPS`
      : measuring
        ? "layers · measuring …"
        : "layers";
    const saved = this.ladder.savedAt(depth);
    put(
      "saved",
      depth === full ? "Full depth" : saved ? `−${format(saved.ms)} ms` : latency ? "≈ 0 ms" : "–",
      depth === full
        ? "all layers run"
        : saved
          ? `${saved.times.toFixed(saved.times < 1.1 ? 2 : 1)}× faster`
          : latency
            ? "saved, within noise"
            : "time saved",
    );
    const { kept, of, extra } = all.agreements[depth - 1];
    if (result?.predictions.layers.length === full)
      put("kept", `${kept} of ${of}`, extra ? `found, ${extra} extra` : "detections found");
    else put("kept", String(all.byDepth[depth - 1].length), "detections");
    this.$(".facts .worth-ap").parentElement?.toggleAttribute("hidden", !ap);
    if (ap)
      put(
        "worth-ap",
        ap[depth - 1].toFixed(1),
        depth === full ? "AP" : `AP (full: ${ap[full - 1].toFixed(1)})`,
      );
    this.$(".where").textContent = latency
      ? latency.from
        ? `Times from ${latency.from}${measuring ? "; measuring here now" : ""}.`
        : `Measured on ${placeOf(latency.device)}, ${latency.runtime}, ${latency.precision}.`
      : "";
    this.input.setAttribute(
      "aria-valuetext",
      `${depth} of ${full} layers${ms ? `, ${format(ms)} milliseconds` : ""}, finds ${kept} of ${of} detections`,
    );
  }
}

/** @param {number} value */
const format = (value) =>
  value < 10
    ? value.toFixed(1)
    : value < 100
      ? value.toFixed(value % 1 ? 1 : 0)
      : String(Math.round(value));

/** @param {string} device */
const placeOf = (device) => (device === "device" ? "your device" : `this ${device.toUpperCase()}`);

define("rt-ladder", RtLadder);
