import assert from "node:assert/strict";
import { test } from "node:test";

import { DeviceDetector } from "../../rtdetr_demo/ui/static/lib/device_detector.js";

const ASKED = { checkpoint: "small", queries: null, size: null, depth: 6 };
const CONFIG = { serving: "small", deviceModels: { small: { manifest: "m.json", colors: {} } } };

test(
  "a second frame is refused while the first waits for the model",
  { timeout: 5000 },
  async (t) => {
    let answer = () => {};
    t.mock.method(
      globalThis,
      "fetch",
      () => new Promise((done) => (answer = () => done({ ok: false }))),
    );
    const detector = new DeviceDetector(
      /** @type {any} */ (CONFIG),
      null,
      (path) => `http://127.0.0.1/${path}`,
    );
    const closed = [];
    const detect = (name) =>
      detector.detectFrame(/** @type {any} */ ({ close: () => closed.push(name) }), ASKED);
    const first = detect("first");
    await assert.rejects(detect("second"), /previous frame is still being processed/);
    assert.deepEqual(closed, ["second"]);
    answer();
    await assert.rejects(first, /could not be loaded/);
    const third = detect("third");
    answer();
    await assert.rejects(third, /could not be loaded/);
    assert.deepEqual(closed, ["second", "first", "third"]);
  },
);
