/** How many pictures stay open in this page at once. */
const KEPT = 8;

/** Addresses of pictures that this page holds; the oldest are released. */
export class PictureUrls {
  /** @type {string[]} */
  #urls = [];

  /**
   * The address of a picture.
   *
   * @param {Blob} content
   */
  add(content) {
    const url = URL.createObjectURL(content);
    this.#urls.push(url);
    if (this.#urls.length > KEPT) URL.revokeObjectURL(/** @type {string} */ (this.#urls.shift()));
    return url;
  }
}
