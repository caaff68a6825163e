import { Refusal } from "./detector.js";

/**
 * Detects on the server.
 *
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").PhotoSource} PhotoSource
 * @typedef {import("./detector.js").Asked} Asked
 * @typedef {import("./detector.js").Detector} Detector
 * @implements {Detector}
 */
export class ServerDetector {
  /** @type {"server"} */
  kind = "server";

  /**
   * @param {import("./rpc.js").Rpc} rpc
   * @param {import("./types.js").PageConfig} config
   */
  constructor(rpc, config) {
    this.rpc = rpc;
    this.config = config;
  }

  /**
   * @param {PhotoSource} source
   * @param {Asked} asked
   */
  async detect(source, asked) {
    return this.#ask(source, await this.#reference(source), asked);
  }

  /**
   * @param {Result} result
   * @param {Asked} asked
   */
  async again(result, asked) {
    if (!result.source) throw new Refusal("There is no picture to look at again. Open one first.");
    if (!result.id) return this.detect(result.source, asked);
    return this.#ask(result.source, { result: result.id }, asked);
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
   * @returns {Promise<Result>}
   */
  async #ask(source, reference, { checkpoint, queries, size }) {
    const { id, colors, picture, runtime, limits, ...predictions } = await this.rpc.call("detect", {
      ...reference,
      checkpoint,
      queries,
      size,
    });
    return {
      predictions,
      source,
      title: titleOf(source, this.config),
      picture,
      colors,
      settings: { checkpoint: predictions.checkpoint, queries, size, runtime },
      depth: predictions.layers.length,
      id,
      limits,
    };
  }

  /** @param {PhotoSource} source */
  async #reference({ example, url, file }) {
    if (example) return { example };
    if (url) return { url };
    if (!file) throw new Refusal("No picture came along. Choose one first.");
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
