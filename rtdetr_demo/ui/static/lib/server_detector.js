import { Refusal } from "./detector.js";
import { FrameSocket } from "./frame_socket.js";
import { PictureUrls } from "./picture_urls.js";

const FRAME_QUALITY = 0.8;

/**
 * Detects on the server.
 *
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 * @typedef {import("./detector.js").Asked} Asked
 * @typedef {import("./detector.js").OnQueuePosition} OnQueuePosition
 * @typedef {import("./detector.js").Detector} Detector
 * @implements {Detector}
 */
export class ServerDetector {
  /** @type {"server"} */
  kind = "server";
  #frames = new FrameSocket(document.baseURI);
  #pictures = new PictureUrls();
  #canvas = document.createElement("canvas");
  /** What the frames' answers say once for each checkpoint: names and colours of its classes. */
  #told = { checkpoint: "", classes: /** @type {string[]} */ ([]), colors: {} };

  /**
   * @param {import("./rpc.js").Rpc} rpc
   * @param {import("./types.js").PageConfig} config
   * @param {(name: string) => string} asset  the address of one of the page's files
   */
  constructor(rpc, config, asset) {
    this.rpc = rpc;
    this.config = config;
    this.asset = asset;
  }

  /**
   * @param {PhotoSource} source
   * @param {Asked} asked
   * @param {OnQueuePosition} [onQueuePosition]
   */
  async detect(source, asked, onQueuePosition) {
    return this.#ask(source, await this.#reference(source), asked, onQueuePosition);
  }

  /**
   * @param {Result} result
   * @param {Asked} asked
   * @param {OnQueuePosition} [onQueuePosition]
   */
  async again(result, asked, onQueuePosition) {
    if (!result.source) throw new Refusal("There is no picture to detect in. Open one first.");
    if (!result.id) return this.detect(result.source, asked, onQueuePosition);
    const reference = { result: result.id };
    return this.#ask(result.source, reference, asked, onQueuePosition, result.picture);
  }

  /**
   * @param {ImageBitmap | VideoFrame} frame
   * @param {Asked & {depth: number}} asked
   */
  async detectFrame(frame, { checkpoint, queries, size, depth }) {
    const jpeg = await this.#jpeg(frame);
    const answer = await this.#frames.ask(
      { checkpoint, queries, size, decoder_layers: depth },
      jpeg,
    );
    if (answer.classes) {
      const { classes, colors } = answer;
      this.#told = { checkpoint: answer.checkpoint, classes, colors };
    }
    const { width, height, layers, timing_ms, decoder_layers, runtime } = answer;
    const { classes, colors } = this.#told;
    return {
      predictions: {
        checkpoint: answer.checkpoint,
        classes,
        width,
        height,
        layers,
        first: decoder_layers,
        timing_ms,
      },
      source: null,
      title: "frame",
      picture: null,
      colors,
      settings: { checkpoint: answer.checkpoint, queries, size, runtime },
      depth: answer.depth,
      id: null,
    };
  }

  /** @param {ImageBitmap | VideoFrame} frame */
  async #jpeg(frame) {
    const canvas = this.#canvas;
    canvas.width = "displayWidth" in frame ? frame.displayWidth : frame.width;
    canvas.height = "displayHeight" in frame ? frame.displayHeight : frame.height;
    canvas.getContext("2d")?.drawImage(frame, 0, 0, canvas.width, canvas.height);
    frame.close();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", FRAME_QUALITY));
    if (!blob) throw new Refusal("This browser could not read the camera frame. Try again.");
    return /** @type {Blob} */ (blob);
  }

  /** @param {string} checkpoint */
  status(checkpoint) {
    return this.rpc.call("status", { checkpoint });
  }

  /** @param {string} checkpoint */
  async download(checkpoint) {
    await this.rpc.call("download", { checkpoint });
  }

  /** @param {string} checkpoint */
  async cancelDownload(checkpoint) {
    await this.rpc.call("cancel_download", { checkpoint });
  }

  /** @param {Result} result */
  async original(result) {
    if (!result.id) return result.picture ?? "";
    const { url } = await this.rpc.call("original", { result: result.id });
    return new URL(url, document.baseURI).href;
  }

  /**
   * @param {PhotoSource} source
   * @param {object} reference
   * @param {Asked} asked
   * @param {OnQueuePosition} [onQueuePosition]
   * @param {string | null} [shown]  the address of the picture, where it is shown already
   * @returns {Promise<Result>}
   */
  async #ask(source, reference, { checkpoint, queries, size }, onQueuePosition, shown) {
    const request = { ...reference, checkpoint, queries, size };
    const answer = await this.rpc.callInTurn("detect", request, onQueuePosition);
    const { id, colors, picture, runtime, limits, note, ...predictions } = answer;
    return {
      predictions,
      source,
      title: titleOf(source, this.config),
      picture: picture ? new URL(picture, document.baseURI).href : shown || this.#own(source),
      colors,
      settings: { checkpoint: predictions.checkpoint, queries, size, runtime },
      depth: predictions.layers.length,
      id,
      limits,
      note,
    };
  }

  /**
   * The address of a picture that this page has by itself.
   *
   * @param {PhotoSource} source
   */
  #own({ example, file }) {
    const known = this.config.examples.find((one) => one.name === example);
    if (known) return this.asset(known.picture);
    return file ? this.#pictures.add(file) : null;
  }

  /** @param {PhotoSource} source */
  async #reference({ example, url, file }) {
    if (example) return { example };
    if (url) return { url };
    if (!file) throw new Refusal("No picture selected. Choose one first.");
    const most = this.config.limits?.pictureBytes ?? Infinity;
    if (file.size > most)
      throw new Refusal(`This file is over ${most / 2 ** 20} MB. Send a smaller one.`);
    return { path: await this.rpc.upload(file) };
  }
}

/**
 * A picture's name, for people.
 *
 * @param {PhotoSource} source
 * @param {import("./types.js").PageConfig} config
 */
export function titleOf({ example, url, file }, config) {
  if (example) return config.examples.find((one) => one.name === example)?.title ?? example;
  return file?.name ?? url?.split(/[?#]/)[0].split("/").pop() ?? "picture";
}
