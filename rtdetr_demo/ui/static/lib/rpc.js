import { Refusal } from "./detector.js";

const NO_ANSWER = "The server is not responding. Check that it is running, then try again.";
const LOST_UPLOAD = "The upload failed. Try again.";
const LOOK_EVERY_MS = 2000;
const PLACE_EVERY_MS = 1000;

/**
 * The server's functions, as Gradio hands them over.
 *
 * @typedef {Record<string, (request: object) => Promise<any>>} ServerFunctions
 * @typedef {(file: File) => Promise<{path: string}>} Upload
 */
export class Rpc {
  /**
   * @param {ServerFunctions} server
   * @param {Upload} upload
   */
  constructor(server, upload) {
    this.server = server;
    this.sendFile = upload;
  }

  /**
   * Call one. Rejects with a `Refusal`: what the server says, or that it is out of reach, which
   * Gradio's own call would wait for without end.
   *
   * @param {string} name
   * @param {object} [request]
   * @returns {Promise<any>}
   */
  async call(name, request = {}) {
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let watch;
    const gone = new Promise((_, reject) => {
      watch = setInterval(() => {
        fetch(document.baseURI, { method: "HEAD", cache: "no-store" }).catch(() =>
          reject(new Refusal(NO_ANSWER)),
        );
      }, LOOK_EVERY_MS);
    });
    gone.catch(() => undefined);
    try {
      const answer = await Promise.race([this.server[name](request), gone]);
      if (!answer) throw new Refusal(NO_ANSWER);
      if (answer.error) throw new Refusal(answer.error);
      return answer;
    } catch (error) {
      throw error instanceof Refusal ? error : new Refusal(NO_ANSWER);
    } finally {
      clearInterval(watch);
    }
  }

  /**
   * Call one that may have to wait in line, and tell how many go first for as long as it does.
   *
   * @param {string} name
   * @param {object} request
   * @param {import("./detector.js").OnQueuePosition} [onQueuePosition]
   * @returns {Promise<any>}
   */
  async callInTurn(name, request, onQueuePosition = () => undefined) {
    const ticket = Math.random().toString(36).slice(2);
    let inLine = false;
    const watch = setInterval(async () => {
      const place = await this.call("ahead", { ticket }).catch(() => null);
      if (!place) return;
      onQueuePosition(place.ahead ?? 0);
      // No place: its turn has come, or it has not arrived yet.
      if (inLine && place.ahead === null) clearInterval(watch);
      inLine = place.ahead !== null;
    }, PLACE_EVERY_MS);
    try {
      return await this.call(name, { ...request, ticket });
    } finally {
      clearInterval(watch);
    }
  }

  /**
   * Send a file; gives its path among the server's uploads.
   *
   * @param {File} file
   */
  async upload(file) {
    const sent = await this.sendFile(file).catch(() => null);
    if (!sent?.path) throw new Refusal(LOST_UPLOAD);
    return sent.path;
  }
}
