"""The visitor's own device turns and colors pictures as the server does."""

import base64
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from rtdetr_demo.media.images import read_picture
from tests.support.paths import REPO
from tests.support.pictures import encoded, gradient
from tests.support.profiles import ADOBE_RGB, DISPLAY_P3, rgb_profile

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>"""


def turned(form: str, source: str, orientation: int) -> bytes:
    """A picture with its orientation in EXIF or in XMP."""
    options = {"quality": 100} if form == "JPEG" else {}
    if form == "WEBP":
        options = {"lossless": True}
    exif = Image.Exif()
    exif[0x0112] = orientation
    if "exif" in source:
        options["exif"] = exif if form != "WEBP" else exif.tobytes()
    if "xmp" in source:
        options["xmp"] = XMP.format(orientation if source == "xmp" else 3).encode()
    return encoded(gradient(), form, **options)


CASES = {
    **{
        f"{form} {source} {orientation}": (form, turned(form, source, orientation))
        for form, source in [("JPEG", "xmp"), ("WEBP", "exif"), ("WEBP", "xmp")]
        for orientation in range(1, 9)
    },
    "JPEG exif 6": ("JPEG", turned("JPEG", "exif", 6)),
    "JPEG exif and xmp": ("JPEG", turned("JPEG", "exif and xmp", 6)),
    "PNG exif 8": ("PNG", turned("PNG", "exif", 8)),
    "Display P3": ("PNG", encoded(gradient(), "PNG", icc_profile=rgb_profile(DISPLAY_P3, None))),
    "Adobe RGB": ("PNG", encoded(gradient(), "PNG", icc_profile=rgb_profile(ADOBE_RGB))),
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def on_device(browser: Browser):
    """What the device detector hands to its worker for a file: uint8 RGB [height, width, 3]."""
    handler = functools.partial(Quiet, directory=str(REPO / "rtdetr_demo/ui/static"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}/"
    page = browser.new_page()
    page.goto(root + "README.md")

    def pixels(content: bytes, form: str) -> np.ndarray:
        width, height, data = page.evaluate(
            """async ([root, content, kind]) => {
              const { upright } = await import(new URL("lib/orientation.js", root).href);
              const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
              const blob = await upright(new Blob([bytes], { type: kind }));
              const bitmap = await createImageBitmap(blob, {
                imageOrientation: "from-image", colorSpaceConversion: "default",
                premultiplyAlpha: "none" });
              const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
              const pen = canvas.getContext("2d");
              pen.drawImage(bitmap, 0, 0);
              return [canvas.width, canvas.height,
                [...pen.getImageData(0, 0, canvas.width, canvas.height).data]];
            }""",
            [root, base64.b64encode(content).decode(), f"image/{form.lower()}"],
        )
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]

    yield pixels
    page.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", CASES)
def test_the_device_sees_the_picture_as_the_server_does(name, on_device):
    form, content = CASES[name]
    expected = np.asarray(read_picture(content)).astype(int)
    seen = on_device(content, form).astype(int)
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < 2
