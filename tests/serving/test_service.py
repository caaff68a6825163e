"""The app as a server: the Gradio API, hostile requests, and twenty visitors at once."""

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import App
from tests.support.caller import Caller, check_refusal
from tests.support.paths import EXAMPLES
from tests.support.pictures import BAD_PICTURES, BAD_URLS
from tests.support.standin import PictureHost

PHOTO = EXAMPLES / "dogs.jpg"
SORRY = "Something went wrong"


@pytest.fixture(scope="module")
def call(app: App) -> Caller:
    return Caller(app.url)


# --- The Gradio API ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(app: App) -> Client:
    return Client(app.url, verbose=False)


def test_detect_needs_only_the_picture(api: Client, tiny: Path):
    answer = api.predict(image=handle_file(PHOTO), api_name="/detect")
    assert list(answer) == ["checkpoint", "decoder_layers", "image", "detections", "timing_ms"]
    assert answer["checkpoint"] == tiny.name
    assert answer["decoder_layers"] == 6
    assert all(one["score"] > 0.5 for one in answer["detections"])


def test_detect_takes_checkpoint_layers_and_threshold(api: Client):
    answer = api.predict(
        image=handle_file(PHOTO),
        checkpoint="bundled",
        decoder_layers=2,
        threshold=0.05,
        api_name="/detect",
    )
    assert (answer["checkpoint"], answer["decoder_layers"]) == ("bundled", 2)
    assert all(one["score"] > 0.05 for one in answer["detections"])


def test_detect_is_documented_in_the_api_view(api: Client):
    described = api.view_api(return_format="dict")["named_endpoints"]["/detect"]
    names = [parameter["parameter_name"] for parameter in described["parameters"]]
    assert names == ["image", "checkpoint", "decoder_layers", "threshold"]
    assert [p["parameter_has_default"] for p in described["parameters"]] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"decoder_layers": 0}, "from 1 to 6"),
        ({"decoder_layers": 99}, "from 1 to 6"),
        ({"decoder_layers": "two"}, "from 1 to 6"),
        ({"decoder_layers": 1.5}, "from 1 to 6"),
        ({"threshold": 2}, "from 0 to 1"),
        ({"threshold": "high"}, "from 0 to 1"),
        ({"checkpoint": "owner/secret"}, "not available on this demo"),
        ({"checkpoint": 7}, "not available on this demo"),
        ({"checkpoint": "PekingU/rtdetr_r18vd"}, "not on this machine yet"),
    ],
)
def test_wrong_values_are_a_sentence_on_the_api(api: Client, arguments, words):
    with pytest.raises(AppError) as refusal:
        api.predict(image=handle_file(PHOTO), **arguments, api_name="/detect")
    assert words in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


@pytest.mark.parametrize(
    "image",
    [
        None, 5, "photo.jpg", {}, {"path": None}, {"path": "/etc/passwd"},
        *(
            {"path": path, "meta": {"_type": "gradio.FileData"}}
            for path in ("/etc/passwd", "app.py", "\0", "http://[::1", "http://10.0.0.1/a.jpg")
        ),
    ],
)  # fmt: skip
def test_a_wrong_image_is_a_sentence_on_the_api(app: App, image):
    """Asked without gradio_client, which would not send such things."""
    events = raw_detect(app, image)
    assert "event: error" in events
    said = json.loads(events.split("data: ")[1].splitlines()[0])
    check_refusal({"error": said["error"]})
    if isinstance(image, dict) and str(image.get("path")).startswith("http"):
        assert "address" in said["error"]
    else:
        assert re.search("picture|file", said["error"].lower())


def raw_detect(app: App, image: object) -> str:
    url = f"{app.url}/gradio_api/call/detect"
    call = httpx.post(url, json={"data": [image, None, None, 0.5]}, timeout=30).json()
    return httpx.get(f"{url}/{call['event_id']}", timeout=30).text


def test_an_address_goes_through_our_own_gate_on_the_api(app: App):
    photo = PHOTO.read_bytes()
    with PictureHost({"/dogs.jpg": lambda request: request.reply(200, photo)}) as host:
        file = {"path": host.url + "/dogs.jpg", "meta": {"_type": "gradio.FileData"}}
        answer = raw_detect(app, file)
    assert "event: complete" in answer
    assert '"detections"' in answer


@pytest.mark.parametrize("name", ["text named jpg", "decompression bomb", "JPEG cut in half"])
def test_a_bad_picture_is_a_sentence_on_the_api(api: Client, tmp_path, name):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(BAD_PICTURES[name])
    with pytest.raises(AppError, match="picture"):
        api.predict(image=handle_file(bad), api_name="/detect")


# --- Hostile requests to the page's own functions ------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BAD_PICTURES if name != "empty file"])
def test_every_bad_upload_is_a_sentence(call: Caller, name):
    answer = call("detect", {"path": call.upload(BAD_PICTURES[name]), "checkpoint": ""})
    check_refusal(answer)
    assert SORRY not in answer["error"]


@pytest.mark.parametrize("url", [url for url in BAD_URLS if len(url) < 4200])
def test_every_bad_address_is_a_sentence(call: Caller, url):
    if url.startswith("http://127.0.0.1"):
        pytest.skip("the operator of this app allowed 127.0.0.1")
    answer = call("detect", {"url": url, "checkpoint": ""})
    check_refusal(answer)
    assert SORRY not in answer["error"]


@pytest.mark.parametrize(
    "data",
    [
        None, 0, "detect", [], {}, {"path": None}, {"path": 7}, {"path": ["a"]},
        {"path": "/etc/passwd"}, {"path": "../../../../etc/passwd"}, {"path": "\0"},
        {"path": "x" * 5000}, {"example": "a" * 300}, {"example": "../README.md"},
        {"example": "/etc/passwd"},
        {"example": "README.md/../../LICENSE"}, {"result": "nope"}, {"result": "../../etc"},
        {"url": 5}, {"path": "a", "surprise": 1}, {"checkpoint": "x" * 10_000},
        {"checkpoint": {"a": 1}}, {"example": "dogs.jpg", "checkpoint": "/etc"},
        {"example": "dogs.jpg", "checkpoint": "../../x"},
        {"example": "dogs.jpg", "checkpoint": None},
    ],
)  # fmt: skip
def test_every_hostile_detect_is_a_sentence(call: Caller, data):
    answer = call("detect", data)
    check_refusal(answer)
    assert SORRY not in answer["error"]


@pytest.mark.parametrize("function", ["status", "download", "cancel_download"])
@pytest.mark.parametrize("data", [None, 3, {"checkpoint": 3}, {"checkpoint": "owner/unlisted"}])
def test_every_hostile_question_about_checkpoints_is_a_sentence(call: Caller, function, data):
    check_refusal(call(function, data))


@pytest.mark.parametrize("function", ["__init__", "_content", "get_config", "postprocess", ""])
def test_nothing_else_can_be_called(call: Caller, function):
    assert call.raw(function, {}).status_code == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py", "../app.py", "rtdetr_demo/hub.py"])
def test_files_outside_the_uploads_are_not_served(call: Caller, path):
    assert call.client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_the_app_still_serves_after_all_that_and_printed_no_trace(call: Caller, app: App):
    for _ in range(3):
        for content in BAD_PICTURES.values():
            call("detect", {"path": call.upload(content or b" "), "checkpoint": ""})
    before = app.memory_mb
    for _ in range(5):
        for content in BAD_PICTURES.values():
            call("detect", {"path": call.upload(content or b" "), "checkpoint": ""})
    assert app.memory_mb - before < 100
    assert call("detect", {"example": "dogs.jpg", "checkpoint": ""})["layers"]
    assert app.process.poll() is None
    assert "Traceback" not in app.printed


# --- Twenty visitors -----------------------------------------------------------------------------


@pytest.mark.load
def test_twenty_visitors_at_once_each_get_their_own_result(app: App, call: Caller):
    def picture(number: int) -> bytes:
        buffer = io.BytesIO()
        with Image.open(PHOTO) as photo:
            photo.rotate(18 * number).resize((200 + number, 150 + 2 * number)).save(buffer, "PNG")
        return buffer.getvalue()

    pictures = [picture(number) for number in range(20)]

    def visit(number: int, times: int) -> list[dict]:
        visitor = Caller(app.url, address=f"127.0.1.{number + 1}")
        checkpoint = ("", "bundled")[number % 2]
        paths = [visitor.upload(pictures[number], f"{number}.png") for _ in range(times)]
        return [visitor("detect", {"path": path, "checkpoint": checkpoint}) for path in paths]

    def essence(answer: dict) -> str:
        return json.dumps([answer[key] for key in ("width", "height", "layers", "checkpoint")])

    alone = [essence(visit(number, 1)[0]) for number in range(20)]
    assert len(set(alone)) == 20
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(visit, range(20), [2] * 20))
    for number, answers in enumerate(together):
        assert [essence(answer) for answer in answers] == [alone[number]] * 2
        assert len({answer["id"] for answer in answers}) == 2
    for checkpoint in ("bundled", app.checkpoint):
        assert app.printed.count(f"loaded {checkpoint} ") == 1


def test_one_visitor_cannot_reach_the_result_of_another_without_its_name(call: Caller):
    name = call("detect", {"example": "dogs.jpg", "checkpoint": ""})["id"]
    assert "layers" in call("detect", {"result": name, "checkpoint": ""})
    for guess in ("", name[:-1], name[1:], name.swapcase(), "results", ".", "../" + name):
        check_refusal(call("detect", {"result": guess, "checkpoint": ""}))


def test_looking_at_a_picture_again_leaves_no_further_copy_on_the_disk(call: Caller):
    result = call("detect", {"path": call.upload(PHOTO.read_bytes()), "checkpoint": ""})
    again = call("detect", {"result": result["id"], "checkpoint": ""})
    assert again["id"] == result["id"]


def test_a_picture_comes_back_only_where_a_browser_cannot_show_it(call: Caller):
    def answer(content: bytes, name: str) -> dict:
        return call("detect", {"path": call.upload(content, name), "checkpoint": ""})

    jpeg = answer(PHOTO.read_bytes(), "dogs.jpg")
    assert jpeg["picture"] is None
    assert call("detect", {"result": jpeg["id"], "checkpoint": "", "size": 128})["picture"] is None
    assert call("detect", {"example": "dogs.jpg", "checkpoint": ""})["picture"] is None
    tiff = io.BytesIO()
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").resize((300, 200)).save(tiff, "TIFF")
    shown = call.client.get("/" + answer(tiff.getvalue(), "dogs.tiff")["picture"])
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (300, 200)


def test_a_picture_from_an_address_comes_back_as_a_file(call: Caller):
    content = PHOTO.read_bytes()
    with PictureHost({"/dogs.jpg": lambda request: request.reply(200, content)}) as host:
        answer = call("detect", {"url": host.url + "/dogs.jpg", "checkpoint": ""})
    assert call.client.get("/" + answer["picture"]).headers["content-type"] == "image/jpeg"


def test_a_picture_without_its_end_is_detected_in_with_a_note(call: Caller, app: App):
    content = PHOTO.read_bytes()[:-2000]
    assert (
        "lacks its end" in call("detect", {"path": call.upload(content), "checkpoint": ""})["note"]
    )
    headers = {"Content-Type": "image/jpeg"}
    posted = httpx.post(f"{app.url}/v1/detect", content=content, headers=headers, timeout=60)
    assert "lacks its end" in posted.json()["note"]
