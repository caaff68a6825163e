// The speed lab: has the server measure, draws what came of it, and sets the page accordingly.

const root = element.querySelector(".rt-lab");
const $ = (selector) => root.querySelector(selector);
const config = props.value;
const state = { job: null, report: null, picked: null, sides: null };
const stage = new Stage($(".rt-versus-stage"), () => {});

const subject = () => (window.rtResult ? { result: window.rtResult } : { example: config.example });

function complain(selector, sentence) {
  $(selector).hidden = !sentence;
  $(selector).textContent = sentence || "";
}

// --- Measuring -------------------------------------------------------------------------------------

async function measure() {
  complain(".rt-lab-problem", "");
  working({ what: "Getting ready", share: 0 });
  const answer = await ask("start", {
    ...subject(),
    checkpoint: $(".rt-lab-checkpoint").value,
    rounds: Number($(".rt-lab-rounds").value),
    threshold: 0.4,
    shapes: $(".rt-lab-shapes").checked,
    pipeline: $(".rt-lab-pipeline").checked,
  });
  if (answer.error) return end(answer.error);
  state.job = answer.id;
  watch();
}

async function watch() {
  const answer = await ask("state", { id: state.job });
  if (answer.error) return end(answer.error);
  if (answer.running) {
    if (answer.progress) working(answer.progress);
    return setTimeout(watch, 500);
  }
  end("");
  if (answer.report) show(answer.report);
}

function working({ what, share }) {
  $(".rt-measure").disabled = true;
  $(".rt-lab-progress").hidden = false;
  $(".rt-lab-progress progress").value = share;
  $(".rt-lab-told").textContent = `${what[0].toUpperCase()}${what.slice(1)}, ${Math.round(100 * share)} %`;
}

function end(sentence) {
  $(".rt-measure").disabled = false;
  $(".rt-lab-progress").hidden = true;
  complain(".rt-lab-problem", sentence);
}

// --- What came of it -------------------------------------------------------------------------------

function show(report) {
  state.report = report;
  const { lines, stages, conditions } = report;
  const knobs = lines.filter((one) => one.kind);
  const indexOf = (one) => lines.indexOf(one);
  const of = (kind) => knobs.filter((one) => one.kind === kind);
  $(".rt-lab-report").hidden = false;
  $(".rt-lab-conditions").textContent =
    `${conditions.checkpoint} on ${conditions.device} (${conditions.processor}), ${knobs[0].runtime}, ` +
    `${conditions.precision}; ${conditions.rounds} rounds, from a decoded picture to detections`;
  $(".rt-plot-layers").innerHTML = latencyChart(of("layers"), "decoder layers", indexOf);
  $(".rt-plot-pareto").innerHTML = paretoChart(knobs, indexOf);
  const shapes = of("size").length > 0;
  root.querySelectorAll(".rt-if-shapes").forEach((one) => (one.hidden = !shapes));
  if (shapes) {
    $(".rt-plot-queries").innerHTML = latencyChart(of("queries"), "queries", indexOf);
    $(".rt-plot-size").innerHTML = latencyChart(of("size"), "input size, pixels", indexOf);
  }
  $(".rt-plot-stages").innerHTML = stageBar(stages);
  $(".rt-stage-legend").innerHTML = Object.entries(stages)
    .map(([name, ms], i) => `<span><i class="stage-${i % 10}"></i>${name} ${ms.toFixed(1)} ms</span>`)
    .join("");
  const theirs = lines.find((one) => one.contender === "transformers pipeline");
  $(".rt-lab-pipeline-text").hidden = !theirs;
  if (theirs) {
    const ratio = theirs.median / of("layers").at(-1).median;
    $(".rt-lab-pipeline-text").textContent =
      `transformers’ pipeline on the same picture: ${theirs.median.toFixed(0)} ms, ${ratio.toFixed(2)} times our full depth.`;
  }
  pick(null);
}

function pick(index) {
  root.querySelectorAll(".point.picked").forEach((one) => one.classList.remove("picked"));
  state.picked = index === null ? null : state.report.lines[index];
  $(".rt-use").disabled = !state.picked;
  if (!state.picked) return;
  root.querySelectorAll(`[data-point="${index}"]`).forEach((one) => one.classList.add("picked"));
  $(".rt-picked-text").textContent = describe(state.picked);
}

function use() {
  const { kind, value } = state.picked;
  const layers = state.report.lines.filter((one) => one.kind === "layers").at(-1).value;
  useShape({
    layers: kind === "layers" ? value : layers,
    queries: kind === "queries" && value !== state.report.conditions.queries ? value : null,
    size: kind === "size" && value !== state.report.conditions.size ? value : null,
  });
  $(".rt-picked-text").textContent = `In use on every tab: ${state.picked.contender}.`;
}

// --- Downloads -------------------------------------------------------------------------------------

function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function saveCsv() {
  const { lines, stages, conditions } = state.report;
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  const rows = [
    ["contender", "knob", "value", "median_ms", "p5_ms", "p95_ms", "agreement", "runtime"],
    ...lines.map((one) => [one.contender, one.kind, one.value, one.median, one.p5, one.p95, one.agreement, one.runtime]),
    ...Object.entries(stages).map(([name, ms]) => [name, "stage", "", ms]),
    ...Object.entries(conditions).map(([name, value]) => [name, "condition", value]),
  ];
  save("rtdetr-speed.csv", new Blob([rows.map((row) => row.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" }));
}

/** All charts as one picture, with the colours that they have on the page now. */
async function savePng() {
  const plots = [...root.querySelectorAll(".rt-lab-report .rt-plot:not(.rt-stages)")].filter((one) => one.getClientRects().length);
  const { width, height } = CHART;
  const columns = 2;
  const canvas = document.createElement("canvas");
  canvas.width = 2 * columns * width;
  canvas.height = 2 * (Math.ceil(plots.length / columns) * (height + 28) + 28);
  const paint = canvas.getContext("2d");
  paint.scale(2, 2);
  const style = getComputedStyle(root);
  paint.fillStyle = style.getPropertyValue("--rt-card");
  paint.fillRect(0, 0, canvas.width, canvas.height);
  paint.fillStyle = style.color;
  paint.font = "13px sans-serif";
  paint.fillText($(".rt-lab-conditions").textContent, 12, 19, columns * width - 24);
  for (const [i, plot] of plots.entries()) {
    const [x, y] = [(i % columns) * width, 28 + Math.floor(i / columns) * (height + 28)];
    paint.font = "600 13px sans-serif";
    paint.fillText(plot.closest("figure").querySelector("figcaption").textContent, x + 12, y + 18);
    paint.drawImage(await pictureOf(plot), x, y + 28, width, height);
  }
  canvas.toBlob((blob) => save("rtdetr-speed.png", blob), "image/png");
}

async function pictureOf(plot) {
  const copy = plot.cloneNode(true);
  const originals = plot.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-weight", "opacity"])
      node.style.setProperty(name, style.getPropertyValue(name));
    node.style.fontFamily = "sans-serif";
  });
  copy.setAttribute("width", 2 * CHART.width);
  copy.setAttribute("height", 2 * CHART.height);
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  return image;
}

// --- Two checkpoints -------------------------------------------------------------------------------

async function compare() {
  complain(".rt-versus-problem", "");
  $(".rt-compare").disabled = true;
  $(".rt-compare").textContent = "Comparing…";
  const answer = await ask("compare", {
    ...subject(),
    checkpoints: [$(".rt-side-0").value, $(".rt-side-1").value],
  });
  $(".rt-compare").disabled = false;
  $(".rt-compare").textContent = "Compare";
  if (answer.error) return complain(".rt-versus-problem", answer.error);
  state.sides = answer.sides;
  $(".rt-versus-result").hidden = false;
  const deepest = Math.max(...answer.sides.map((one) => one.layers.length));
  $("#lab-layers").max = deepest;
  $("#lab-layers").value = deepest;
  const [{ width, height }] = answer.sides;
  $(".rt-versus-stage").style.aspectRatio = `${width} / ${height}`;
  $(".rt-versus-result").style.maxWidth = `calc(62vh * ${width / height})`; // the divider's slider fits
  stage.setPicture(answer.picture, width, height);
  drawSides();
}

function drawSides() {
  if (!state.sides) return;
  const threshold = Number($("#lab-threshold").value);
  const depth = Number($("#lab-layers").value);
  $(".rt-versus-depth").value = depth;
  $(".rt-versus-threshold").value = threshold.toFixed(2);
  const [left, right] = state.sides.map((side) =>
    selectDetections(side, Math.min(depth, side.layers.length), threshold),
  );
  stage.draw(right, { ...state.sides[0].colors, ...state.sides[1].colors }, left);
  const { kept, extra, meanIou } = agreement(right, left);
  const total = state.sides.map((side) => `${side.timing_ms.total.toFixed(0)} ms`);
  const counts = (found) => countClasses(found).map(([name, n]) => `${n} ${name}`).join(", ") || "nothing";
  const rows = [
    ["", ...state.sides.map((side) => side.checkpoint)],
    ["Full pass, once", ...total],
    ["Layers shown", ...state.sides.map((side) => `${Math.min(depth, side.layers.length)} of ${side.layers.length}`)],
    ["Detections", left.length, right.length],
    ["Classes", counts(left), counts(right)],
    ["Found by both", kept + (meanIou ? `, mean IoU ${meanIou.toFixed(2)}` : ""), kept],
    ["Found by this alone", left.length - kept, extra],
  ];
  $(".rt-versus-table tbody").innerHTML = rows
    .map((row) => `<tr>${row.map((text, i) => (i ? `<td>${escapeText(text)}</td>` : `<th>${text}</th>`)).join("")}</tr>`)
    .join("");
}

// --- Wiring ----------------------------------------------------------------------------------------

const on = (selector, event, handler) => $(selector).addEventListener(event, handler);
on(".rt-measure", "click", measure);
on(".rt-lab-cancel", "click", () => ask("cancel", { id: state.job }));
on(".rt-use", "click", use);
on(".rt-lab-csv", "click", saveCsv);
on(".rt-lab-png", "click", savePng);
on(".rt-compare", "click", compare);
on(".rt-versus-slider input", "input", (event) => stage.setSplit(event.target.value / 100));
for (const name of ["#lab-layers", "#lab-threshold"]) on(name, "input", drawSides);
const pointed = (event) => event.target.closest?.("[data-point]");
on(".rt-charts", "click", (event) => pointed(event) && pick(Number(pointed(event).dataset.point)));
on(".rt-charts", "keydown", (event) => {
  if (!pointed(event) || !["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  pick(Number(pointed(event).dataset.point));
});
const showSubject = () =>
  ($(".rt-subject").textContent = window.rtResult ? "the picture of the photo tab" : "the example picture");
document.addEventListener("rt-result", showSubject);
showSubject();

const options = config.checkpoints.map(({ id, title, trained_on }) => [`${title} · ${trained_on}`, id]);
for (const select of root.querySelectorAll(".rt-lab-checkpoint, .rt-side-0, .rt-side-1"))
  for (const [text, id] of [["The one that serves", ""], ...options]) select.add(new Option(text, id));
$(".rt-side-1").value = config.checkpoints[0].id;
$(".rt-reference-text").textContent =
  config.checkpoints
    .filter((one) => one.published.t4_fps)
    .map(({ title, trained_on, published }) => `${title} (${trained_on}) ${published.t4_fps} FPS${published.ap ? `, ${published.ap} AP` : ""}`)
    .join("; ") + ". One NVIDIA T4, TensorRT FP16, batch 1, 640 pixels, COCO val2017, says the model page.";
