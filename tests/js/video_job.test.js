import assert from "node:assert/strict";
import { test } from "node:test";

import { Store } from "../../rtdetr_demo/ui/static/lib/store.js";

// What tells an error as a sentence lies beside an element's module; no element is made here.
globalThis.HTMLElement ??= /** @type {any} */ (class {});
const { VideoJob } = await import("../../rtdetr_demo/ui/static/lib/video_job.js");

globalThis.document ??= /** @type {any} */ ({ baseURI: "http://127.0.0.1/" });

const CLIP = { size: 1, name: "old.mp4" };
const OTHER = { size: 1, name: "new.mp4" };
const OPTIONS = { stride: 1, longest: null, line: null };
const OUTCOME = {
  running: false,
  frames: 3,
  cancelled: false,
  crossed: [0, 0],
  labels: [],
  colors: [],
  seen: [],
  files: { "detections.jsonl": "detections.jsonl" },
};

/** A job whose calls to the server are answered by `answer(name, result)`. */
function jobOf(t) {
  t.mock.method(globalThis, "fetch", async () => new Response('{"time": 0, "detections": []}\n'));
  const store = new Store({ video: null, problem: "" });
  const calls = [];
  const send = (name, request) =>
    new Promise((resolve, reject) => calls.push({ name, request, resolve, reject }));
  const job = new VideoJob(
    /** @type {any} */ ({
      store,
      config: {},
      actions: { problem: (problem) => store.set({ problem }) },
      rpc: { call: send, upload: (file) => send("upload", file) },
    }),
  );
  const answer = async (name, result) => {
    const at = calls.findIndex((call) => call.name === name);
    calls.splice(at, 1)[0].resolve(result);
    await settle();
  };
  const asked = () => calls.map((call) => [call.name, call.request.id ?? call.request.name]);
  job.open(/** @type {any} */ (CLIP));
  return { job, store, calls, answer, asked };
}

const settle = () => new Promise((done) => setTimeout(done));

test("a clip that is replaced while it is uploaded leaves the next one alone", async (t) => {
  const { job, store, answer, asked } = jobOf(t);
  const ran = job.run(OPTIONS);
  job.close();
  job.open(/** @type {any} */ (OTHER));
  const opened = store.get().video;
  await answer("upload", "old");
  assert.deepEqual(asked(), [], "no job was begun for it");
  assert.equal(store.get().video, opened);
  await ran;
});

test("a job that gets its name too late is cancelled, and the next clip's goes on", async (t) => {
  const { job, store, answer, asked, calls } = jobOf(t);
  const ran = job.run(OPTIONS);
  await answer("upload", "old");
  job.open(/** @type {any} */ (OTHER));
  job.run(OPTIONS);
  const opened = store.get().video;
  await answer("video", { id: "a" });
  assert.deepEqual(asked(), [
    ["upload", "new.mp4"],
    ["cancel_video", "a"],
  ]);
  assert.equal(store.get().video, opened);
  await ran;
  assert.equal(opened.progress.told, "Uploading");
  calls.splice(1);
  await answer("upload", "new");
  await answer("video", { id: "b" });
  assert.deepEqual(asked(), [["video_state", "b"]]);
});

test("what a replaced clip's job brings, or fails with, concerns nobody", async (t) => {
  for (const fails of [false, true]) {
    const { job, store, answer, asked, calls } = jobOf(t);
    const ran = job.run(OPTIONS);
    await answer("upload", "old");
    await answer("video", { id: "a" });
    job.open(/** @type {any} */ (OTHER));
    const opened = store.get().video;
    assert.deepEqual(asked(), [
      ["video_state", "a"],
      ["cancel_video", "a"],
    ]);
    if (fails) calls[0].reject(new Error("gone"));
    else await answer("video_state", OUTCOME);
    await ran;
    assert.equal(store.get().video, opened);
    assert.equal(store.get().problem, "");
    t.mock.restoreAll();
  }
});

test("a clip that is cancelled while it is uploaded can be run again at once", async (t) => {
  const { job, store, answer, asked } = jobOf(t);
  job.run(OPTIONS);
  job.cancel();
  assert.equal(store.get().video.progress, null);
  job.run(OPTIONS);
  await answer("upload", "first");
  assert.deepEqual(asked(), [["upload", "old.mp4"]], "the first run begins no job");
  assert.equal(store.get().video.progress.told, "Uploading");
});

test("a clip that is cancelled on the way keeps what is done by then", async (t) => {
  const { job, store, answer } = jobOf(t);
  const ran = job.run(OPTIONS);
  await answer("upload", "old");
  await answer("video", { id: "a" });
  job.cancel();
  await answer("video_state", { ...OUTCOME, cancelled: true });
  await ran;
  assert.equal(store.get().video.outcome.cancelled, true);
  assert.equal(store.get().video.progress, null);
});
