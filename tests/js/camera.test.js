import assert from "node:assert/strict";
import { test } from "node:test";

import { takePicture } from "../../rtdetr_demo/ui/static/lib/camera.js";
import { fetchSample } from "../../rtdetr_demo/ui/static/lib/clip.js";
import { Refusal } from "../../rtdetr_demo/ui/static/lib/detector.js";

const asset = (path) => `http://127.0.0.1/${path}`;

/** A page whose canvases give this content. */
function drawing(t, content) {
  const before = globalThis.document;
  const canvas = { getContext: () => null, toBlob: (done) => done(content) };
  globalThis.document = /** @type {any} */ ({ createElement: () => canvas });
  t.after(() => (globalThis.document = before));
  return /** @type {any} */ ({ videoWidth: 4, videoHeight: 3 });
}

test("a snapshot is the JPEG that the browser makes", async (t) => {
  const file = await takePicture(drawing(t, new Blob(["jpeg"])));
  assert.deepEqual(
    [file.name, file.type, await file.text()],
    ["snapshot.jpg", "image/jpeg", "jpeg"],
  );
});

test("where the browser makes no picture there is a sentence, not a file", async (t) => {
  await assert.rejects(takePicture(drawing(t, null)), (error) => {
    assert.ok(error instanceof Refusal);
    return /could not take the picture\. Try again/.test(error.message);
  });
});

test("a sample clip out of reach is a sentence, whatever failed", async (t) => {
  const broken = { ok: true, blob: () => Promise.reject(new TypeError("cut off")) };
  for (const fetched of [
    () => Promise.reject(new TypeError("no network")),
    async () => ({ ok: false }),
    async () => broken,
  ]) {
    t.mock.method(globalThis, "fetch", fetched);
    await assert.rejects(fetchSample(asset), (error) => {
      assert.ok(error instanceof Refusal);
      return /sample clip could not be loaded/.test(error.message);
    });
    t.mock.restoreAll();
  }
  t.mock.method(globalThis, "fetch", async (url) => new Response(url));
  assert.equal(await (await fetchSample(asset)).text(), "http://127.0.0.1/examples/cows.mp4");
});
