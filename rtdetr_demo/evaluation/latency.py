"""What one pass costs at every decoder depth."""

import statistics
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ..model.detector import Detector


ROUNDS = 7
"""Timed passes per depth."""


@dataclass(frozen=True)
class Latency:
    """Median milliseconds from picture to detections at each depth; index 0 is one layer."""

    device: str
    runtime: str
    precision: str
    size: tuple[int, int]
    total_ms: tuple[float, ...]

    def to_json(self) -> dict:
        return {
            "device": self.device,
            "runtime": self.runtime,
            "precision": self.precision,
            "size": list(self.size),
            "total_ms": [round(ms, 2) for ms in self.total_ms],
        }


def measure_latency(
    detector: "Detector", rounds: int = ROUNDS, stop: threading.Event | None = None
) -> Latency | None:
    """Time truncated passes of every depth on a 640x480 picture, depths alternating.

    None where `stop` was set before the end.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    depths = range(1, detector.depth + 1)
    runs: list[list[float]] = [[] for _ in depths]
    for turn in range(rounds + 1):
        for depth in depths:
            if stop and stop.is_set():
                return None
            took = detector.detect(image, depth, every_layer=False).timing.total
            if turn > 0:  # the first is for warming up
                runs[depth - 1].append(took)
    return Latency(
        device=str(detector.device),
        runtime=detector.runtime().name,
        precision=detector.precision,
        size=detector.size[::-1],
        total_ms=tuple(statistics.median(times) for times in runs),
    )
