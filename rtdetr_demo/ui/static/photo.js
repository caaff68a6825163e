// The photo tab: asks the server once per picture, then redraws by itself.

const root = element.querySelector(".rt-photo");
const $ = (selector) => root.querySelector(selector);
const config = props.value;

const state = {
  source: null, // what was asked last: {path} | {url} | {example} | {result}
  result: null, // the server's answer: predictions, colours, id
  status: null, // the server's word on the chosen checkpoint
  threshold: null, // as the visitor set it; until then the checkpoint's own suits
  hidden: new Set(),
  sort: { key: "score", descending: true },
  shown: [],
  asked: 0,
};

const stage = new Stage($("#stage"), (index) => light(index, true));
const depthInput = $("#decoder-layers");
const thresholdInput = $("#threshold");
const checkpointInput = $("#checkpoint");
const compareInput = $("#compare");
const compareLayer = $("#compare-layer");

// --- Asking the server -------------------------------------------------------------------------

async function detect(source) {
  const turn = ++state.asked;
  if (!source.result) state.source = source; // a new look at the same picture has the same source
  problem("");
  busy(source.result ? "Detecting again…" : source.url ? "Fetching the picture…" : "Detecting…");
  const answer = await ask("detect", { ...source, ...shape, checkpoint: chosenCheckpoint() });
  if (turn !== state.asked) return;
  busy("");
  if (answer.error) return problem(answer.error);
  state.result = answer;
  window.rtResult = answer.id;
  document.dispatchEvent(new CustomEvent("rt-result"));
  stage.setPicture(answer.picture, answer.width, answer.height);
  setDepth(answer.layers.length);
  showSource();
  render();
  refreshStatus();
}

async function detectFile(file) {
  if (!file) return;
  if (file.size > config.max_bytes)
    return problem(`This file is over ${config.max_bytes / 2 ** 20} MB. Send a smaller one.`);
  const turn = ++state.asked;
  problem("");
  busy("Uploading…");
  let sent;
  try {
    sent = await upload(file);
  } catch {
    sent = null;
  }
  if (turn !== state.asked) return;
  busy("");
  if (!sent?.path) return problem("The upload did not get through. Try it again.");
  detect({ path: sent.path });
}

let statusTimer = null;
async function refreshStatus() {
  clearTimeout(statusTimer);
  const checkpoint = chosenCheckpoint();
  const status = await ask("status", { checkpoint });
  if (checkpoint !== chosenCheckpoint()) return;
  if (status.error) {
    showNotice(status.error, false);
    statusTimer = setTimeout(refreshStatus, 5000);
    return;
  }
  const arrived = state.status && !state.status.here && status.here;
  const moved = state.status && state.status.serving !== status.serving;
  state.status = status;
  showStatus();
  // A checkpoint that has just come serves the picture on the stage from now on.
  if ((arrived || (moved && !chosenCheckpoint())) && state.result) detect({ result: state.result.id });
  const waiting = status.download?.running || status.searching || status.measuring;
  if (waiting) statusTimer = setTimeout(refreshStatus, 700);
}

// --- What the page shows -----------------------------------------------------------------------

const selection = (layer) =>
  selectDetections(state.result, layer, Number(thresholdInput.value), state.hidden);

function render() {
  $(".rt-threshold-value").value = Number(thresholdInput.value).toFixed(2);
  remember();
  if (!state.result) return;
  const depth = Number(depthInput.value);
  const full = state.result.layers.length;
  state.shown = selection(depth);
  const compared = compareInput.checked ? selection(Number(compareLayer.value)) : null;
  stage.draw(state.shown, state.result.colors, compared);
  showDepth(depth, full);
  showClasses(depth);
  showTable();
  showComparison(depth);
  tell(depth);
  const summary = `${state.shown.length} detections after ${layers(depth)}`;
  $("#stage").setAttribute("aria-label", `Picture with ${summary}. Arrow keys step through them.`);
}

/** Let the API tab know what is shown. */
function tell(depth) {
  window.rtPhoto = {
    source: state.source,
    checkpoint: state.result.checkpoint,
    settings: {
      decoder_layers: depth,
      threshold: Number(thresholdInput.value),
      ...(state.hidden.size && { classes: present() }),
    },
  };
  document.dispatchEvent(new CustomEvent("rt-request"));
}

/** The classes of the checkpoint that the visitor has not hidden. */
const present = () => state.result.classes.filter((name) => !state.hidden.has(name));

const layers = (count) => `${count} decoder layer${count === 1 ? "" : "s"}`;

function setDepth(full) {
  const before = Number(depthInput.max);
  const wanted = pending.layers ?? (depthInput.disabled || before !== full ? full : depthInput.value);
  pending.layers = undefined;
  depthInput.max = full;
  depthInput.value = Math.min(wanted, full);
  depthInput.disabled = compareInput.disabled = compareLayer.disabled = false;
  const numbers = Array.from({ length: full }, (_, i) => i + 1);
  $(".rt-ticks").innerHTML = numbers.map((n) => `<span>${n}</span>`).join("");
  if (compareLayer.options.length !== full)
    compareLayer.innerHTML = numbers.map((n) => `<option>${n}</option>`).join("");
  root.querySelectorAll(".rt-downloads button").forEach((b) => (b.disabled = false));
}

function showDepth(depth, full) {
  $(".rt-depth").value = `${depth} of ${full}`;
  depthInput.setAttribute("aria-valuetext", `${depth} of ${full}`);
  const same = state.status?.checkpoint === state.result.checkpoint;
  const times = same ? state.status.latency?.total_ms : undefined;
  const known = times?.length === full;
  const unknown = same && !state.status.measuring ? "not measured" : "measuring";
  $(".rt-latency").textContent = known ? `${number(times[depth - 1])} ms` : unknown;
  $(".rt-fps").textContent = known ? `${number(1000 / times[depth - 1])} FPS` : unknown;
  const saved = known ? 1 - times[depth - 1] / times[full - 1] : 0;
  $(".rt-saved").textContent =
    depth === full ? "–" : known ? `${Math.round(100 * saved)} %` : unknown;
  const { kept, of, extra, meanIou } =
    depth === full ? {} : agreement(state.shown, selection(full));
  const iou = meanIou == null ? "" : `, mean IoU ${meanIou.toFixed(2)}`;
  const more = extra ? `; ${extra} that full depth has not` : "";
  $(".rt-agree").textContent =
    depth === full
      ? "Full depth: every layer runs."
      : of
        ? `Keeps ${kept} of ${of} full-depth detections${iou}${more}.`
        : `Full depth finds nothing here, this depth ${extra || "neither"}.`;
  const where = same ? state.status.latency : null;
  $(".rt-where").textContent = where
    ? `Measured on this ${where.device.toUpperCase()}, ${where.runtime}, ${where.precision}, ${where.size.join("×")}`
    : "";
}

const number = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));

function showClasses(depth) {
  const all = countClasses(selectDetections(state.result, depth, Number(thresholdInput.value)));
  for (const label of state.hidden) if (!all.some(([name]) => name === label)) all.push([label, 0]);
  const focused = root.contains(document.activeElement) && document.activeElement.dataset.label;
  $("#classes").innerHTML = all.length
    ? all
        .map(([label, count]) => {
          const name = escapeText(label);
          const color = state.result.colors[label]?.[0] || "#fff";
          return (
            `<button type="button" class="rt-chip" data-label="${name}" aria-pressed="${!state.hidden.has(label)}">` +
            `<i style="background:${color}"></i>${name} <b>${count}</b></button>`
          );
        })
        .join("")
    : '<span class="rt-hint">Nothing scores above the threshold. Lower it to see more.</span>';
  if (focused) $(`#classes [data-label="${CSS.escape(focused)}"]`)?.focus();
  $(".rt-all").hidden = state.hidden.size === 0;
  $(".rt-total").textContent = state.shown.length;
  const counts = countClasses(state.shown);
  $(".rt-counts").textContent = counts.map(([name, count]) => `${count} ${name}`).join(" · ");
}

const ROWS_AT_ONCE = 40;
let tailTimer = null;

function rowMarkup(row) {
  const color = state.result.colors[row.label]?.[0] || "#fff";
  const cells = [row.x, row.y, row.width, row.height].map((v) => `<td>${v.toFixed(1)}</td>`);
  return (
    `<tr data-index="${row.index}"><th scope="row"><i style="background:${color}"></i>${escapeText(row.label)}</th>` +
    `<td>${row.score.toFixed(3)}</td>${cells.join("")}<td>${(100 * row.share).toFixed(1)} %</td></tr>`
  );
}

function showTable() {
  const { key, descending } = state.sort;
  const whole = state.result.width * state.result.height;
  const rows = state.shown.map((found, index) => ({
    ...found,
    index,
    share: (found.width * found.height) / whole,
  }));
  rows.sort((a, b) => {
    const order = key === "label" ? a.label.localeCompare(b.label) : a[key] - b[key];
    return (descending ? -order : order) || a.index - b.index;
  });
  const body = $("#results tbody");
  body.innerHTML = rows.slice(0, ROWS_AT_ONCE).map(rowMarkup).join("");
  // A long table's tail waits until the picture has been painted.
  clearTimeout(tailTimer);
  if (rows.length > ROWS_AT_ONCE)
    tailTimer = setTimeout(() => {
      const tail = rows.slice(ROWS_AT_ONCE).map(rowMarkup).join("");
      body.insertAdjacentHTML("beforeend", tail);
    }, 60);
  root.querySelectorAll("#results th[data-key]").forEach((head) => {
    const direction = descending ? "descending" : "ascending";
    head.setAttribute("aria-sort", head.dataset.key === key ? direction : "none");
  });
}

function showComparison(depth) {
  const comparing = compareInput.checked;
  $(".rt-split").hidden = $(".rt-sides").hidden = !comparing;
  $(".rt-side-left").textContent = `Layer ${compareLayer.value}`;
  $(".rt-side-right").textContent = `Layer ${depth}`;
}

function showStatus() {
  const { status } = state;
  const serving = config.checkpoints.find((c) => c.id === status.checkpoint);
  if (!state.threshold) {
    thresholdInput.value = status.threshold;
    render();
  }
  const auto = checkpointInput.options[0];
  auto.textContent = `Automatic: ${titleOf(status.serving)}`;
  showPublished(serving);
  showNotice(status.notice, status.missing);
  const absent = !status.here;
  const running = status.download?.running;
  $(".rt-absent").hidden = !absent;
  $(".rt-absent p").textContent = status.download?.error || "Not on this machine yet.";
  $(".rt-get").hidden = running;
  const bar = $(".rt-download-bar");
  bar.hidden = $(".rt-cancel").hidden = !running;
  if (running) {
    const { done, total, checkpoint } = status.download;
    const part = total ? done / total : 0;
    bar.value = part;
    const amount = total
      ? `${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB, ${Math.round(100 * part)} %`
      : "asking the hub";
    showNotice(`Downloading ${checkpoint}:`, false);
    $(".rt-download-text").textContent = amount;
  } else {
    $(".rt-download-text").textContent = "";
  }
  if (state.result) showDepth(Number(depthInput.value), state.result.layers.length);
}

function titleOf(id) {
  const known = config.checkpoints.find((c) => c.id === id);
  return known ? `${known.title} (${known.trained_on})` : id;
}

function showNotice(text, retry) {
  $(".rt-notice").hidden = !text;
  if ($(".rt-notice-text").textContent !== text) $(".rt-notice-text").textContent = text;
  $(".rt-retry").hidden = !retry;
}

const PUBLISHED = [
  ["params", "Parameters", " M"],
  ["gflops", "GFLOPs", ""],
  ["t4_fps", "T4 FPS", ""],
  ["ap", "AP", ""],
  ["ap50", "AP50", ""],
  ["ap75", "AP75", ""],
  ["ap_s", "APs", ""],
  ["ap_m", "APm", ""],
  ["ap_l", "APl", ""],
];

function showPublished(checkpoint) {
  const figures = checkpoint?.published || {};
  $(".rt-trained").textContent = checkpoint ? `Trained on ${checkpoint.trained_on}` : "";
  $(".rt-published").innerHTML = PUBLISHED.map(([key, name, unit]) => {
    const value = figures[key] == null ? "–" : `${figures[key]}${unit}`;
    return `<div><dt>${name}</dt><dd>${value}</dd></div>`;
  }).join("");
  $(".rt-published-note").textContent =
    checkpoint?.id === "bundled"
      ? "Ours, and small: its measured accuracy stands in its model card."
      : figures.ap == null
      ? "Nothing was published about this checkpoint."
      : "As published: COCO val2017, 640×640; one T4, TensorRT FP16, batch 1.";
}

function problem(sentence) {
  $(".rt-problem").hidden = !sentence;
  $(".rt-problem").textContent = sentence;
}

let busyTimer = null;
function busy(text) {
  clearTimeout(busyTimer);
  $("#stage").setAttribute("aria-busy", Boolean(text));
  if (!text) return ($(".rt-busy").hidden = true);
  busyTimer = setTimeout(() => {
    $(".rt-busy").hidden = false;
    $(".rt-busy-text").textContent = text;
  }, 250);
}

function light(index, scroll = false) {
  stage.light(index);
  root.querySelector("#results tr.lit")?.classList.remove("lit");
  const row = index === null ? null : $(`#results tr[data-index="${index}"]`);
  row?.classList.add("lit");
  if (row && scroll) {
    const box = $(".rt-table");
    const top = row.offsetTop - box.clientHeight / 2;
    box.scrollTo({ top });
  }
}

// --- The page's address ------------------------------------------------------------------------

const pending = {};

function chosenCheckpoint() {
  return checkpointInput.value === "custom" ? state.custom || "" : checkpointInput.value;
}

/** Keep the settings in the address, so that a link opens the page as it is now. */
let rememberTimer = null;
function remember() {
  clearTimeout(rememberTimer);
  rememberTimer = setTimeout(() => {
    const address = new URL(location.href);
    const set = (key, value) =>
      value ? address.searchParams.set(key, value) : address.searchParams.delete(key);
    set("url", state.source?.url);
    set("example", state.source?.example);
    set("checkpoint", chosenCheckpoint());
    const depth = depthInput.value !== depthInput.max && depthInput.value;
    set("layers", state.result ? depth : pending.layers);
    set("threshold", state.threshold);
    history.replaceState(history.state, "", address);
  }, 200);
}

function recall() {
  const asked = new URLSearchParams(location.search);
  const threshold = Number(asked.get("threshold") ?? NaN);
  if (threshold >= 0 && threshold <= 1) thresholdInput.value = state.threshold = threshold;
  const depth = Number(asked.get("layers"));
  if (Number.isInteger(depth) && depth >= 1) pending.layers = depth;
  const checkpoint = asked.get("checkpoint");
  if (checkpoint) choose(checkpoint);
  if (asked.get("url")) {
    $(".rt-url").value = asked.get("url");
    return { url: asked.get("url") };
  }
  return asked.get("example") ? { example: asked.get("example") } : null;
}

function showSource() {
  root.querySelectorAll(".rt-examples button").forEach((button) =>
    button.setAttribute("aria-pressed", button.dataset.example === state.source.example),
  );
}

function choose(checkpoint) {
  const listed = config.checkpoints.some((c) => c.id === checkpoint);
  checkpointInput.value = listed ? checkpoint : "custom";
  if (!listed) state.custom = checkpoint;
  if (!listed && checkpointInput.value !== "custom") {
    const option = new Option(checkpoint, "custom");
    checkpointInput.add(option);
    checkpointInput.value = "custom";
  }
  $(".rt-custom").hidden = listed || !config.any_checkpoint;
  $(".rt-custom-id").value = listed ? "" : checkpoint;
}

// --- Wiring ------------------------------------------------------------------------------------

const on = (selector, event, handler) => $(selector).addEventListener(event, handler);

thresholdInput.addEventListener("input", () => (state.threshold = thresholdInput.value));
for (const input of [depthInput, thresholdInput, compareInput, compareLayer])
  input.addEventListener("input", render);
on(".rt-split", "input", (event) => stage.setSplit(event.target.value / 100));

on("#classes", "click", (event) => {
  const chip = event.target.closest(".rt-chip");
  if (!chip) return;
  const { label } = chip.dataset;
  state.hidden.has(label) ? state.hidden.delete(label) : state.hidden.add(label);
  render();
});
on(".rt-all", "click", () => {
  state.hidden.clear();
  render();
});

on("#results thead", "click", (event) => {
  const key = event.target.closest("th")?.dataset.key;
  if (!key || !state.result) return;
  const descending = state.sort.key === key ? !state.sort.descending : key !== "label";
  state.sort = { key, descending };
  showTable();
});
on("#results tbody", "pointerover", (event) => {
  const row = event.target.closest("tr");
  light(row ? Number(row.dataset.index) : null);
});
on("#results tbody", "pointerleave", () => light(null));

let stepped = -1;
function step(event) {
  const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!move || !state.shown.length) return;
  event.preventDefault();
  stepped = (stepped + move + state.shown.length) % state.shown.length;
  light(stepped, true);
  const { label, score } = state.shown[stepped];
  $(".rt-step").textContent = `${stepped + 1} of ${state.shown.length}: ${label}, ${Math.round(100 * score)} percent`;
}
for (const name of ["#stage", ".rt-table"]) {
  on(name, "keydown", (event) => event.target === $(name) && step(event));
  on(name, "blur", () => {
    stepped = -1;
    light(null);
    $(".rt-step").textContent = "";
  });
}

checkpointInput.addEventListener("change", () => {
  const custom = checkpointInput.value === "custom";
  $(".rt-custom").hidden = !custom || !config.any_checkpoint;
  if (custom && !state.custom) return $(".rt-custom-id").focus();
  switchCheckpoint();
});
on(".rt-custom", "submit", (event) => {
  event.preventDefault();
  state.custom = $(".rt-custom-id").value.trim();
  if (state.custom) switchCheckpoint();
});
async function switchCheckpoint() {
  if (shape.queries || shape.size) useShape({}); // they were measured on the one before
  state.status = null;
  remember();
  await refreshStatus();
  if (state.status?.here && state.result) detect({ result: state.result.id });
}

on(".rt-get", "click", () => getFromHub(chosenCheckpoint()));
on(".rt-retry", "click", () => getFromHub(state.status.wanted));
async function getFromHub(checkpoint) {
  showNotice("Asking the hub…", false);
  const answer = await ask("download", { checkpoint });
  if (answer.error) problem(answer.error);
  refreshStatus();
}
on(".rt-cancel", "click", async () => {
  await ask("cancel", { checkpoint: state.status.download.checkpoint });
  refreshStatus();
});

on(".rt-downloads", "click", async (event) => {
  const form = event.target.dataset.form;
  if (!form) return;
  busy("Preparing the file…");
  const answer = await ask("download_result", {
    result: state.result.id,
    form,
    decoder_layers: Number(depthInput.value),
    threshold: Number(thresholdInput.value),
    classes: state.hidden.size ? present() : null,
  });
  busy("");
  if (answer.error) return problem(answer.error);
  const link = document.createElement("a");
  link.href = answer.url;
  link.download = answer.name;
  link.click();
});

// Pictures: button, drop, paste, address, example, camera.
on(".rt-upload", "click", () => $(".rt-file").click());
on(".rt-file", "change", (event) => {
  detectFile(event.target.files[0]);
  event.target.value = "";
});
for (const name of ["dragenter", "dragover"])
  root.addEventListener(name, (event) => {
    event.preventDefault();
    $("#stage").classList.add("over");
  });
for (const name of ["dragleave", "drop"])
  root.addEventListener(name, () => $("#stage").classList.remove("over"));
root.addEventListener("drop", (event) => {
  event.preventDefault();
  const address = event.dataTransfer.getData("text/uri-list");
  if (event.dataTransfer.files.length) detectFile(event.dataTransfer.files[0]);
  else if (address) detect({ url: address.split("\n")[0] });
});
document.addEventListener("paste", (event) => {
  if (!root.isConnected || !root.offsetParent || event.target.closest?.('[type="url"], [type="text"], textarea')) return;
  const file = [...event.clipboardData.files][0];
  const text = event.clipboardData.getData("text").trim();
  if (file) detectFile(file);
  else if (/^https?:\/\//i.test(text)) detect({ url: text });
});
document.addEventListener("rt-photo", (event) => {
  [...document.querySelectorAll('#tabs [role="tab"]')]
    .find((tab) => tab.textContent.trim() === "Photo")
    ?.click();
  detectFile(event.detail);
});
on(".rt-url-form", "submit", (event) => {
  event.preventDefault();
  const url = $(".rt-url").value.trim();
  if (url) detect({ url });
  else problem("Type or paste the address of a picture first.");
});
$(".rt-url-form").noValidate = true;
on(".rt-examples", "click", (event) => {
  const button = event.target.closest("button");
  if (button) detect({ example: button.dataset.example });
});

const camera = $(".rt-camera");
const video = $(".rt-camera video");
on(".rt-webcam", "click", async () => {
  camera.showModal();
  const trouble = await openCamera(video);
  $(".rt-camera-problem").textContent = trouble;
  $(".rt-camera-problem").hidden = !trouble;
  $(".rt-snap").disabled = Boolean(trouble);
});
on(".rt-snap", "click", async () => {
  detectFile(await takePicture(video));
  camera.close();
});
on(".rt-close", "click", () => camera.close());
camera.addEventListener("close", () => closeCamera(video));

watchShape($(".rt-controls"), ({ layers }) => {
  setSlider(depthInput, layers);
  if (state.result) detect({ result: state.result.id });
});

// --- Start -------------------------------------------------------------------------------------

checkpointInput.add(new Option("Automatic", ""));
for (const { id, title, trained_on, published } of config.checkpoints) {
  const ap = published.ap ? `, ${published.ap} AP` : "";
  checkpointInput.add(new Option(`${title} · ${trained_on}${ap}`, id));
}
if (config.any_checkpoint) checkpointInput.add(new Option("Another hub id or folder…", "custom"));
$(".rt-examples").innerHTML = config.examples
  .map(
    ({ name, title, thumbnail }) =>
      `<button type="button" data-example="${escapeText(name)}" aria-pressed="false">` +
      `<img src="${thumbnail}" alt="${escapeText(title)}" /></button>`,
  )
  .join("");
const first = recall();
render();
refreshStatus();
if (first) detect(first);
