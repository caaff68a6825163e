import assert from "node:assert/strict";
import { test } from "node:test";

import { Store } from "../../rtdetr_demo/ui/static/lib/store.js";

test("a listener hears of its own keys alone, at first and when they change", () => {
  const store = new Store({ a: 1, b: 1 });
  const heard = [];
  store.subscribe(["a"], ({ a }) => heard.push(a));
  store.set({ b: 2 });
  store.set({ a: 1 });
  store.set({ a: 3 });
  assert.deepEqual(heard, [1, 3]);
});

test("several changes are told once, when all of them are in place", () => {
  const store = new Store({ a: 1, b: 1 });
  const heard = [];
  store.subscribe(["a", "b"], ({ a, b }) => heard.push([a, b]));
  store.set({ a: 2, b: 2 });
  assert.deepEqual(heard.slice(1), [[2, 2]]);
});

test("what a listener sets is told after the round, to everyone", () => {
  const store = new Store({ a: 1, b: 0 });
  const heard = [];
  store.subscribe(["a"], ({ a }) => store.set({ b: 10 * a }));
  store.subscribe(["a", "b"], ({ a, b }) => heard.push([a, b]));
  store.set({ a: 2 });
  assert.deepEqual(heard.at(-1), [2, 20]);
});

test("who has left hears no more", () => {
  const store = new Store({ a: 1 });
  let calls = 0;
  store.subscribe(["a"], () => calls++)();
  store.set({ a: 2 });
  assert.equal(calls, 1);
});
