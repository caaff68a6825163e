"""The pictures that the page is about: examples, uploads, results, addresses."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from PIL import Image, ImageOps
from pydantic import Field

from ..errors import BadInput, TooLarge
from ..media.colors import class_color, text_color
from ..media.images import MAX_BYTES
from ..serving.result_store import ResultStore
from ..serving.service import Service
from .rpc import Request, ShapedRequest, owner

_PACKAGE = Path(__file__).parents[1]
# In an installed package the examples lie inside, in a checkout beside it.
EXAMPLES = next(p for p in (_PACKAGE / "examples", _PACKAGE.parent / "examples") if p.is_dir())
SAMPLE_CLIP = EXAMPLES / "cows.mp4"


DISPLAY_SIZE = 1920
"""Longest side, in pixels, of the picture that the page shows."""


class Checkpoint(Request):
    checkpoint: Annotated[str, Field(max_length=500)] = ""


class Detect(Checkpoint, ShapedRequest):
    path: str | None = None
    url: str | None = None
    example: str | None = None
    result: str | None = None


def source_of(request: Detect, service: Service, results: ResultStore) -> bytes | str:
    """The picture that a request names: a file's bytes, or an address."""
    if request.url is not None:
        if request.url[:5].lower() == "data:":
            raise BadInput("This is not a URL. Upload the picture, or give its URL.")
        return request.url
    if request.result is not None:
        return results.get(request.result, owner()).original.read_bytes()
    if request.example is not None:
        return inside(EXAMPLES, EXAMPLES / request.example).read_bytes()
    if request.path is not None:
        return uploaded_file(request.path, service).read_bytes()
    raise BadInput("No picture was sent. Upload one, paste one, or give its URL.")


def uploaded_file(path: str, service: Service) -> Path:
    """An upload of at most `MAX_BYTES`. Raises BadInput where there is none, or TooLarge."""
    uploaded = inside(service.scratch.uploads, Path(path))
    if uploaded.stat().st_size > MAX_BYTES:
        raise TooLarge(f"This file is over {MAX_BYTES // 2**20} MB. Send a smaller one.")
    return uploaded


def sent_file(image: Any) -> Detect:
    """A file as gradio_client sends it: uploaded (a path among the uploads) or by address."""
    path = image.get("path") if isinstance(image, dict) else image
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        return Detect(url=path)
    # A bare path is one of the caller's own machine.
    if not isinstance(image, dict) or not isinstance(path, str):
        raise BadInput(
            "Send the picture as a file: with gradio_client, use handle_file(...) round its path."
        )
    return Detect(path=path)


def inside(folder: Path, path: Path) -> Path:
    """The file, as `file_inside`. Raises BadInput where it is not there."""
    if (file := file_inside(folder, path)) is None:
        raise BadInput("This file is no longer on the server. Upload it again.")
    return file


def file_inside(folder: Path, path: Path) -> Path | None:
    """The resolved path of a file that exists inside the folder, else None.

    Links and dots are followed before judging. Never raises, whatever the path is.
    """
    try:
        resolved = path.resolve()
        if resolved.is_relative_to(folder.resolve()) and resolved.is_file():
            return resolved
    except (OSError, ValueError, RuntimeError):
        pass
    return None


def colors(class_names: Iterable[str]) -> dict[str, list[str]]:
    """For each class its colour and that of text on it."""
    return {name: [class_color(name), text_color(class_color(name))] for name in class_names}


def jpeg(image: Image.Image, longest: int, quality: int = 88) -> bytes:
    """A JPEG of the picture, whose longer side has at most `longest` pixels."""
    shown = image if max(image.size) <= longest else ImageOps.contain(image, (longest,) * 2)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def data_url(image: Image.Image, longest: int) -> str:
    """The address of a JPEG as `jpeg` makes it, with its bytes inside."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, longest)).decode()


def opens_in_browsers(content: bytes) -> bool:
    """Whether every browser shows a file of this kind by itself."""
    is_riff = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return is_riff or content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"))
