import { Refusal } from "./detector.js";

/**
 * Large files that are fetched once and kept by the browser. Their addresses name their content, so
 * what is kept is never stale. No DOM in here.
 *
 * @typedef {Object} WantedFile
 * @property {string} url
 * @property {number} bytes
 * @property {string} [sha256]  that the content must have
 */

const TRIES = 4;
const WAIT_MS = 500;
const PREFIX = "rtdetr ";

/**
 * What the browser keeps under a name; null where it keeps nothing (plain http, private windows).
 *
 * @param {string} name
 * @returns {Promise<Cache | null>}
 */
async function open(name) {
  try {
    return await caches.open(PREFIX + name);
  } catch {
    return null;
  }
}

/**
 * Which of the files are here, in bytes.
 *
 * @param {string} name
 * @param {WantedFile[]} files
 */
export async function cachedBytes(name, files) {
  const cache = await open(name);
  if (!cache) return 0;
  const found = await Promise.all(files.map(({ url }) => cache.match(url)));
  return files.reduce((sum, { bytes }, i) => sum + (found[i] ? bytes : 0), 0);
}

/**
 * The files' contents in order: those that are not here are fetched, and kept. A transfer that is
 * cut goes on from where it was, some times; later calls begin with the file that is not whole.
 *
 * @param {string} name  what they are kept under; other files under it are let go
 * @param {WantedFile[]} files
 * @param {(bytes: number) => void} onBytes  hears of all bytes that are here so far
 * @param {AbortSignal} signal
 * @returns {Promise<Uint8Array<ArrayBuffer>[]>}
 */
export async function fetchCached(name, files, onBytes, signal) {
  const cache = await open(name);
  const contents = [];
  let before = 0;
  for (const file of files) {
    const done = before;
    const kept = await cache?.match(file.url);
    const content = kept
      ? new Uint8Array(await kept.arrayBuffer())
      : await fetchWhole(file, (bytes) => onBytes(done + bytes), signal);
    if (!kept) {
      // A full disk is no reason not to run.
      await cache?.put(file.url, new Response(content.slice())).catch(() => undefined);
    }
    before += file.bytes;
    onBytes(before);
    contents.push(content);
  }
  const wanted = new Set(files.map(({ url }) => new URL(url).href));
  for (const request of (await cache?.keys()) ?? [])
    if (!wanted.has(request.url)) await cache?.delete(request);
  return contents;
}

/**
 * @param {WantedFile} file
 * @param {(bytes: number) => void} onBytes
 * @param {AbortSignal} signal
 */
async function fetchWhole({ url, bytes, sha256 }, onBytes, signal) {
  const content = new Uint8Array(bytes);
  let at = 0;
  let furthest = 0;
  for (let attempt = 1; at < bytes; attempt++) {
    try {
      const answer = await fetch(url, {
        signal,
        headers: at ? { range: `bytes=${at}-` } : {},
      });
      if (!answer.ok || !answer.body) throw new TypeError(`status ${answer.status}`);
      if (answer.status !== 206) at = 0; // the host knows no ranges, and begins anew
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (at + value.length > bytes) throw new TypeError("too long");
        content.set(value, at);
        at += value.length;
        onBytes(at);
        if (at <= furthest) continue; // seen before: no reason for more patience
        furthest = at;
        attempt = 1;
      }
      if (at < bytes) throw new TypeError("cut off");
    } catch {
      if (signal.aborted) throw new Refusal("The download was cancelled.");
      if (attempt >= TRIES)
        throw new Refusal(
          "The download was interrupted. Check the network, then try again to resume it.",
        );
      await new Promise((done) => setTimeout(done, WAIT_MS * attempt));
    }
  }
  if (sha256 && crypto.subtle && (await digest(content)) !== sha256)
    throw new Refusal("The downloaded file is damaged. Try again.");
  return content;
}

/** @param {Uint8Array<ArrayBuffer>} content */
async function digest(content) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
