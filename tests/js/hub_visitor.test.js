import assert from "node:assert/strict";
import { test } from "node:test";
import { forwardZeroGpuHeaders } from "../../rtdetr_demo/ui/static/lib/hub_visitor.js";

const CALL = "https://someone-demo.hf.space/gradio_api/component_server/";

/** A Space's window whose parent answers with `headers`; notes what is sent. */
function space(headers, host = "someone-demo.hf.space") {
  const sent = [];
  const parent = {
    asked: [],
    postMessage(message, origin, [port]) {
      this.asked.push([message, origin]);
      if (headers) port.postMessage(headers);
    },
  };
  const page = {
    location: { hostname: host },
    parent,
    supports_zerogpu_headers: true,
    async fetch(input, init) {
      sent.push([String(input), Object.fromEntries(new Headers(init?.headers))]);
      return new Response("{}");
    },
  };
  forwardZeroGpuHeaders(page);
  return { page, parent, sent };
}

test("calls of the page carry what the Hub's page gives for its visitor", async () => {
  const { page, parent, sent } = space({ "X-Of-Visitor": "signed in" });
  await page.fetch(CALL, { method: "POST", headers: { "Content-Type": "application/json" } });
  assert.deepEqual(sent[0][1], {
    "content-type": "application/json",
    "x-of-visitor": "signed in",
  });
  assert.deepEqual(parent.asked, [["zerogpu-headers", "https://huggingface.co"]]);
});

test("other requests, and a page that the Hub's does not answer, stay as they are", async () => {
  const { page, parent, sent } = space({ "X-Of-Visitor": "signed in" });
  await page.fetch("https://elsewhere.example/component_server/of/another");
  page.supports_zerogpu_headers = false;
  await page.fetch(CALL);
  assert.deepEqual(parent.asked, []);
  assert.ok(sent.every(([, headers]) => Object.keys(headers).length === 0));
});

test("elsewhere than on a Space nobody is asked", async () => {
  const { page, parent } = space({ "X-Of-Visitor": "signed in" }, "demo.example");
  await page.fetch(CALL.replace("someone-demo.hf.space", "demo.example"));
  assert.deepEqual(parent.asked, []);
});

test("a Hub that keeps silent holds a call up for two seconds, not longer", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { page, sent } = space(null);
  const call = page.fetch(CALL);
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  assert.equal(sent.length, 0);
  context.mock.timers.tick(2000);
  await call;
  assert.equal(sent.length, 1);
});
