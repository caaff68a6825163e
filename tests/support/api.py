"""What tests of the API send, and what its refusals look like."""

import base64
import functools
import io
from pathlib import Path

import httpx
from PIL import Image

from tests.support.paths import EXAMPLES

PHOTO = EXAMPLES / "dogs.jpg"


def data_uri(path: Path = PHOTO) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


@functools.cache
def heavy_picture() -> bytes:
    """A picture that takes much longer to decode than to send."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((5000, 4000)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def check_error(response: httpx.Response) -> dict:
    """Whether a refusal has OpenAI's form, says something, and gives nothing away."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    for telltale in ("Traceback", "site-packages", "/tmp/", ".py"):
        assert telltale not in response.text
    return error
