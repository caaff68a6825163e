/**
 * The base of our custom elements: they draw themselves once, then follow the store.
 *
 * @typedef {import("./types.js").App} App
 * @typedef {import("./types.js").State} State
 */
export class AppElement extends HTMLElement {
  /** @type {App} */
  #app = /** @type {any} */ (null);
  /** @type {(() => void)[]} */
  #ends = [];

  /** Set once, before the element is put into the page. */
  set app(app) {
    this.#app = app;
  }

  get app() {
    return this.#app;
  }

  connectedCallback() {
    this.render();
  }

  disconnectedCallback() {
    for (const end of this.#ends.splice(0)) end();
  }

  /** Draw, and begin to follow: called when the element enters the page. */
  render() {}

  /**
   * Follow parts of the state for as long as the element is in the page.
   *
   * @param {(keyof State)[]} keys
   * @param {(state: State) => void} listener
   */
  follow(keys, listener) {
    this.#ends.push(this.app.store.subscribe(keys, listener));
  }

  /**
   * Listen for as long as the element is in the page.
   *
   * @param {EventTarget} target
   * @param {string} type
   * @param {(event: any) => void} listener
   * @param {AddEventListenerOptions} [options]
   */
  on(target, type, listener, options) {
    target.addEventListener(type, listener, options);
    this.#ends.push(() => target.removeEventListener(type, listener, options));
  }

  /** @param {() => void} end  called when the element leaves the page */
  atEnd(end) {
    this.#ends.push(end);
  }

  /**
   * The one element inside that a selector names.
   *
   * @template {Element} [E=HTMLElement]
   * @param {string} selector
   * @param {new () => E} [kind]  what it is, where more than an HTMLElement is needed of it
   * @returns {E}
   */
  $(selector, kind) {
    const found = this.querySelector(selector);
    if (!found || (kind && !(found instanceof kind)))
      throw new Error(`${this.localName} has no ${selector}`);
    return /** @type {E} */ (found);
  }

  /**
   * All elements inside that a selector names.
   *
   * @param {string} selector
   * @returns {NodeListOf<HTMLElement>}
   */
  $$(selector) {
    return this.querySelectorAll(selector);
  }
}

/**
 * Text for use in markup.
 *
 * @param {unknown} text
 */
export const escapeText = (text) =>
  String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/**
 * Give a custom element its name, unless another mount of the page has.
 *
 * @param {string} name
 * @param {CustomElementConstructor} kind
 */
export const define = (name, kind) => {
  if (!customElements.get(name)) customElements.define(name, kind);
};

/**
 * Make an element of ours.
 *
 * @param {string} name
 * @param {App} app
 */
export const create = (name, app) => {
  const element = /** @type {AppElement} */ (/** @type {unknown} */ (document.createElement(name)));
  element.app = app;
  return element;
};

/**
 * Have the browser save a file.
 *
 * @param {string} name
 * @param {Blob} content
 */
export function saveFile(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Whether the visitor has asked for less motion. */
export const prefersReducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
