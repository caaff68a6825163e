import assert from "node:assert/strict";
import { test } from "node:test";

import { Rpc } from "../../rtdetr_demo/ui/static/lib/rpc.js";

globalThis.document ??= /** @type {any} */ ({ baseURI: "http://127.0.0.1/" });
globalThis.fetch = /** @type {any} */ (async () => undefined);

/** A server that gives each look the next of `places`, and answers the call when it is told to. */
function waiting(places) {
  let looks = 0;
  let answer = () => {};
  const rpc = new Rpc(
    {
      detect: () => new Promise((done) => (answer = () => done({ found: 1 }))),
      ahead: async () => ({ ahead: places[looks++] ?? null }),
    },
    async () => ({ path: "" }),
  );
  return { rpc, looks: () => looks, answer: () => answer() };
}

const turn = () => new Promise((done) => setTimeout(done));

/** Let so many seconds pass, with what they set off. */
async function pass(timers, seconds) {
  for (let i = 0; i < seconds; i++) {
    timers.tick(1000);
    await turn();
  }
}

test("a request that the server has not admitted yet is looked after until its turn comes", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { rpc, looks, answer } = waiting([null, 2, 1, null]);
  /** @type {number[]} */
  const told = [];
  const called = rpc.callInTurn("detect", {}, (ahead) => told.push(ahead));
  await pass(t.mock.timers, 8);
  assert.deepEqual(told, [0, 2, 1, 0]);
  assert.equal(looks(), 4); // from its turn on there is nothing to ask
  answer();
  assert.deepEqual(await called, { found: 1 });
});

test("what is answered at once is never asked for its place", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { rpc, looks, answer } = waiting([]);
  const called = rpc.callInTurn("detect", {});
  answer();
  await called;
  await pass(t.mock.timers, 5);
  assert.equal(looks(), 0);
});
