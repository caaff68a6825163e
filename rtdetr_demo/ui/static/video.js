// The video tab: uploads a clip, watches the work on it, shows what came of it.

const root = element.querySelector(".rt-video");
const $ = (selector) => root.querySelector(selector);
const config = props.value;
const state = { path: null, job: null }; // without a path, the clip is the example
const player = $("video");

async function choose(file) {
  if (!file) return;
  if (file.size > config.max_bytes)
    return problem(`This video is over ${config.max_bytes / 2 ** 20} MB. Send a smaller one.`);
  problem("");
  tell("Uploading…");
  const sent = await upload(file).catch(() => null);
  tell("");
  if (!sent?.path) return problem("The upload did not get through. Try it again.");
  state.path = sent.path;
  begin();
}

async function begin() {
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const classes = $("#video-classes").value.split(",").map((name) => name.trim()).filter(Boolean);
  problem("");
  $(".rt-outcome").hidden = true;
  tell("Getting ready…");
  const answer = await ask("start", {
    path: state.path,
    checkpoint: $("#video-checkpoint").value,
    ...shape,
    decoder_layers: number("#video-decoder-layers"),
    threshold: number("#video-threshold"),
    classes: classes.length ? classes : null,
    stride: number("#video-stride"),
    longest: number("#video-longest"),
    line: number("#video-line"),
  });
  if (answer.error) return fail(answer.error);
  state.job = answer.id;
  for (const name of [".rt-upload", ".rt-example", ".rt-again"]) $(name).disabled = true;
  $(".rt-cancel").disabled = false;
  watch(answer.id);
}

async function watch(id) {
  const answer = await ask("state", { id });
  if (id !== state.job) return;
  if (answer.error) return fail(answer.error);
  if (answer.done !== undefined) {
    const of = answer.total ? ` of ${answer.total}` : "";
    const left = answer.left == null ? "" : `, ${duration(answer.left)} left`;
    tell(`${answer.done}${of} frames, ${answer.fps.toFixed(1)} FPS${left}`);
    if (answer.total) $("progress").value = answer.done / answer.total;
  }
  if (answer.preview) show($(".rt-preview"), answer.preview);
  if (answer.running) return setTimeout(watch, 700, id);
  finish(answer);
}

function finish(answer) {
  ready();
  show(player, answer.files["annotated.mp4"]);
  $(".rt-outcome").hidden = false;
  const [down, up] = answer.crossed;
  const crossed = $("#video-line").value ? ` Crossed downwards: ${down}, upwards: ${up}.` : "";
  $(".rt-outcome-text").textContent =
    (answer.cancelled ? "Cancelled: " : "Done: ") + `${answer.frames} frames.${crossed}`;
  const names = { "annotated.mp4": "Video", "detections.jsonl": "JSON lines", "detections.csv": "CSV" };
  $(".rt-downloads").innerHTML = Object.entries(answer.files)
    .map(([name, url]) => `<a class="rt-button" href="${url}" download="${name}">${names[name]}</a>`)
    .join("");
  chart(answer);
}

/** One line per class: how many tracks were in sight in each second. */
function chart({ seen, labels, colors }) {
  const top = Math.max(1, ...seen.flat());
  const step = 600 / Math.max(seen.length, 1);
  $(".rt-seen svg").innerHTML = labels
    .map((_, k) => {
      const points = seen.map((second, i) => {
        const y = 118 - (second[k] / top) * 114;
        return `${i ? "L" : "M"}${i * step} ${y}H${(i + 1) * step}`;
      });
      return `<path d="${points.join("")}" stroke="${colors[k]}"/>`;
    })
    .join("");
  $(".rt-seen svg").setAttribute(
    "aria-label",
    labels.map((label, k) => `${label}: at most ${Math.max(...seen.map((s) => s[k]))}`).join("; "),
  );
  $(".rt-legend").innerHTML = labels
    .map((label, k) => {
      const most = Math.max(...seen.map((second) => second[k]));
      return `<span><i style="background:${colors[k]}"></i>${escapeText(label)}, at most ${most}</span>`;
    })
    .join("");
}

function show(shown, source) {
  root.querySelector(".rt-video-stage").classList.add("filled");
  for (const one of [player, $(".rt-preview")]) one.hidden = one !== shown;
  shown.src = source;
}

function ready() {
  tell("");
  state.job = null;
  for (const name of [".rt-upload", ".rt-example", ".rt-again"]) $(name).disabled = false;
}

function fail(sentence) {
  ready();
  problem(sentence);
}

function tell(text) {
  $(".rt-video-progress").hidden = !text;
  $(".rt-video-told").textContent = text;
  if (!text || !state.job) $("progress").removeAttribute("value");
}

function problem(sentence) {
  $(".rt-problem").hidden = !sentence;
  $(".rt-problem").textContent = sentence;
}

const duration = (seconds) =>
  seconds < 90 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;

const on = (selector, event, handler) => $(selector).addEventListener(event, handler);
on(".rt-upload", "click", () => $(".rt-file").click());
on(".rt-file", "change", (event) => {
  choose(event.target.files[0]);
  event.target.value = "";
});
on(".rt-again", "click", begin);
on(".rt-example", "click", () => {
  state.path = null;
  begin();
});
on(".rt-cancel", "click", async () => {
  $(".rt-cancel").disabled = true;
  if (state.job) await ask("cancel", { id: state.job });
});
root.addEventListener("dragover", (event) => event.preventDefault());
root.addEventListener("drop", (event) => {
  event.preventDefault();
  if (!state.job) choose(event.dataTransfer.files[0]);
});
on("#video-decoder-layers", "input", (event) => ($(".rt-depth").value = event.target.value));
on("#video-threshold", "input", (event) => {
  $(".rt-threshold-value").value = Number(event.target.value).toFixed(2);
});
on("#video-checkpoint", "change", (event) => {
  const chosen = config.checkpoints.find((one) => one.id === event.target.value);
  const slider = $("#video-decoder-layers");
  slider.max = chosen?.decoder_layers || 6;
  $(".rt-depth").value = slider.value;
});

watchShape($(".rt-controls"), ({ layers }) => setSlider($("#video-decoder-layers"), layers));

$(".rt-video-limits").textContent =
  `MP4, MOV, WebM, AVI or MKV, up to ${config.minutes} minutes and ${config.max_bytes / 2 ** 20} MB`;
$("#video-checkpoint").add(new Option("The one that serves", ""));
for (const { id, title, trained_on } of config.checkpoints)
  $("#video-checkpoint").add(new Option(`${title} · ${trained_on}`, id));
