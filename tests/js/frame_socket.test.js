import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers";

import { FrameSocket } from "../../rtdetr_demo/ui/static/lib/frame_socket.js";

const HEADER = { checkpoint: "", queries: null, size: null, decoder_layers: 6 };
const settle = () => new Promise((done) => setImmediate(done));

/** A frame socket whose server answers what `reply` is called with. */
function socketTo(t) {
  const sent = [];
  /** @type {any} */
  let server;
  const Connection = class {
    readyState = 1;
    constructor() {
      server = this;
      setImmediate(() => this.onmessage({ data: '{"viewer": "me"}' }));
    }
    send(message) {
      const length = new DataView(message).getUint16(0);
      sent.push(JSON.parse(new TextDecoder().decode(new Uint8Array(message, 2, length))));
    }
    close() {
      this.readyState = 3;
      this.onclose();
    }
  };
  const before = globalThis.WebSocket;
  globalThis.WebSocket = /** @type {any} */ (Object.assign(Connection, { OPEN: 1 }));
  t.after(() => (globalThis.WebSocket = before));
  const reply = (message) => server.onmessage({ data: JSON.stringify(message) });
  return { socket: new FrameSocket("http://127.0.0.1/"), sent, reply };
}

test(
  "a second frame is refused from the moment that the first is given",
  { timeout: 5000 },
  async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { socket, sent, reply } = socketTo(t);
    const first = socket.ask(HEADER, new Blob(["jpeg"]));
    const second = socket.ask(HEADER, new Blob(["jpeg"]));
    await assert.rejects(second, /previous frame is still being processed/);
    while (!sent.length) await settle();
    reply({ frame: sent[0].frame, layers: [1] });
    assert.deepEqual((await first).layers, [1]);
    assert.equal(sent.length, 1);
  },
);

test("after an answer, an error or a silence the next frame may go", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { socket, sent, reply } = socketTo(t);
  const ask = async (number) => {
    const asked = socket.ask(HEADER, new Blob(["jpeg"]));
    asked.catch(() => undefined);
    while (sent.length < number) await settle();
    return { asked };
  };
  const { asked: refused } = await ask(1);
  reply({ frame: sent[0].frame, error: "Too many frames." });
  await assert.rejects(refused, /Too many frames/);
  const { asked: silent } = await ask(2);
  t.mock.timers.tick(15_000);
  await assert.rejects(silent, /is not responding/);
  const { asked: answered } = await ask(3);
  reply({ frame: sent[2].frame, layers: [] });
  assert.deepEqual((await answered).layers, []);
});
