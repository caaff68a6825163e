import assert from "node:assert/strict";
import { test } from "node:test";

import { fetchCached } from "../../rtdetr_demo/ui/static/lib/file_cache.js";

const CONTENT = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
const FILE = { url: "http://127.0.0.1/model", bytes: CONTENT.length };

/**
 * A host that closes the connection after `cuts[n]` bytes of its nth answer, the last of them from
 * then on; `asked` holds the range of each request.
 */
function host(cuts, { ranges }) {
  const asked = [];
  globalThis.fetch = /** @type {any} */ (
    async (_, { headers }) => {
      const cut = cuts[Math.min(asked.length, cuts.length - 1)];
      asked.push(headers.range ?? "all");
      const from = ranges ? Number(headers.range?.match(/\d+/)[0] ?? 0) : 0;
      const body = new ReadableStream({
        start(stream) {
          stream.enqueue(CONTENT.slice(from, from + cut));
        },
        pull(stream) {
          if (from + cut < CONTENT.length) stream.error(new TypeError("network error"));
          else stream.close();
        },
      });
      return new Response(body, { status: headers.range && ranges ? 206 : 200 });
    }
  );
  return asked;
}

/** Fetch, with the pauses between tries cut short. */
async function fetched(t) {
  t.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ run) => queueMicrotask(run));
  const [content] = await fetchCached(
    "test",
    [FILE],
    () => undefined,
    new AbortController().signal,
  );
  return content;
}

test("a transfer that is cut goes on from where it was", async (t) => {
  const asked = host([400, 300, 1000], { ranges: true });
  assert.deepEqual(await fetched(t), CONTENT);
  assert.deepEqual(asked, ["all", "bytes=400-", "bytes=700-"]);
});

test("a host that knows no ranges is asked for the file anew", async (t) => {
  const asked = host([400, 1000], { ranges: false });
  assert.deepEqual(await fetched(t), CONTENT);
  assert.deepEqual(asked, ["all", "bytes=400-"]);
});

test("a host that always cuts at the same place is given up, in a sentence", async (t) => {
  const asked = host([400], { ranges: false });
  await assert.rejects(fetched(t), /download was interrupted/);
  assert.equal(asked.length, 4);
});
