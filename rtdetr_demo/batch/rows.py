"""Detections of one picture in a run, or why it could not be read."""

from dataclasses import asdict, dataclass
from typing import Any

from ..predictions import Detection


@dataclass(frozen=True)
class RunInfo:
    """What all rows of a run have in common; `annotated` is where drawn pictures go."""

    checkpoint: str
    class_names: tuple[str, ...]
    decoder_layers: int
    threshold: float
    runtime: str
    annotated: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "class_names": list(self.class_names)}


@dataclass(frozen=True)
class Row:
    """Detections of one picture.

    Attributes:
        picture: The name that it was given.
        stem: Name of what is written for it (see `Picture`).
        error: A sentence where it could not be read; then the rest is empty.
        file: File name in data sets (see `Picture`).
        note: A sentence on a picture that was read with something missing or changed.
    """

    picture: str
    stem: str
    width: int = 0
    height: int = 0
    found: tuple[Detection, ...] = ()
    error: str | None = None
    file: str = ""
    note: str | None = None

    def to_record(self) -> list:
        """For the journal: exact, and as short as JSON can be."""
        record = [self.picture, self.stem, self.width, self.height, self.found, self.error]
        return [*record, self.file, self.note]

    @classmethod
    def from_record(cls, record: list) -> "Row":
        picture, stem, width, height, found, error, *more = record
        detections = tuple(Detection(*values) for values in found)
        return cls(picture, stem, width, height, detections, error, *more)

    @property
    def file_name(self) -> str:
        """As data sets name the picture."""
        return self.file or self.picture

    def to_json(self, run: RunInfo) -> dict[str, Any]:
        """The common form, with the picture's name for its times, which no two runs share."""
        if self.error is not None:
            return {"picture": self.picture, "error": self.error}
        note = {} if self.note is None else {"note": self.note}
        return {
            "picture": self.picture,
            "checkpoint": run.checkpoint,
            "decoder_layers": run.decoder_layers,
            "image": {"width": self.width, "height": self.height},
            "detections": [detection.to_json() for detection in self.found],
            **note,
        }
