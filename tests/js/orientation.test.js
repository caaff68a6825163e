import assert from "node:assert/strict";
import { test } from "node:test";

import { orientationOf } from "../../rtdetr_demo/ui/static/lib/orientation.js";

const ascii = (text) => [...text].map((char) => char.charCodeAt(0));
const XMP = '<rdf:Description tiff:Orientation="6"/>';
const EXIF = [...ascii("MM"), 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0]; // prettier-ignore

const segment = (body) => [0xff, 0xe1, (body.length + 2) >> 8, (body.length + 2) & 255, ...body];
const jpeg = (...bodies) => new Uint8Array([0xff, 0xd8, ...bodies.flatMap(segment), 0xff, 0xda]);
const xmpBody = ascii(`http://ns.adobe.com/xap/1.0/\0${XMP}`);
const exifBody = [...ascii("Exif\0\0"), ...EXIF];

const chunk = (name, body) => [
  ...ascii(name), body.length & 255, body.length >> 8, 0, 0, ...body, ...(body.length % 2 ? [0] : []),
]; // prettier-ignore
const webp = (...chunks) => new Uint8Array([...ascii("RIFF"), 0, 0, 0, 0, ...ascii("WEBP"), ...chunks.flat()]); // prettier-ignore

test("a JPEG's EXIF and XMP are read", () => {
  assert.deepEqual(orientationOf(jpeg(xmpBody)), { format: "jpeg", exif: null, xmp: 6 });
  assert.deepEqual(orientationOf(jpeg(exifBody, xmpBody)), { format: "jpeg", exif: 8, xmp: 6 });
});

test("a WebP's EXIF is read with its head and without, and its XMP as an element", () => {
  assert.equal(orientationOf(webp(chunk("VP8L", [1, 2, 3]), chunk("EXIF", EXIF))).exif, 8);
  assert.equal(orientationOf(webp(chunk("EXIF", exifBody))).exif, 8);
  const element = ascii("<tiff:Orientation>3</tiff:Orientation>");
  assert.equal(orientationOf(webp(chunk("XMP ", element))).xmp, 3);
});

test("other and damaged files say nothing", () => {
  for (const bytes of [[], [0xff, 0xd8], [0xff, 0xd8, 0xff, 0xe1, 255, 255, 1], ascii("GIF89a")])
    assert.deepEqual(
      { ...orientationOf(new Uint8Array(bytes)), format: "" },
      { format: "", exif: null, xmp: null },
    );
  const cut = jpeg([...ascii("Exif\0\0"), ...EXIF.slice(0, 12)]);
  assert.equal(orientationOf(cut).exif, null);
});
