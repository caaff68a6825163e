import assert from "node:assert/strict";
import { test } from "node:test";

import { Store } from "../../rtdetr_demo/ui/static/lib/store.js";

// The actions ask an element's module whether the visitor wants motion; no element is made here.
globalThis.HTMLElement ??= /** @type {any} */ (class {});
const { Actions } = await import("../../rtdetr_demo/ui/static/lib/actions.js");

/** A page on which a detector answers when it is told to. */
function page() {
  const answers = [];
  const asked = [];
  const tells = [];
  const detect = (source, _, tell) => {
    asked.push(source);
    tells.push(tell);
    return new Promise((answer) => answers.push(() => answer(resultOf(source, "new"))));
  };
  const store = new Store({
    source: "photo",
    result: resultOf({ example: "shipped.jpg" }, "old"),
    status: { checkpoint: "new", serving: "new", here: true, threshold: 0.5 },
    checkpoint: "",
    queries: null,
    size: null,
    runtime: "server",
    depth: 6,
    compare: null,
    hidden: new Set(),
    thresholdChosen: true,
    busy: "",
    problem: "",
  });
  const app = {
    store,
    config: { examples: [], checkpoints: [], serving: "new" },
    detector: () => ({
      status: async () => store.get().status,
      detect,
      again: ({ source }, ...rest) => detect(source, ...rest),
    }),
  };
  return { actions: new Actions(app), store, asked, answers, tells };
}

const resultOf = (source, checkpoint) => ({
  source,
  settings: { checkpoint, queries: null, size: null },
  predictions: { classes: [] },
  depth: 6,
  id: "1",
});

test("another checkpoint looks again at what is on the stage", async () => {
  const { actions, store, answers } = page();
  const done = actions.catchUp();
  answers[0]();
  await done;
  assert.equal(store.get().result.settings.checkpoint, "new");
});

test("a picture that the visitor sends is not overtaken by the page's own second look", async () => {
  const { actions, store, asked, answers } = page();
  const photo = { file: "mine.jpg" };
  actions.openPhoto(photo);
  const done = actions.catchUp();
  answers[0]();
  await done;
  assert.equal(store.get().result.source, photo);
  assert.deepEqual(asked, [photo]);
});

test("a photo that comes back after the camera is looked at as photos are now", async () => {
  const { actions, store, answers } = page();
  const before = { ...resultOf({ example: "shipped.jpg" }, "old"), picture: "shipped.webp" };
  store.set({ result: { ...resultOf(null, "new"), picture: null } });
  actions.photo = before;
  const done = actions.restorePhoto();
  assert.equal(store.get().result, before);
  await undefined;
  answers[0]();
  await done;
  assert.equal(store.get().result.settings.checkpoint, "new");
});

test("a photo that comes back where it is not seen is not looked at again", async () => {
  const { actions, store, asked, answers } = page();
  const opened = actions.openPhoto({ file: "mine.jpg" });
  answers[0]();
  await opened;
  const photo = store.get().result;
  const live = { ...resultOf(null, "new"), picture: null };
  store.set({ source: "video", result: live, runtime: "device" });
  await actions.restorePhoto(); // as the camera leaves the stage
  assert.equal(store.get().result, photo);
  assert.equal(asked.length, 1);
});

test("a snapshot does not have the photo before it looked at again", async () => {
  const { actions, store, asked, answers } = page();
  const before = { ...resultOf({ example: "shipped.jpg" }, "old"), picture: "shipped.webp" };
  store.set({ result: { ...resultOf(null, "new"), picture: null } });
  const photo = { file: "snapshot.jpg" };
  actions.photo = before;
  const restored = actions.restorePhoto(); // as the camera leaves the stage
  const opened = actions.openPhoto(photo);
  answers[0]();
  await Promise.all([restored, opened]);
  assert.deepEqual(asked, [photo]);
});

test("of two pictures the newer one wins, whichever is answered first", async () => {
  const { actions, store, answers } = page();
  const first = actions.openPhoto({ file: "1" });
  const second = actions.openPhoto({ file: "2" });
  answers[1]();
  await second;
  answers[0]();
  await first;
  assert.equal(store.get().result.source.file, "2");
});

test("who waits in line is told how many go first, until the answer is there", async () => {
  const { actions, store, answers, tells } = page();
  const done = actions.openPhoto({ file: "1" });
  tells[0](3);
  assert.match(store.get().busy, /3 ahead of you/);
  answers[0]();
  await done;
  tells[0](2);
  assert.equal(store.get().busy, "");
});

test("an address that asks for another shape has the picture looked at again, and only then", async () => {
  const { actions, store, asked, answers } = page();
  store.set({ status: { ...store.get().status, checkpoint: "old" } });
  await actions.follow({ example: "shipped.jpg" });
  assert.deepEqual(asked, []);
  store.set({ queries: 50 });
  const done = actions.follow({ example: "shipped.jpg" });
  await new Promise((later) => setTimeout(later));
  answers[0]();
  await done;
  assert.deepEqual(asked, [{ example: "shipped.jpg" }]);
});
