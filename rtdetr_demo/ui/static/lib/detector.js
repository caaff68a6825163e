/**
 * What stands between the page and whatever detects: the server, or the visitor's own device.
 *
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 * @typedef {import("./types.js").Status} Status
 *
 * @typedef {Object} Asked
 * @property {string} checkpoint  "": whatever serves
 * @property {number | null} queries
 * @property {number | null} size
 *
 * @typedef {(ahead: number) => void} OnQueuePosition
 *   Hears how many go first while a request waits in line.
 *
 * @typedef {Object} Detector
 * Every method rejects with a `Refusal` where it cannot do what is asked.
 * @property {"server" | "device"} kind
 * @property {(source: PhotoSource, asked: Asked, onQueuePosition?: OnQueuePosition) => Promise<Result>} detect
 *   Detections of every layer in a picture.
 * @property {(result: Result, asked: Asked, onQueuePosition?: OnQueuePosition) => Promise<Result>} again
 *   The same picture with other settings.
 * @property {(frame: ImageBitmap | VideoFrame, asked: Asked & {depth: number}) => Promise<Result>} detectFrame
 *   Detections of layer `depth` alone in a frame of a camera or a video; the frame belongs to the
 *   detector from now on. One at a time: send the next when this one is answered.
 * @property {(checkpoint: string) => Promise<Status>} status
 *   What there is to know of a checkpoint: whether it is here, and what each depth costs.
 * @property {(checkpoint: string) => Promise<void>} download  Begin to fetch a checkpoint.
 * @property {(checkpoint: string) => Promise<void>} cancelDownload
 * @property {(result: Result) => Promise<string>} original
 *   An address, for <img>, of the result's picture at its full size.
 */

/** What went wrong, in a sentence for whoever uses the page. */
export class Refusal extends Error {}

/**
 * A detector whose module is fetched when it is first asked for something.
 *
 * @param {Detector["kind"]} kind
 * @param {() => Promise<Detector>} load
 * @returns {Detector}
 */
export function lazyDetector(kind, load) {
  /** @type {Promise<Detector> | undefined} */
  let loaded;
  const get = () => (loaded ??= load());
  return {
    kind,
    detect: async (...given) => (await get()).detect(...given),
    again: async (...given) => (await get()).again(...given),
    detectFrame: async (...given) => (await get()).detectFrame(...given),
    status: async (...given) => (await get()).status(...given),
    download: async (...given) => (await get()).download(...given),
    cancelDownload: async (...given) => (await get()).cancelDownload(...given),
    original: async (...given) => (await get()).original(...given),
  };
}
