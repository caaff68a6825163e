import { Refusal } from "./detector.js";

/**
 * Where inspections come from: shipped with an example, or from the server.
 *
 * @typedef {import("./types.js").App} App
 * @typedef {import("./types.js").Result} Result
 * @typedef {import("./types.js").Detection} Detection
 * @typedef {import("./inspection.js").Overview} Overview
 * @typedef {import("./inspection.js").Query} Query
 * @typedef {{overview: Overview, query: Query}} Found
 */

const NEEDS_SERVER =
  "Inside needs the demo's server. Start it with python app.py, or open an example.";
const NOT_SHIPPED = "There is no data for this weak detection. Choose a stronger one.";
const ONLY_PHOTOS = "Inside works on photos only. Open one, or take a snapshot.";

export class Inspector {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {WeakMap<Result, {overview: Overview | null, queries: Map<string, Query>}>} */
    this.known = new WeakMap();
    /** @type {Map<string, Promise<{overview: Overview, queries: Query[]}>>} */
    this.files = new Map();
  }

  /**
   * What happened behind a detection of the decoder layer `layer`. Rejects with a `Refusal`.
   *
   * @param {Result} result
   * @param {Detection} detection
   * @param {number} layer
   * @returns {Promise<Found>}
   */
  async find(result, detection, layer) {
    const shipped = this.#shipped(result);
    if (shipped) {
      const { overview, queries } = await this.#file(shipped);
      const query = queries.find((/** @type {Query} */ one) => one.query === detection.query);
      if (query) return { overview, query };
      if (!this.app.rpc) throw new Refusal(NOT_SHIPPED);
    }
    const known = this.known.get(result) ?? { overview: null, queries: new Map() };
    this.known.set(result, known);
    const name = `${detection.key} ${layer}`;
    let query = known.queries.get(name);
    let { overview } = known;
    if (!query || !overview) {
      const { queries, ...rest } = await this.#ask(result, detection, layer, overview !== null);
      overview = known.overview ??= rest;
      [query] = /** @type {[Query]} */ (queries);
      known.queries.set(name, query);
    }
    return { overview: /** @type {Overview} */ (overview), query };
  }

  /**
   * The shipped file of a result that is shown as it was shipped.
   *
   * @param {Result} result
   */
  #shipped({ id, source, settings }) {
    const example = this.app.config.examples.find((one) => one.name === source?.example);
    const { queries, size, checkpoint } = settings;
    const isAsShipped =
      !id && queries === null && size === null && example?.checkpoint === checkpoint;
    return isAsShipped ? example?.inspection : undefined;
  }

  /** @param {string} path */
  #file(path) {
    const before = this.files.get(path);
    if (before) return before;
    const file = fetch(this.app.asset(path))
      .catch(() => null)
      .then(async (answer) => {
        if (answer?.ok) {
          const { queries, ...overview } = await answer.json();
          return { overview, queries };
        }
        this.files.delete(path);
        throw new Refusal("The data of this example could not be loaded. Try again.");
      });
    this.files.set(path, file);
    return file;
  }

  /**
   * @param {Result} result
   * @param {Detection} detection
   * @param {number} layer
   * @param {boolean} known
   */
  async #ask({ id, source, settings }, { label, score, x, y, width, height }, layer, known) {
    if (!source) throw new Refusal(ONLY_PHOTOS);
    const { rpc } = this.app;
    if (!rpc || (!id && !source.example)) throw new Refusal(NEEDS_SERVER);
    const { checkpoint, queries, size } = settings;
    return rpc.call("inspect", {
      ...(id ? { result: id } : { example: source.example }),
      checkpoint,
      queries,
      size,
      label,
      score,
      layer,
      known,
      box: [x, y, x + width, y + height],
    });
  }
}
