"""The API as its clients meet it: OpenAI's own packages, curl, and whoever reads the schema."""

import asyncio
import base64
import io
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image
from pydantic import BaseModel

from tests.support.api import check_error, data_uri, heavy_picture
from tests.support.app import App, run_async
from tests.support.caller import Caller
from tests.support.node import NODE_MODULES, node
from tests.support.paths import EXAMPLES
from tests.support.pictures import BAD_PICTURES, BAD_URLS
from tests.support.standin import PictureHost, QuietHandler

PHOTO = EXAMPLES / "dogs.jpg"
KEY = "alpha-key-of-a-test"


def asking(*urls: str, text: str = "") -> list:
    parts: list = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*parts, *([{"type": "text", "text": text}] * bool(text))]}]


@pytest.fixture(scope="module")
def guarded(tiny: Path) -> Iterator[App]:
    """The app with keys, and with few places for one client."""
    app = App(
        "--checkpoint", str(tiny), "--api-share", "4",
        HF_HUB_OFFLINE="1", RTDETR_API_KEYS=f"{KEY}, second-key",
    )  # fmt: skip
    app.wait_until_ready()
    yield app
    app.stop()
    assert KEY not in app.printed
    assert "base64" not in app.printed


@pytest.fixture(scope="module")
def client(app: App) -> OpenAI:
    app.wait_until_ready()
    return OpenAI(base_url=f"{app.url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def model(app: App) -> str:
    return app.checkpoint


@pytest.fixture(scope="module")
def host() -> Iterator[PictureHost]:
    def photo(request: QuietHandler) -> None:
        request.reply(200, PHOTO.read_bytes(), Content_Type="image/jpeg")

    with PictureHost({"/dogs.jpg": photo}) as server:
        yield server


@pytest.fixture(scope="module")
def expected(app: App, client: OpenAI) -> list[dict]:
    """What the plain form says of the photograph at layer 3, above 0.3."""
    response = httpx.post(
        f"{app.url}/v1/detect?decoder_layers=3&threshold=0.3",
        content=PHOTO.read_bytes(),
        headers={"Content-Type": "image/jpeg"},
    )
    found = response.json()["detections"]
    assert len(found) > 5
    return found


# --- OpenAI's Python package ----------------------------------------------------------------------


def test_models_are_listed_with_their_published_numbers(client: OpenAI, model: str):
    models = {one.id: one for one in client.models.list()}
    r50 = models["PekingU/rtdetr_r50vd_coco_o365"]
    assert r50.model_extra
    assert r50.model_extra["published"]["ap"] == 55.3
    assert r50.model_extra["here"] is False
    assert client.models.retrieve("PekingU/rtdetr_r50vd_coco_o365").id == r50.id
    one = client.models.retrieve(model)
    assert one.model_extra
    assert one.model_extra["serving"] is one.model_extra["loaded"] is True
    with pytest.raises(openai.NotFoundError, match="not available on this demo"):
        client.models.retrieve("nobody/nothing")


@pytest.mark.parametrize("by", ["url", "base64"])
def test_a_chat_completion_holds_the_detections(
    client: OpenAI, model: str, host: PictureHost, expected: list[dict], by: str
):
    url = f"{host.url}/dogs.jpg" if by == "url" else data_uri()
    completion = client.chat.completions.create(
        model=model,
        messages=asking(url, text="What is there?"),
        extra_body={"decoder_layers": 3, "threshold": 0.3},
    )
    [choice] = completion.choices
    assert choice.finish_reason == "stop"
    assert completion.model == model
    content = json.loads(choice.message.content or "")
    assert content["settings"] == {
        "decoder_layers": 3, "threshold": 0.3, "classes": None, "max_detections": None,
    }  # fmt: skip
    [result] = content["results"]
    assert result["detections"] == expected
    assert result["decoder_layers"] == 3
    assert completion.usage
    assert completion.usage.prompt_tokens == 20**2 + 10**2 + 5**2  # 160 pixels at strides 8, 16, 32
    assert completion.usage.completion_tokens == 300  # queries
    assert completion.usage.total_tokens == 825
    assert completion._request_id


@pytest.mark.parametrize("by", ["url", "base64"])
def test_a_stream_says_the_same(
    client: OpenAI, model: str, host: PictureHost, expected: list[dict], by: str
):
    url = f"{host.url}/dogs.jpg" if by == "url" else data_uri()
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=asking(url, url),
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"decoder_layers": 3, "threshold": 0.3},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [one["detections"] for one in json.loads(text)["results"]] == [expected, expected]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 2 * 825
    assert len({chunk.id for chunk in chunks}) == 1


def test_async_clients_at_once(app: App, client: OpenAI, model: str, expected: list[dict]):
    async def ask() -> list[list[dict]]:
        async with AsyncOpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=0) as client:

            async def whole() -> str:
                completion = await client.chat.completions.create(
                    model=model,
                    messages=asking(data_uri()),
                    extra_body={"decoder_layers": 3, "threshold": 0.3},
                )
                return completion.choices[0].message.content or ""

            async def streamed() -> str:
                stream = await client.chat.completions.create(
                    model=model,
                    messages=asking(data_uri()),
                    stream=True,
                    extra_body={"decoder_layers": 3, "threshold": 0.3},
                )
                parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
                return "".join(parts)

            texts = await asyncio.gather(
                *(whole() for _ in range(8)), *(streamed() for _ in "1234")
            )
        return [json.loads(text)["results"][0]["detections"] for text in texts]

    assert run_async(ask()) == [expected] * 12


def test_settings_may_stand_in_the_text_and_fields_win(client: OpenAI, model: str):
    text = "Threshold 0.6, only dogs and people, 2 decoder layers, at most 3 detections"
    completion = client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "threshold 0.9"},
            {"role": "user", "content": "threshold 0.8"},
            {"role": "assistant", "content": "Yes?"},
            *asking(data_uri(), text=text),
        ],
        extra_body={"decoder_layers": 4},
        temperature=0.2,
        seed=1,
        user="someone",
    )
    content = json.loads(completion.choices[0].message.content or "")
    assert content["settings"] == {
        "decoder_layers": 4,
        "threshold": 0.6,
        "classes": ["dog", "person"],
        "max_detections": 3,
    }
    found = content["results"][0]["detections"]
    assert len(found) <= 3
    assert {one["label"] for one in found} <= {"dog", "person"}


class Found(BaseModel):
    label: str
    score: float


class Seen(BaseModel):
    checkpoint: str
    detections: list[Found]


class Answer(BaseModel):
    results: list[Seen]


def test_response_formats(client: OpenAI, model: str):
    completion = client.chat.completions.create(
        model=model, messages=asking(data_uri()), response_format={"type": "json_object"}
    )
    assert json.loads(completion.choices[0].message.content or "")["results"]
    response = client.responses.create(
        model=model,
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": data_uri()}]}],
        text={"format": {"type": "json_schema", "name": "a", "schema": Answer.model_json_schema()}},
    )
    assert Answer.model_validate_json(response.output_text).results[0].checkpoint == model


@pytest.mark.parametrize("streaming", [False, True])
def test_a_schema_that_is_not_ours_is_refused(client: OpenAI, model: str, streaming: bool):
    foreign = {"name": "x", "schema": {"type": "object", "required": ["answer"]}}
    with pytest.raises(openai.UnprocessableEntityError, match="does not fit") as refusal:
        client.chat.completions.create(
            model=model,
            messages=asking(data_uri()),
            response_format={"type": "json_schema", "json_schema": foreign},
            stream=streaming,
        )
    assert refusal.value.param == "response_format"


_BOMB = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "#/$defs/d0", "$defs": {**_BOMB, "d40": {}}},
        {"properties": {f"p{i}": {"type": "string"} for i in range(60_000)}},
        {"description": "\ud800", "type": float("nan")},
        {
            "properties": {
                "results": {"items": {"properties": {"checkpoint": {"pattern": "(a*)*b"}}}}
            }
        },
        {"type": "nothing"},
    ],
    ids=["itself", "elsewhere", "bomb", "large", "not a number", "pattern", "unknown type"],
)
def test_hostile_schemas_end_soon(client: OpenAI, model: str, schema: dict):
    began = time.monotonic()
    body = {
        "model": model,
        "messages": asking(data_uri()),
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    }
    response = httpx.post(
        f"{client.base_url}chat/completions",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert response.status_code in (400, 413)
    assert "chema" in check_error(response)["message"] or "values" in response.text
    assert time.monotonic() - began < 5


def test_what_is_said_again_may_be_strange(app: App, client: OpenAI, model: str):
    body = {
        "model": model,
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_uri()}]}],
        "instructions": "\ud800",
        "metadata": {"\ud800": "\udfff"},
    }
    answer = httpx.post(
        f"{app.url}/v1/responses",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    json.loads(answer.content)


def test_responses_say_the_same(client: OpenAI, model: str, host: PictureHost, expected: list):
    asked: dict = {
        "model": model,
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "3 decoder layers, threshold 0.3"},
                    {"type": "input_image", "image_url": f"{host.url}/dogs.jpg", "detail": "low"},
                ],
            }
        ],
    }
    response = client.responses.create(**asked)
    assert response.status == "completed"
    assert json.loads(response.output_text)["results"][0]["detections"] == expected
    assert response.usage
    assert response.usage.total_tokens == 825
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert json.loads(final.output_text)["results"][0]["detections"] == expected


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "param"),
    [
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs"),
        ({"modalities": ["audio"]}, openai.BadRequestError, "modalities"),
        ({"threshold": 1.5}, openai.BadRequestError, "threshold"),
        ({"threshold": "0.5"}, openai.BadRequestError, "threshold"),
        ({"decoder_layers": 0}, openai.BadRequestError, "decoder_layers"),
        ({"decoder_layers": 2.5}, openai.BadRequestError, "decoder_layers"),
        ({"decoder_layers": 7}, openai.UnprocessableEntityError, "decoder_layers"),
        ({"classes": []}, openai.BadRequestError, "classes"),
        ({"classes": ["dragon"]}, openai.UnprocessableEntityError, "classes"),
        ({"max_detections": -1}, openai.BadRequestError, "max_detections"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, openai.BadRequestError, "messages"),
        ({"messages": asking(text="x")}, openai.BadRequestError, "messages.0.content"),
        ({"messages": asking(*["x"] * 17)}, openai.BadRequestError, "messages.0.content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            openai.BadRequestError,
            "messages.0.content.0",
        ),
        ({"model": None}, openai.BadRequestError, "model"),
        ({"model": "nobody/nothing"}, openai.NotFoundError, None),
        ({"model": "PekingU/rtdetr_r18vd"}, openai.NotFoundError, None),
        ({"model": "../../etc"}, openai.NotFoundError, None),
        ({"stream": "yes"}, openai.BadRequestError, "stream"),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, "response_format"),
        ({"response_format": {"type": "json_schema"}}, openai.BadRequestError,
         "response_format.json_schema"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         openai.BadRequestError, "messages.0.content.0.image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         openai.BadRequestError, "messages.0.content.0.image_url.url"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]},
         openai.BadRequestError, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
         openai.BadRequestError, "messages.0.content.0.text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_openais_form(
    client: OpenAI, model: str, change: dict, kind: type[openai.APIStatusError], param: str
):
    body = {"model": model, "messages": asking(data_uri()), **change}
    with pytest.raises(kind) as refusal:
        client.post("/chat/completions", body=body, cast_to=object)
    assert refusal.value.param == param
    check_error(refusal.value.response)


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_pictures(app: App, client: OpenAI, name: str):
    response = httpx.post(
        f"{app.url}/v1/detect",
        content=BAD_PICTURES[name],
        headers={"Content-Type": "application/octet-stream"},
        timeout=60,
    )
    assert response.status_code in (413, 415, 422), response.text
    assert check_error(response)["code"] == "invalid_image"


@pytest.mark.parametrize("url", [*BAD_URLS, "", "data:", "data:image/png,AAAA", "data:;base64,§"])
def test_bad_addresses(app: App, client: OpenAI, url: str):
    response = httpx.post(f"{app.url}/v1/detect", json={"image_url": url}, timeout=60)
    assert response.status_code in (400, 413, 415, 422), response.text
    error = check_error(response)
    assert error["code"] in ("invalid_image_url", "invalid_image")
    assert error["param"] == "image_url.0"


def test_other_refusals(app: App, client: OpenAI):
    with httpx.Client(base_url=app.url, timeout=60) as http:
        for response, status in [
            (http.post("/v1/chat/completions", content=b"{"), 415),
            (http.post("/v1/chat/completions", content=b"{", headers=_JSON), 400),
            (http.post("/v1/responses", content=b"{}"), 415),
            (http.post("/v1/detect", files=[("file", b"x")] * 17), 400),
            (http.post("/v1/chat/completions", content=b"\xff", headers=_JSON), 400),
            (http.post("/v1/chat/completions", content=b'{"\\ud800": 1}', headers=_JSON), 400),
            (http.post("/v1/chat/completions", content=b"[" * 100_000, headers=_JSON), 400),
            (http.post("/v1/detect", content=b"[" * 100_000, headers=_JSON), 400),
            (http.post("/v1/detect", content=b"[]", headers=_JSON), 400),
            (http.post("/v1/detect", content=PHOTO.read_bytes()), 415),
            (http.post("/v1/detect", files={"picture": b"x"}), 400),
            (http.post("/v1/detect", data={"threshold": "0.5"}, files={"x": b""}), 400),
            (http.post("/v1/detect?threshold=x", content=b"x", headers=_JPEG), 400),
            (http.post("/v1/detect?foo=1", content=b"x", headers=_JPEG), 400),
            (http.post("/v1/detect", json={"image_url": []}), 400),
            (http.post("/v1/detect?threshold=1", json={"image_url": "x", "threshold": 1}), 400),
            (
                http.post(
                    "/v1/detect",
                    json={"image_url": [data_uri()] * 2},
                    headers={"Accept": "image/png"},
                ),
                422,
            ),
            (http.post("/v1/detect", json={"image_url": "x"}, headers={"Accept": "text/x"}), 406),
            (http.get("/v1/detect"), 405),
            (http.get("/v1/nothing"), 404),
            (http.post("/v1/models"), 405),
        ]:
            assert response.status_code == status, (response.request.url, response.text)
            check_error(response)


_JSON = {"Content-Type": "application/json"}
_JPEG = {"Content-Type": "image/jpeg"}


# --- The plain form -------------------------------------------------------------------------------


def test_every_way_of_sending_a_picture_gives_the_same(
    app: App, client: OpenAI, host: PictureHost, expected: list[dict]
):
    url = f"{app.url}/v1/detect"
    settings = {"decoder_layers": 3, "threshold": 0.3}
    with PHOTO.open("rb") as file:
        multipart = httpx.post(url, files={"file": file}, data=settings).json()
    by_address = httpx.post(url, json={"image_url": f"{host.url}/dogs.jpg", **settings}).json()
    in_base64 = httpx.post(url, json={"image_url": data_uri(), **settings}).json()
    for answer in (multipart, by_address, in_base64):
        assert answer["detections"] == expected
        assert answer["image"] == {"width": 852, "height": 1280}
        assert answer["timing_ms"]["total"] > 0


def test_a_batch_keeps_its_order(app: App, client: OpenAI, model: str):
    names = ["cat.jpg", "dogs.jpg", "horses.jpg"]
    files = [("file", (name, (EXAMPLES / name).read_bytes())) for name in names]
    answer = httpx.post(f"{app.url}/v1/detect", files=files, timeout=60).json()
    sizes = [(one["image"]["width"], one["image"]["height"]) for one in answer["results"]]
    assert sizes == [Image.open(EXAMPLES / name).size for name in names]
    urls = [data_uri(EXAMPLES / name) for name in names]
    again = httpx.post(f"{app.url}/v1/detect", json={"image_url": urls}, timeout=60).json()
    for one, other in zip(answer["results"], again["results"], strict=True):
        assert one["detections"] == other["detections"]


def test_a_list_of_one_is_answered_with_a_list(app: App, client: OpenAI):
    answer = httpx.post(f"{app.url}/v1/detect", json={"image_url": [data_uri()]}).json()
    assert len(answer["results"]) == 1


@pytest.mark.parametrize(("accept", "form"), [("image/png", "PNG"), ("image/webp", "WEBP")])
def test_an_annotated_picture(app: App, client: OpenAI, accept: str, form: str):
    def ask(threshold: float) -> Image.Image:
        response = httpx.post(
            f"{app.url}/v1/detect?threshold={threshold}",
            content=PHOTO.read_bytes(),
            headers={**_JPEG, "Accept": accept},
            timeout=60,
        )
        assert response.headers["content-type"] == accept
        return Image.open(io.BytesIO(response.content))

    drawn, bare = ask(0.3), ask(1)
    assert drawn.format == form
    assert drawn.size == Image.open(PHOTO).size
    assert drawn.convert("RGB").tobytes() != bare.convert("RGB").tobytes()


def test_curl(app: App, client: OpenAI, expected: list[dict]):
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("curl is not installed")
    asked = [curl, "-s", "-F", f"file=@{PHOTO}", "-F", "decoder_layers=3", "-F", "threshold=0.3"]
    answer = subprocess.run([*asked, f"{app.url}/v1/detect"], capture_output=True, check=True)
    assert json.loads(answer.stdout)["detections"] == expected


def test_openais_package_for_javascript(app: App, client: OpenAI, model: str, tmp_path: Path):
    if not (NODE_MODULES / "openai").is_dir():
        pytest.skip("npm's openai is not installed: tests/run.sh does that")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    program = tmp_path / "ask.mjs"
    program.write_text(
        """
import OpenAI from "openai";
const [baseURL, model, url] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }];
const asked = { model, messages, decoder_layers: 2 };
const whole = (await client.chat.completions.create(asked)).choices[0].message.content;
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
  streamed += chunk.choices[0]?.delta?.content ?? "";
const labels = (text) => JSON.parse(text).results[0].detections.map((one) => one.label);
let refusal;
try {
  await client.chat.completions.create({ ...asked, n: 3 });
} catch (error) {
  refusal = [error.constructor.name, error.status, error.param];
}
const response = await client.responses.create({
  model,
  input: [{ role: "user", content: [{ type: "input_image", image_url: url, detail: "auto" }] }],
});
const same = JSON.stringify(labels(whole)) === JSON.stringify(labels(streamed));
const layers = JSON.parse(response.output_text).settings.decoder_layers;
console.log(JSON.stringify({ same, count: labels(whole).length, refusal, layers }));
"""
    )
    answer = subprocess.run(
        [*node(), program, f"{app.url}/v1", model, data_uri(EXAMPLES / "street.jpg")],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert said["same"] is True
    assert said["count"] > 0
    assert said["refusal"] == ["BadRequestError", 400, "n"]
    assert said["layers"] == 6


# --- Keys and limits ------------------------------------------------------------------------------


def test_keys(guarded: App):
    good = OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=0)
    assert good.models.list().data
    assert OpenAI(base_url=f"{guarded.url}/v1", api_key="second-key").models.list().data
    for key in ("wrong", KEY[:-1], KEY + "x", KEY.upper(), "alpha-key, second-key"):
        bad = OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refusal:
            bad.models.list()
        assert refusal.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            bad.chat.completions.create(model="bundled", messages=asking(data_uri()))
    for headers in ({}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        response = httpx.get(f"{guarded.url}/v1/models", headers=headers)
        assert response.status_code == 401
        assert check_error(response)["code"] == "missing_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(guarded.url + path).status_code == 200
    assert "for the holders of 2 key(s)" in guarded.printed


@pytest.mark.load
def test_whoever_sends_too_much_hears_when_to_come_back(guarded: App):
    heavy = heavy_picture()

    def ask(_: int) -> httpx.Response:
        return httpx.post(
            f"{guarded.url}/v1/detect",
            content=heavy,
            headers={**_JPEG, "Authorization": f"Bearer {KEY}"},
            timeout=60,
        )

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in refused:
        assert check_error(answer)["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 30
    patient = OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=8)
    assert patient.chat.completions.create(model="bundled", messages=asking(data_uri())).choices
    many = [("file", PHOTO.read_bytes())] * 5
    response = httpx.post(
        f"{guarded.url}/v1/detect", files=many, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert response.status_code == 413  # never possible here, so no reason to come back


def test_an_inspection_needs_a_key_and_a_place_as_a_detection_does(guarded: App):
    url = f"{guarded.url}/v1/inspect"
    assert httpx.post(url, json={"image_url": data_uri()}).status_code == 401
    ask = {"image_url": "data:image/jpeg;base64," + base64.b64encode(heavy_picture()).decode()}

    def inspect(_: int) -> httpx.Response:
        return httpx.post(url, json=ask, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(inspect, range(16)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert all(check_error(answer)["code"] == "rate_limit_exceeded" for answer in refused)


def test_a_checkpoint_that_is_not_in_memory_is_loaded(guarded: App):
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"image_url": data_uri(), "model": "bundled"}
    statuses = []
    for _ in range(100):
        response = httpx.post(f"{guarded.url}/v1/detect", json=body, headers=headers)
        statuses.append(response.status_code)
        if response.status_code == 200:
            break
        assert check_error(response)["type"] == "service_unavailable"
        assert response.headers["retry-after"]
        time.sleep(0.2)
    assert statuses[-1] == 200
    assert response.json()["checkpoint"] == "bundled"


# --- Operation ------------------------------------------------------------------------------------


def test_metrics_count_what_happens(app: App, client: OpenAI, model: str):
    client.chat.completions.create(model=model, messages=asking(data_uri()))
    text = httpx.get(f"{app.url}/metrics").text
    assert 'rtdetr_requests_total{method="POST",route="/v1/chat/completions",status="200"}' in text
    for stage in ("decode", "wait", "preprocess", "model", "postprocess"):
        assert f'rtdetr_stage_seconds_bucket{{le="0.5",stage="{stage}"}}' in text
    assert "rtdetr_queue_pictures 0.0" in text
    assert f'rtdetr_model_loads_total{{checkpoint="{model}"}} 1.0' in text


def test_a_request_can_be_followed_through_the_log(app: App, client: OpenAI):
    response = httpx.post(
        f"{app.url}/v1/detect",
        json={"image_url": data_uri(), "decoder_layers": 2},
        headers={"X-Request-ID": "my-own-id"},
    )
    assert response.headers["x-request-id"] == "my-own-id"
    time.sleep(0.2)
    [entry] = [json.loads(line) for line in app.lines if '"my-own-id"' in line]
    assert entry["status"] == 200
    assert entry["path"] == "/v1/detect"
    assert entry["decoder_layers"] == 2
    assert entry["pictures"] == 1
    assert entry["ms"] > 0
    evil = httpx.get(f"{app.url}/v1/models", headers={"X-Request-ID": 'x" evil'})
    assert evil.headers["x-request-id"].startswith("req_")
    assert "base64" not in app.printed


def test_the_page_is_still_the_page(app: App):
    assert "gradio" in httpx.get(app.url).text.lower()
    assert httpx.get(f"{app.url}/v1").status_code == 404
    docs = httpx.get(f"{app.url}/docs").text
    assert "http" not in docs.split("<body>")[0].replace("http-equiv", "")  # nothing from elsewhere
    assert httpx.get(f"{app.url}/docs-static/swagger-ui-bundle.js").status_code == 200


@pytest.mark.parametrize(
    "examples",
    [pytest.param("4", marks=pytest.mark.load), pytest.param("20", marks=pytest.mark.slow)],
)
def test_schemathesis(app: App, client: OpenAI, tmp_path: Path, examples: str):
    patient = OpenAI(base_url=f"{app.url}/v1", api_key="x", max_retries=10)
    patient.chat.completions.create(model="bundled", messages=asking(data_uri()))  # loads it
    # A random string is no picture, so what the schema allows may still be refused.
    ran = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "run", f"{app.url}/openapi.json",
            "--exclude-checks", "positive_data_acceptance", "--max-examples", examples,
            "--generation-deterministic", "--no-color",
        ],
        cwd=tmp_path,  # it leaves a folder behind
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert "Tested: 9" in ran.stdout


@pytest.mark.alone
def test_the_page_is_served_while_the_api_is_busy(app: App, client: OpenAI, model: str):
    done = threading.Event()

    def timed(ask: Callable[[], object]) -> float:
        began = time.monotonic()
        assert ask()
        return time.monotonic() - began

    def keep_asking() -> list[float]:
        def ask() -> object:
            return client.chat.completions.create(model=model, messages=asking(data_uri()))

        waits = []
        while not done.is_set():
            waits.append(timed(ask))
        return waits

    visitor = Caller(app.url)
    with ThreadPoolExecutor(16) as pool:
        programs = [pool.submit(keep_asking) for _ in range(16)]
        try:
            time.sleep(1)
            waits = [
                timed(lambda: visitor("detect", {"example": "dogs.jpg"})["layers"])
                for _ in range(5)
            ]
        finally:
            done.set()
    theirs = [wait for one in programs for wait in one.result()]
    # One key's sixteen pictures wait for each other; the visitor waits for one of them.
    assert statistics.median(waits) < statistics.median(theirs) / 2


def test_inspect_tells_why_of_one_query(app: App, client: OpenAI, model: str):
    ask = {"image_url": data_uri(), "model": model, "object": 2}
    answer = httpx.post(f"{app.url}/v1/inspect", json=ask, timeout=60)
    assert answer.status_code == 200
    assert len(answer.content) < 1_000_000
    found = answer.json()
    [query] = found["queries"]
    last = found["film"][-1]["scores"]
    assert sorted(last, reverse=True)[1] == last[query["query"]]
    assert len(found["film"]) == len(query["layers"]) + 1 == 7


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"object": 301}, 422, "from 1 to 300"),
        ({"object": 0}, 400, "object"),
        ({"image_url": "data:image/png;base64,AAAA"}, 415, "not a picture"),
        ({"model": "nobody/nothing"}, 404, "list"),
    ],
)
def test_inspect_refuses_in_a_sentence(app: App, client: OpenAI, wrong: dict, status: int, words):
    answer = httpx.post(
        f"{app.url}/v1/inspect", json={"image_url": data_uri(), **wrong}, timeout=60
    )
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)
