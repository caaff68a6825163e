// The live tab: camera frames go to the server one at a time, boxes come back and are drawn here.

const root = element.querySelector(".rt-live");
const $ = (selector) => root.querySelector(selector);
const config = props.value;

const WINDOW_MS = 5000; // readouts look back this far
const CHART_MS = 30000;
const LONGEST_SIDE = 640; // of the frames that are sent, in pixels

const stage = new Stage($("#live-stage"), () => {});
const video = $("video");
const depthInput = $("#live-decoder-layers");
const thresholdInput = $("#live-threshold");
const checkpointInput = $("#live-checkpoint");
const cameraInput = $(".rt-cameras");
const viewer = crypto.getRandomValues(new Uint32Array(4)).join("-");

const state = {
  running: false, // between Start and Stop
  paused: false, // by the visitor
  mirrored: true,
  last: null, // the last answer
  answers: [], // {at, depth, latency, network, wait, model}
  camera: [], // times of the camera's frames
  skipped: [], // times of frames that no one looked at
  unseen: false, // whether the camera has shown a frame since the last one that was sent
};

// --- Camera --------------------------------------------------------------------------------------

async function start() {
  const chosen = cameraInput.value;
  const which = ["user", "environment"].includes(chosen)
    ? { facingMode: chosen }
    : { deviceId: { exact: chosen } };
  const trouble = await openCamera(video, {
    ...which,
    width: { ideal: 640 },
    height: { ideal: 480 },
  });
  problem(trouble);
  if (trouble) return setRunning(false);
  const [track] = video.srcObject.getVideoTracks();
  track.addEventListener("ended", () => {
    stop();
    problem("The camera was unplugged or switched off. Connect it, then start again.");
  });
  stage.element.classList.add("filled");
  setRunning(true);
  listCameras();
  watchCamera();
  loop(video.srcObject);
}

function stop() {
  closeCamera(video);
  setRunning(false);
  stage.draw([], {});
  stage.element.classList.remove("filled");
}

function setRunning(running) {
  state.running = running;
  $(".rt-start").textContent = running ? "Stop" : "Start the camera";
  for (const name of [".rt-pause", ".rt-snapshot", ".rt-cameras"]) $(name).disabled = !running;
}

async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  for (const { deviceId, label } of cameras)
    if (![...cameraInput.options].some((option) => option.value === deviceId))
      cameraInput.add(new Option(label || "Camera", deviceId));
}

/** Count what the camera shows, frame by frame. */
function watchCamera() {
  const source = video.srcObject;
  const count = (now) => {
    if (video.srcObject !== source) return;
    state.camera.push(now);
    if (state.unseen) state.skipped.push(now);
    state.unseen = true;
    video.requestVideoFrameCallback(count);
  };
  video.requestVideoFrameCallback(count);
}

const nextFrame = () => new Promise((done) => video.requestVideoFrameCallback(done));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const idle = () => state.paused || document.hidden || !root.offsetParent;

// --- One frame under way, the newest wins --------------------------------------------------------

async function loop(source) {
  let failures = 0;
  const alive = () => state.running && video.srcObject === source;
  while (alive()) {
    if (idle()) {
      await sleep(100);
      continue;
    }
    let sent = await send(alive);
    while (sent) {
      const answer = await sent.answer;
      if (!alive()) return;
      if (answer.error) {
        problem(answer.error);
        await sleep(Math.min(1000 * 2 ** failures++, 4000));
        break;
      }
      failures = 0;
      problem("");
      note(answer, sent.depth, performance.now() - sent.began);
      // The server gets its next frame before this answer is drawn: neither waits for the other.
      sent = await send(alive);
      show(answer);
    }
  }
}

/** Send the camera's newest frame; gives its promised answer, or null while there is none to send. */
async function send(alive) {
  if (!state.unseen) await Promise.race([nextFrame(), sleep(1000)]);
  if (!alive() || idle() || !video.videoWidth) return null;
  state.unseen = false;
  const began = performance.now();
  const depth = Number(depthInput.value);
  const request = { viewer, image: grab(), checkpoint: checkpointInput.value, ...shape };
  return { began, depth, answer: ask("frame", { ...request, decoder_layers: depth }) };
}

const canvas = document.createElement("canvas");

/** The camera's picture now, as base64 JPEG no larger than needed. */
function grab() {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.8).split(",")[1];
}

function note(answer, depth, latency) {
  const { wait, server: inside, model } = answer.timing_ms;
  state.answers.push({
    at: performance.now(),
    depth,
    latency,
    network: Math.max(latency - inside, 0),
    wait,
    model,
  });
}

// --- What the page shows -------------------------------------------------------------------------

function show(answer) {
  state.last = answer;
  setDepth(answer.depth);
  stage.setSize(answer.width, answer.height);
  draw();
}

function draw() {
  $(".rt-threshold-value").value = Number(thresholdInput.value).toFixed(2);
  $(".rt-depth").value = `${depthInput.value} of ${depthInput.max}`;
  if (!state.last) return;
  const found = selectDetections(state.last, 1, Number(thresholdInput.value));
  const turned = state.mirrored
    ? found.map((one) => ({ ...one, x: state.last.width - one.x - one.width }))
    : found;
  stage.draw(turned, state.last.colors);
  $(".rt-counts").textContent = countClasses(found)
    .map(([name, count]) => `${count} ${name}`)
    .join(" · ");
}

function setDepth(full) {
  if (Number(depthInput.max) === full && $(".rt-ticks").childElementCount === full) return;
  depthInput.max = full;
  $(".rt-ticks").innerHTML = Array.from({ length: full }, (_, i) => `<span>${i + 1}</span>`).join("");
}

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
};
const ms = (value) => (value === undefined ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);

function showReadouts() {
  const now = performance.now();
  const recent = (times, at = (t) => t) => times.filter((one) => now - at(one) < WINDOW_MS);
  state.answers = state.answers.filter((one) => now - one.at < CHART_MS);
  state.camera = recent(state.camera);
  state.skipped = recent(state.skipped);
  const answers = recent(state.answers, (one) => one.at);
  const of = (key) => answers.map((one) => one[key]);
  const perSecond = (count) => (count * 1000) / WINDOW_MS;
  const since = answers.length > 1 ? answers.at(-1).at - answers[0].at : 0;
  $(".rt-detection-fps").textContent = since
    ? `${((answers.length - 1) / (since / 1000)).toFixed(1)} FPS`
    : "–";
  $(".rt-camera-fps").textContent = state.camera.length
    ? `${perSecond(state.camera.length).toFixed(0)} FPS`
    : "–";
  $(".rt-dropped").textContent = state.camera.length
    ? `${perSecond(state.skipped.length).toFixed(0)} / s`
    : "–";
  $(".rt-median").textContent = ms(quantile(of("latency"), 0.5));
  $(".rt-p95").textContent = ms(quantile(of("latency"), 0.95));
  for (const key of ["network", "wait", "model"])
    $(`.rt-${key}`).textContent = ms(quantile(of(key), 0.5));
  showChart(now);
}

function showChart(now) {
  // One slow answer, such as the first after a model loads, must not flatten all the rest.
  const top = Math.max(20, 1.3 * (quantile(state.answers.map((one) => one.latency), 0.95) ?? 0));
  const x = (at) => 300 - ((now - at) / CHART_MS) * 300;
  const path = (points) =>
    points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  const line = state.answers.map((one) => [x(one.at), 90 - Math.min(one.latency / top, 1) * 90]);
  $(".rt-chart-line").setAttribute("d", path(line));
  // A thin line marks each change of depth.
  const changes = state.answers.filter((one, i) => i && one.depth !== state.answers[i - 1].depth);
  const marks = changes.map((one) => `M${x(one.at).toFixed(1)} 0V90`).join("");
  $(".rt-chart-steps").setAttribute("d", marks);
  $(".rt-chart-top").textContent = state.answers.length ? `top: ${Math.round(top)} ms` : "";
}

function problem(sentence) {
  $(".rt-problem").hidden = !sentence;
  if ($(".rt-problem").textContent !== sentence) $(".rt-problem").textContent = sentence;
}

// --- Wiring --------------------------------------------------------------------------------------

const on = (selector, event, handler) => $(selector).addEventListener(event, handler);
on(".rt-start", "click", () => (state.running ? stop() : start()));
on(".rt-pause", "click", () => {
  state.paused = !state.paused;
  $(".rt-pause").textContent = state.paused ? "Resume" : "Pause";
  state.paused ? video.pause() : video.play();
});
on(".rt-mirror", "click", (event) => {
  state.mirrored = !state.mirrored;
  event.target.setAttribute("aria-pressed", state.mirrored);
  video.classList.toggle("mirrored", state.mirrored);
  draw();
});
on(".rt-snapshot", "click", async () => {
  document.dispatchEvent(new CustomEvent("rt-photo", { detail: await takePicture(video) }));
});
cameraInput.addEventListener("change", start);
for (const input of [depthInput, thresholdInput]) input.addEventListener("input", draw);

watchShape($(".rt-controls"), ({ layers }) => setSlider(depthInput, layers));

video.classList.add("mirrored");
checkpointInput.add(new Option("The one that serves", ""));
for (const { id, title, trained_on } of config.checkpoints)
  checkpointInput.add(new Option(`${title} · ${trained_on}`, id));
draw();
setInterval(() => root.offsetParent && !document.hidden && showReadouts(), 500);
