"""What the clients here have in common: their arguments, and a form of their own for the answer."""

import base64
import json
import sys
from pathlib import Path

from pydantic import BaseModel

URL, MODEL, PHOTO = sys.argv[1:4]
BASE_URL = f"{URL}/v1"
DATA_URI = "data:image/jpeg;base64," + base64.b64encode(Path(PHOTO).read_bytes()).decode()

MESSAGE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": DATA_URI}},
    ],
}


class Thing(BaseModel):
    label: str
    score: float


class Scene(BaseModel):
    """The things in a picture; the demo knows `things` by what it holds."""

    things: list[Thing]


def labels_of(text: str | None) -> list[str]:
    """The labels in the answer's own form."""
    return [one["label"] for one in json.loads(text or "")["results"][0]["detections"]]


def labels_in(scene: Scene) -> list[str]:
    return [thing.label for thing in scene.things]


def report(**labels: list[str]) -> None:
    """Print what each way of asking detected."""
    print(json.dumps(labels))
