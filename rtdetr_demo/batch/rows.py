"""What a run says of one picture: what was found, or why it could not be read."""

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
    """One picture, by the name it was given. `error` is a sentence; then the rest is empty."""

    picture: str
    stem: str
    width: int = 0
    height: int = 0
    found: tuple[Detection, ...] = ()
    error: str | None = None

    def to_record(self) -> list:
        """For the journal: exact, and as short as JSON can be."""
        return [self.picture, self.stem, self.width, self.height, self.found, self.error]

    @classmethod
    def from_record(cls, record: list) -> "Row":
        picture, stem, width, height, found, error = record
        return cls(picture, stem, width, height, tuple(Detection(*one) for one in found), error)

    def to_json(self, run: RunInfo) -> dict[str, Any]:
        """The common form, with the picture's name for its times, which no two runs share."""
        if self.error is not None:
            return {"picture": self.picture, "error": self.error}
        return {
            "picture": self.picture,
            "checkpoint": run.checkpoint,
            "decoder_layers": run.decoder_layers,
            "image": {"width": self.width, "height": self.height},
            "detections": [one.to_json() for one in self.found],
        }
