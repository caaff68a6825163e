"""A JPEG without its end opens as in browsers; one without most of its picture is refused."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from rtdetr_demo.errors import DamagedPicture
from rtdetr_demo.media.images import read_frame, read_picture
from tests.support.paths import EXAMPLES
from tests.support.pictures import encoded

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "optimized": {"optimize": True},
}


def photo(mode: str = "RGB") -> Image.Image:
    return Image.open(EXAMPLES / "dogs.jpg").convert(mode).resize((480, 360))


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_end_marker_it_is_the_same_picture_with_a_note(kind):
    whole = encoded(photo(), "JPEG", **KINDS[kind])
    picture = read_picture(whole[:-2])
    assert picture.tobytes() == read_picture(whole).tobytes()
    assert "lacks its end" in picture.info["note"]
    assert "note" not in read_picture(whole).info


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.98, 0.85, 0.7])
def test_without_its_last_rows_the_others_are_there(mode, share):
    whole = encoded(photo(mode), "JPEG")
    picture = read_picture(whole[: int(share * len(whole))])
    assert "lacks its end" in picture.info["note"]
    rows = int(0.4 * 360)
    assert (np.asarray(picture)[:rows] == np.asarray(read_picture(whole))[:rows]).all()


@pytest.mark.parametrize("share", [0.98, 0.8])
def test_a_progressive_one_is_coarser(share):
    whole = encoded(photo(), "JPEG", progressive=True)
    picture = read_picture(whole[: int(share * len(whole))])
    difference = np.abs(
        np.asarray(picture).astype(int) - np.asarray(read_picture(whole)).astype(int)
    )
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.15, 0.25])
def test_one_that_lacks_most_of_its_data_is_refused(kind, share):
    whole = encoded(photo(), "JPEG", **KINDS[kind])
    with pytest.raises(DamagedPicture, match="cut off"):
        read_picture(whole[: int(share * len(whole))])


def test_live_frames_may_lack_their_end_as_well():
    assert "note" in read_frame(encoded(photo(), "JPEG")[:-2]).info


def test_a_plain_picture_without_its_end_marker_is_not_taken_for_missing_rows():
    white = encoded(Image.new("RGB", (320, 240), "white"), "JPEG")
    assert read_picture(white[:-2]).getpixel((160, 200)) == (255, 255, 255)


def test_chromium_shows_the_same(browser: Browser):
    whole = encoded(photo(), "JPEG", subsampling=0)
    cut = whole[: int(0.8 * len(whole))]
    page = browser.new_page()
    try:
        address = f"data:image/jpeg;base64,{base64.b64encode(cut).decode()}"
        shown = page.evaluate(
            """async (address) => {
              const image = new Image();
              image.src = address;
              await new Promise((done) => { image.onload = done; });
              const canvas = document.createElement("canvas");
              [canvas.width, canvas.height] = [image.width, image.height];
              canvas.getContext("2d").drawImage(image, 0, 0);
              return canvas.toDataURL("image/png").split(",")[1];
            }""",
            address,
        )
    finally:
        page.close()
    expected = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown))).convert("RGB"))
    picture = np.asarray(read_picture(cut))
    assert picture.shape == expected.shape
    rows = int(0.6 * 360)
    assert np.abs(picture[:rows].astype(int) - expected[:rows].astype(int)).max() <= 3
