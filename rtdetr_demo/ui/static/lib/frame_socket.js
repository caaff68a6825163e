import { Refusal } from "./detector.js";

/**
 * The camera's way to the server (`ui/frames.py`): frames as binary, answers as JSON, over one
 * WebSocket that is opened when it is needed.
 *
 * @typedef {Object} FrameHeader
 * @property {string} checkpoint
 * @property {number | null} queries
 * @property {number | null} size
 * @property {number} decoder_layers
 */

const NO_ANSWER = "The server is not responding. Check that it is running, then try again.";
const SILENT_MS = 15_000;

export class FrameSocket {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Promise<WebSocket> | null} */
  #opening = null;
  /** @type {{number: number, resolve: (answer: any) => void, reject: (error: Error) => void} | null} */
  #waiting = null;
  #busy = false;
  #last = 0;

  /** @param {string} address  of the page; the socket stands beside it */
  constructor(address) {
    const url = new URL("frames", address);
    url.protocol = url.protocol.replace("http", "ws");
    this.address = url.href;
  }

  /**
   * Ask about one frame; the one before must have been answered. Rejects with a `Refusal`.
   *
   * @param {FrameHeader} header
   * @param {Blob} picture  a JPEG
   * @returns {Promise<any>}
   */
  async ask(header, picture) {
    if (this.#busy) throw new Refusal("The previous frame is still being processed.");
    this.#busy = true;
    try {
      return await this.#exchange(header, picture);
    } finally {
      this.#busy = false;
    }
  }

  close() {
    this.#socket?.close();
  }

  /**
   * @param {FrameHeader} header
   * @param {Blob} picture
   */
  async #exchange(header, picture) {
    const socket = await this.#open();
    const number = ++this.#last;
    const head = new TextEncoder().encode(JSON.stringify({ frame: number, ...header }));
    const length = new Uint8Array([head.length >> 8, head.length & 255]);
    const message = await new Blob([length, head, picture]).arrayBuffer();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let patience;
    try {
      const answer = await new Promise((resolve, reject) => {
        this.#waiting = { number, resolve, reject };
        patience = setTimeout(() => socket.close(), SILENT_MS);
        socket.send(message);
      });
      if (answer.error) throw new Refusal(answer.error);
      return answer;
    } finally {
      clearTimeout(patience);
      this.#waiting = null;
    }
  }

  #open() {
    if (this.#socket?.readyState === WebSocket.OPEN) return Promise.resolve(this.#socket);
    this.#opening ??= this.#connect().finally(() => (this.#opening = null));
    return this.#opening;
  }

  /** @returns {Promise<WebSocket>} */
  #connect() {
    const socket = new WebSocket(this.address);
    return new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.viewer) {
          this.#socket = socket;
          resolve(socket);
        } else if (message.frame === this.#waiting?.number) this.#waiting?.resolve(message);
        else if (message.error) reject(new Refusal(message.error));
      };
      socket.onclose = () => {
        if (this.#socket === socket) this.#socket = null;
        reject(new Refusal(NO_ANSWER));
        this.#waiting?.reject(new Refusal(NO_ANSWER));
      };
    });
  }
}
