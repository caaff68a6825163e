/**
 * Which way is up, where a file says it in a way that browsers pass over: only in XMP, or in a
 * WebP's EXIF. The server obeys both.
 */

/** A WebP of 2 x 1 pixels whose EXIF says that it is to be turned. */
const TURNED_WEBP =
  "data:image/webp;base64,UklGRlAAAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA8AAAAvAQAAAAcQ/Y/+ByKi/wEARVhJRhoAAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA==";
const ORIENTATION = 0x112;
const XMP = /tiff:Orientation(?:="|>)([1-8])/;
/**
 * Canvas transforms of a picture with width w and height h, by EXIF's number.
 *
 * @type {Record<number, (w: number, h: number) => number[]>}
 */
const TRANSFORMS = {
  2: (w) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (_, h) => [1, 0, 0, -1, 0, h],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (_, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w) => [0, -1, 1, 0, 0, w],
};

/**
 * The picture as a file that every browser shows upright: itself, or a PNG where this browser would
 * not turn it.
 *
 * @param {Blob} content
 * @returns {Promise<Blob>}
 */
export async function upright(content) {
  const { format, exif, xmp } = orientationOf(new Uint8Array(await content.arrayBuffer()));
  const obeyed = format !== "webp" || (await browserTurnsWebp());
  // Where EXIF says something, XMP does not count.
  const missed = exif === null ? xmp : obeyed ? 1 : exif;
  if (missed === null || missed < 2 || missed > 8) return content;
  const bitmap = await createImageBitmap(content, { premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const canvas =
    missed < 5 ? new OffscreenCanvas(width, height) : new OffscreenCanvas(height, width);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const transform = TRANSFORMS[missed](width, height);
  pen.setTransform(.../** @type {[number, number, number, number, number, number]} */ (transform));
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/png" });
}

/**
 * What a file says of its orientation, by EXIF's numbers; null where it says nothing.
 *
 * @param {Uint8Array} bytes
 * @returns {{format: "jpeg" | "webp" | "png" | "", exif: number | null, xmp: number | null}}
 */
export function orientationOf(bytes) {
  const parts = bytes[0] === 0xff && bytes[1] === 0xd8 ? jpegParts(bytes)
    : text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 12) === "WEBP" ? webpParts(bytes)
    : text(bytes, 1, 4) === "PNG" ? pngParts(bytes)
    : null; // prettier-ignore
  if (!parts) return { format: "", exif: null, xmp: null };
  return {
    format: parts.format,
    exif: parts.exif && exifOrientation(parts.exif),
    xmp: (parts.xmp && Number(XMP.exec(text(parts.xmp, 0, parts.xmp.length))?.[1] ?? 0)) || null,
  };
}

/**
 * @typedef {Object} Parts
 * @property {"jpeg" | "webp" | "png"} format
 * @property {Uint8Array | null} exif
 * @property {Uint8Array | null} xmp
 */

/**
 * @param {Uint8Array} bytes
 * @returns {Parts}
 */
function jpegParts(bytes) {
  /** @type {Parts} */
  const parts = { format: "jpeg", exif: null, xmp: null };
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    if (marker === 0xda || marker === 0xd9) break;
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (marker === 0xe1) {
      const body = bytes.subarray(at + 4, end);
      if (text(body, 0, 6) === "Exif\0\0") parts.exif ??= body.subarray(6);
      else if (text(body, 0, 28).startsWith("http://ns.adobe.com/xap/1.0/")) parts.xmp ??= body;
    }
    at = end;
  }
  return parts;
}

/**
 * @param {Uint8Array} bytes
 * @returns {Parts}
 */
function webpParts(bytes) {
  /** @type {Parts} */
  const parts = { format: "webp", exif: null, xmp: null };
  const view = viewOf(bytes);
  for (let at = 12; at + 8 <= bytes.length;) {
    const length = view.getUint32(at + 4, true);
    const body = bytes.subarray(at + 8, at + 8 + length);
    const name = text(bytes, at, at + 4);
    if (name === "EXIF") parts.exif = text(body, 0, 6) === "Exif\0\0" ? body.subarray(6) : body;
    if (name === "XMP ") parts.xmp = body;
    at += 8 + length + (length % 2);
  }
  return parts;
}

/**
 * @param {Uint8Array} bytes
 * @returns {Parts}
 */
function pngParts(bytes) {
  /** @type {Parts} */
  const parts = { format: "png", exif: null, xmp: null };
  const view = viewOf(bytes);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const name = text(bytes, at + 4, at + 8);
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (name === "eXIf") parts.exif = body;
    if (name === "iTXt" && text(body, 0, 17) === "XML:com.adobe.xmp") parts.xmp = body;
    if (name === "IEND") break;
    at += 12 + length;
  }
  return parts;
}

/** @param {Uint8Array} tiff */
function exifOrientation(tiff) {
  if (tiff.length < 8) return null;
  const little = text(tiff, 0, 2) === "II";
  const view = viewOf(tiff);
  const start = view.getUint32(4, little);
  if (start + 2 > tiff.length) return null;
  for (let i = 0; i < view.getUint16(start, little); i++) {
    const at = start + 2 + 12 * i;
    if (at + 12 > tiff.length) return null;
    if (view.getUint16(at, little) === ORIENTATION) return view.getUint16(at + 8, little);
  }
  return null;
}

/** @type {Promise<boolean> | null} */
let turnsWebp = null;

/** Whether this browser obeys the EXIF of a WebP. */
function browserTurnsWebp() {
  turnsWebp ??= (async () => {
    const image = new Image();
    image.src = TURNED_WEBP;
    await image.decode();
    return image.naturalHeight > image.naturalWidth;
  })().catch(() => false);
  return turnsWebp;
}

/** @param {Uint8Array} bytes */
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} end
 */
const text = (bytes, start, end) => new TextDecoder("latin1").decode(bytes.subarray(start, end));
