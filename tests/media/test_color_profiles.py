"""Pictures with embedded color profiles come out in sRGB, as Chromium shows them."""

import base64
import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from playwright.sync_api import Browser
from transformers.image_utils import load_image

from rtdetr_demo.media.exporters import annotate
from rtdetr_demo.media.images import read_picture
from tests.support.paths import EXAMPLES
from tests.support.pictures import encoded, gradient
from tests.support.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    grey_profile,
    rgb_profile,
)

COLORS = ["#e63c28", "#28c83c", "#2846e6", "#e6dc28", "#808080", "#ffffff", "#000000", "#7f3f9f"]


def patches(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (16 * len(COLORS), 16))
    for index, color in enumerate(COLORS):
        image.paste(color, (16 * index, 0, 16 * index + 16, 16))
    return image.convert(mode)


def middles(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))[8, 8::16].astype(int)


def with_profile(form: str, profile: bytes, mode: str = "RGB") -> bytes:
    if form == "HEIF":
        content = io.BytesIO()
        heif = pillow_heif.from_pillow(patches(mode).resize((512, 64), Image.Resampling.NEAREST))
        heif.save(content, quality=-1, icc_profile=profile, chroma=444)
        return content.getvalue()
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    return encoded(patches(mode), form, icc_profile=profile, **options)


@pytest.fixture
def in_chromium(browser: Browser):
    def colors(content: bytes, kind: str) -> np.ndarray:
        page = browser.new_page()
        try:
            address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            return np.array(
                page.evaluate(
                    """async (address) => {
                      const image = new Image();
                      image.src = address;
                      await image.decode();
                      const canvas = document.createElement("canvas");
                      [canvas.width, canvas.height] = [image.width, image.height];
                      const pen = canvas.getContext("2d", { colorSpace: "srgb" });
                      pen.drawImage(image, 0, 0);
                      return Array.from({ length: 8 }, (_, i) =>
                        [...pen.getImageData(16 * i + 8, 8, 1, 1).data].slice(0, 3));
                    }""",
                    address,
                )
            )
        finally:
            page.close()

    return colors


PROFILES = {
    "Display P3": rgb_profile(DISPLAY_P3, None),
    "Adobe RGB": rgb_profile(ADOBE_RGB, 2.19921875),
    "linear": rgb_profile(SRGB, 1.0),
}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_profile_is_converted_as_chromium_does(form, name, in_chromium):
    content = with_profile(form, PROFILES[name])
    picture = read_picture(content)
    plain = middles(Image.open(io.BytesIO(content)))
    assert np.abs(middles(picture) - plain).max() > 8, "the profile makes a difference"
    assert np.abs(middles(picture) - in_chromium(content, form.lower())).max() <= 3


@pytest.mark.parametrize("form", ["TIFF", "HEIF", "AVIF"])
def test_a_profile_counts_in_every_other_format(form):
    profile = PROFILES["Display P3"]
    if form == "AVIF":
        large = patches().resize((1024, 128), Image.Resampling.NEAREST)
        content = encoded(large, form, icc_profile=profile, quality=100, subsampling="4:4:4")
    else:
        content = with_profile(form, profile)
    expected = middles(read_picture(with_profile("PNG", profile)))
    picture = read_picture(content)
    seen = np.asarray(picture.resize((128, 16), Image.Resampling.NEAREST))[8, 8::16].astype(int)
    assert np.abs(seen - expected).mean() <= 2
    assert np.abs(middles(patches()) - expected).mean() > 5, "the profile makes a difference"


def test_the_profile_of_a_cmyk_picture_is_converted_as_chromium_does(in_chromium):
    content = encoded(patches("CMYK"), "JPEG", quality=100, icc_profile=cmyk_profile())
    picture = read_picture(content)
    plain = middles(Image.open(io.BytesIO(content)))
    assert np.abs(middles(picture) - plain).max() > 30, "the profile makes a difference"
    assert np.abs(middles(picture) - in_chromium(content, "jpeg")).max() <= 4


def test_a_grey_profile_is_converted(in_chromium):
    content = with_profile("PNG", grey_profile(1.0), "L")
    assert np.abs(middles(read_picture(content)) - in_chromium(content, "png")).max() <= 3
    assert middles(read_picture(content))[4, 0] > 180


def test_a_palette_and_transparency_are_converted():
    expected = middles(read_picture(with_profile("PNG", PROFILES["Adobe RGB"])))
    for mode in ("P", "RGBA"):
        image = patches() if mode == "RGBA" else patches().quantize(16)
        content = encoded(image.convert(mode), "PNG", icc_profile=PROFILES["Adobe RGB"])
        assert np.abs(middles(read_picture(content)) - expected).max() <= 4
    half = patches()
    half.putalpha(0)
    content = encoded(half, "PNG", icc_profile=PROFILES["Adobe RGB"])
    assert (middles(read_picture(content)) == 255).all()


def test_what_is_exported_has_no_profile_and_the_colors_that_are_shown():
    content = with_profile("JPEG", PROFILES["Display P3"])
    picture = read_picture(content)
    exported = Image.open(io.BytesIO(encoded(annotate(picture, []), "PNG")))
    assert "icc_profile" not in exported.info
    assert (middles(exported) == middles(picture)).all()


@pytest.mark.parametrize("profile", [b"no profile", PROFILES["Adobe RGB"][:200], grey_profile(2.2)])
def test_a_damaged_or_unfitting_profile_is_passed_over(profile):
    content = encoded(patches(), "PNG", icc_profile=profile)
    assert (middles(read_picture(content)) == middles(patches())).all()


@pytest.mark.parametrize(
    "content",
    [
        next(EXAMPLES.glob("*.jpg")).read_bytes(),
        with_profile("JPEG", rgb_profile(SRGB, None)),
        encoded(gradient(), "PNG"),
        encoded(gradient().convert("L"), "PNG"),
        encoded(gradient().convert("CMYK"), "JPEG"),
        encoded(
            gradient(),
            "JPEG",
            exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",
        ),
    ],
    ids=["photo", "sRGB profile", "png", "grey", "cmyk", "turned"],
)
def test_without_a_foreign_profile_the_pixels_are_those_of_transformers_pipeline(content, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(content)
    assert read_picture(content).tobytes() == load_image(str(file)).tobytes()
