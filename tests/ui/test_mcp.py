"""The tool that assistants call, by the official client of the Model Context Protocol."""

import base64
import io
import json
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, ImageContent, TextContent, Tool
from PIL import Image

from tests.support.app import App, run_async
from tests.support.paths import EXAMPLES
from tests.support.standin import PictureHost

PHOTO = (EXAMPLES / "dogs.jpg").read_bytes()
DATA = "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()


def with_session(app: App, ask: Any) -> Any:
    async def run() -> Any:
        async with (
            streamablehttp_client(f"{app.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await ask(session)

    return run_async(run())


def call(app: App, tool: str = "detect_objects", **arguments: object) -> CallToolResult:
    return with_session(app, lambda session: session.call_tool(tool, arguments))


def test_there_is_one_tool_and_it_explains_itself(app: App):
    [tool] = with_session(app, lambda session: session.list_tools()).tools
    assert isinstance(tool, Tool)
    assert tool.name == "detect_objects"
    assert "boxes drawn" in (tool.description or "")
    assert set(tool.inputSchema["properties"]) == {
        "image", "decoder_layers", "threshold", "classes", "max_detections",
    }  # fmt: skip
    assert tool.inputSchema["required"] == ["image"]


@pytest.mark.parametrize("by", ["address", "base64"])
def test_it_gives_a_picture_and_json(app: App, by: str):
    with PictureHost({"/dogs.jpg": lambda request: request.reply(200, PHOTO)}) as host:
        image = f"{host.url}/dogs.jpg" if by == "address" else DATA
        result = call(app, image=image, decoder_layers=3, threshold=0.3, max_detections=4)
    assert not result.isError
    [picture] = [one for one in result.content if isinstance(one, ImageContent)]
    drawn = Image.open(io.BytesIO(base64.b64decode(picture.data)))
    assert max(drawn.size) == 1024
    assert drawn.format == "JPEG"
    text = [one.text for one in result.content if isinstance(one, TextContent)][-1]
    answer = json.loads(text)
    assert answer["decoder_layers"] == 3
    assert answer["image"] == {"width": 852, "height": 1280}
    assert 0 < len(answer["detections"]) <= 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "nonsense"}, "must start with http"),
        ({"image": "http://169.254.169.254/"}, "private network"),
        ({"image": "data:image/png;base64,AAAA"}, "not a picture"),
        ({"image": DATA, "decoder_layers": 99}, "from 1 to 6"),
        ({"image": DATA, "threshold": 7}, "from 0 to 1"),
        ({"image": DATA, "classes": ["dragon"]}, "is a list of some of these: person"),
        ({"image": DATA, "max_detections": 0}, "whole number from 1"),
        ({}, "required"),
    ],
)
def test_what_is_wrong_is_said(app: App, arguments: dict, words: str):
    result = call(app, **arguments)
    assert result.isError
    assert isinstance(result.content[0], TextContent)
    assert words in result.content[0].text
    assert "Traceback" not in result.content[0].text


def test_nothing_else_is_offered(app: App):
    assert call(app, "detect", image=DATA).isError
