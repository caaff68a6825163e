"""Detections of frame after frame: numbers that stay, and boxes, labels and traces drawn."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import norfair
import numpy as np
import supervision as sv

from ..media.colors import class_color, text_color
from ..predictions import Detection

# It reports every box that a prediction has turned inside out, which happens to lost tracks.
logging.getLogger("norfair").setLevel(logging.ERROR)


MOST_SPREAD = 60
"""Labels of a frame that are moved out of each other's way: of 200, that takes 0.25 s a frame."""


@dataclass(frozen=True)
class Tracked:
    """A detection with the number that its track keeps from frame to frame."""

    id: int
    found: Detection


class Tracker:
    """Gives detections stable numbers (norfair: overlap of predicted and found boxes)."""

    def __init__(self, rate: float):
        self._tracker = norfair.Tracker(
            distance_function="iou",
            distance_threshold=0.7,
            initialization_delay=0,
            hit_counter_max=max(2, round(rate)),  # a track survives a second out of sight
        )

    def update(self, found: Sequence[Detection]) -> list[Tracked]:
        """The detections of the next frame, with the numbers of their tracks."""
        given = [
            norfair.Detection(
                np.array([[detection.xmin, detection.ymin], [detection.xmax, detection.ymax]]),
                data=detection,
                label=detection.label,
            )
            for detection in found
        ]
        # A track out of sight keeps its last detection.
        fresh = {id(detection) for detection in found}
        tracks = self._tracker.update(detections=given)
        return [
            Tracked(track.id, track.last_detection.data)
            for track in tracks
            if track.id is not None and id(track.last_detection.data) in fresh
        ]


class FrameAnnotator:
    """Draws boxes, labels and traces on frames of one size, with supervision."""

    def __init__(self, class_names: Sequence[str], size: tuple[int, int], line: float | None):
        longest = max(size)
        colors = [class_color(name) for name in class_names]
        palette = sv.ColorPalette.from_hex(colors)
        inks = sv.ColorPalette.from_hex([text_color(color) for color in colors])
        thickness = max(2, round(longest / 500))
        self._box = sv.BoxAnnotator(color=palette, thickness=thickness)
        self._trace = sv.TraceAnnotator(color=palette, thickness=thickness, trace_length=40)
        self._label = sv.LabelAnnotator(
            color=palette,
            text_color=inks,
            text_scale=longest / 1600,
            text_padding=max(3, round(longest / 300)),
        )
        self.zone = None
        if line is not None:
            y = line * size[1]
            self.zone = sv.LineZone(sv.Point(0, y), sv.Point(size[0], y))
            self._mark = sv.LineZoneAnnotator(thickness=thickness, text_scale=longest / 1600)

    def draw(self, pixels: np.ndarray, tracked: Sequence[Tracked], fresh: bool) -> np.ndarray:
        """Draw on a copy. Traces and the line move on with `fresh` detections only."""
        scene = pixels[..., ::-1].copy()
        if tracked:
            shown = sv.Detections(
                xyxy=np.array([track.found[3:] for track in tracked], dtype=np.float32),
                class_id=np.array([track.found.class_id for track in tracked]),
                tracker_id=np.array([track.id for track in tracked]),
            )
            if fresh and self.zone is not None:
                self.zone.trigger(shown)
            labels = [
                f"#{track.id} {track.found.label} {track.found.score:.2f}" for track in tracked
            ]
            scene = self._trace.annotate(scene, shown)
            scene = self._box.annotate(scene, shown)
            self._label.smart_position = len(tracked) <= MOST_SPREAD
            scene = self._label.annotate(scene, shown, labels=labels)
        if self.zone is not None:
            scene = self._mark.annotate(scene, self.zone)
        return scene[..., ::-1]
