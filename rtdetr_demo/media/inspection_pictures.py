"""An inspection as files: pictures, an animated film, and one HTML page that holds them all."""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..detector.inspection import MAP_STEPS, Inspection
from .colors import class_color

SIDE = 960
"""Longest side of what is drawn, in pixels."""

HEAT = np.array(
    [
        (24, 14, 58),
        (88, 24, 110),
        (158, 42, 99),
        (217, 76, 60),
        (248, 138, 36),
        (249, 201, 84),
        (252, 250, 190),
    ]
)
"""RGB at equal steps from 0 to 1; `static/lib/inspection.js` has the same."""

_SCALES = ("#5fe0c6", "#8ab4ff", "#f08bd0")
_STEP_WORDS = {"backbone": "backbone", "aifi": "after AIFI", "ccff": "after CCFF"}
_FRAMES_A_STAGE = 8

_PANELS = (
    ("born.png", "Query selection", "The encoder's score of each cell; the ring is this query."),
    ("refined.webp", "Refinement", "Its box from the proposal to the last layer (dashed)."),
    ("all-queries.webp", "All queries", "The boxes of all queries; opacity is the score."),
    ("looked.png", "Attention", "Its sampling points at each layer; larger means more weight."),
    (
        "silenced.png",
        "Duplicates",
        "Competing queries (grey) at the proposal, half-way and at the end.",
    ),
    (
        "saw.png",
        "Feature maps",
        "How much each cell differs from its map's mean, by encoder stage.",
    ),
)


def write_inspection(
    found: Inspection,
    query: int,
    image: Image.Image,
    folder: Path,
    notes: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the panels of one query, and `report.html`, into a folder; gives their paths.

    `notes`: more to say in the report, by the panel's title.
    """
    canvas = _Canvas(found, query, image)
    panels = (
        _png(canvas.born()),
        _film([canvas.refined(time) for time in _times(found)]),
        _film([canvas.everyone(time) for time in _times(found)]),
        _png(_sheet([canvas.looked(k) for k in range(1, found.layers + 1)], 3)),
        _png(_sheet([canvas.rivals(k) for k in (0, (found.layers + 1) // 2, found.layers)], 3)),
        _png(_sheet(canvas.maps(), 4)),
    )
    contents = dict(zip((name for name, _, _ in _PANELS), panels, strict=True))
    written = []
    for name, content in contents.items():
        written.append(folder / name)
        written[-1].write_bytes(content)
    written.append(folder / "report.html")
    written[-1].write_text(_report(found, query, contents, notes or {}), encoding="utf-8")
    return written


class _Canvas:
    """Draws one query's panels on copies of the picture, darkened."""

    def __init__(self, found: Inspection, query: int, image: Image.Image):
        self.found, self.query = found, query
        self.scale = min(1.0, SIDE / max(image.size))
        self.size = _shrunk(image.size, self.scale)
        self.shown = image.resize(self.size)
        self.color = class_color(found.class_names[found.labels[-1, query]])
        self.fonts = {n: ImageFont.load_default(14 * n) for n in (1, 3, 4)}

    def born(self) -> Image.Image:
        picture = self._dark(0.4)
        start = 0
        for height, width in self.found.map_shapes:
            scores = self.found.token_scores[start : start + height * width]
            start += height * width
            alpha = Image.fromarray((235 * scores.reshape(height, width)).astype(np.uint8))
            alpha = alpha.resize(self.size, Image.Resampling.NEAREST)
            picture.paste(Image.new("RGB", self.size, "#ffb020"), mask=alpha)
        pen = ImageDraw.Draw(picture)
        for token in self.found.chosen:
            x, y = self._cell(int(token))
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill="white")
        x, y = self._cell(int(self.found.chosen[self.query]))
        pen.ellipse((x - 14, y - 14, x + 14, y + 14), outline=self.color, width=5)
        pen.ellipse((x - 16, y - 16, x + 16, y + 16), outline="white", width=2)
        return picture

    def refined(self, time: float) -> Image.Image:
        picture = self._dark(0.7)
        pen = ImageDraw.Draw(picture)
        self._dashed(pen, self._box(self.query, self.found.layers))
        self._draw(pen, self._box(self.query, time), self.color, 4)
        stage = round(time)
        label = self.found.class_names[self.found.labels[stage, self.query]]
        score = self.found.scores[stage, self.query]
        self._caption(picture, f"{_stage(stage)}: {label} {score:.2f}")
        return picture

    def everyone(self, time: float) -> Image.Image:
        picture = self._dark(0.6)
        pen = ImageDraw.Draw(picture, "RGBA")
        scores = self.found.scores[round(time)]
        for other in np.argsort(scores):
            if scores[other] >= 0.05 and other != self.query:
                strength = int(40 + 215 * scores[other])
                self._draw(pen, self._box(int(other), time), (255, 255, 255, strength), 2)
        self._draw(pen, self._box(self.query, time), self.color, 4)
        self._caption(picture, _stage(round(time)))
        return picture

    def looked(self, layer: int) -> Image.Image:
        picture = self._dark(0.5)
        pen = ImageDraw.Draw(picture)
        before = self._box(self.query, layer - 1)
        self._dashed(pen, before)
        weights = self.found.weights[layer - 1, self.query]
        places = self.found.places[layer - 1, self.query] * self.scale
        levels = np.broadcast_to(np.arange(weights.shape[1])[:, None], weights.shape)
        order = np.argsort(weights, axis=None)
        for index in order:
            share = weights.flat[index] / weights.max()
            x, y = places.reshape(-1, 2)[index]
            r = 3 + 7 * share**0.5
            ring = _SCALES[levels.flat[index] % len(_SCALES)]
            pen.ellipse((x - r, y - r, x + r, y + r), fill=_heat(share), outline=ring, width=2)
        x, y = (before[0] + before[2]) / 2, (before[1] + before[3]) / 2
        pen.line((x - 12, y, x + 12, y), fill="white", width=3)
        pen.line((x, y - 12, x, y + 12), fill="white", width=3)
        picture = self._near(picture)
        self._caption(picture, f"layer {layer}", 3)
        return picture

    def rivals(self, stage: int) -> Image.Image:
        picture = self._dark(0.5)
        pen = ImageDraw.Draw(picture, "RGBA")
        label = self.found.labels[-1, self.query]
        for other in self.found.competing_queries(self.query):
            strength = int(60 + 195 * self.found.probabilities[stage, other, label])
            self._draw(pen, self._box(other, stage), (213, 217, 220, strength), 2)
        self._draw(pen, self._box(self.query, stage), self.color, 4)
        picture = self._near(picture)
        self._caption(picture, f"{_stage(stage)}: {self.found.scores[stage, self.query]:.2f}", 3)
        return picture

    def maps(self) -> list[Image.Image]:
        pictures = []
        for step in MAP_STEPS:  # three and one in a row, then three
            maps = self.found.energy[step]
            for level, values in enumerate(maps):
                if step == "aifi" and level < len(maps) - 1:
                    continue  # AIFI works on the coarsest alone
                spread = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
                picture = Image.fromarray(_heat_grid(spread))
                picture = picture.resize(self.size, Image.Resampling.NEAREST)
                words = f"{_STEP_WORDS[step]}, {values.shape[1]} x {values.shape[0]}"
                self._caption(picture, words, 4)
                pictures.append(picture)
        return pictures

    def _dark(self, left: float) -> Image.Image:
        return Image.blend(Image.new("RGB", self.size), self.shown, left)

    def _near(self, picture: Image.Image) -> Image.Image:
        """The part around the query's last box, as large as the whole."""
        x0, y0, x1, y1 = self._box(self.query, self.found.layers)
        width, height = self.size
        share = min(1.0, 1.8 * max((x1 - x0) / width, (y1 - y0) / height, 0.15))
        across, down = share * width, share * height
        left = min(max((x0 + x1 - across) / 2, 0), width - across)
        top = min(max((y0 + y1 - down) / 2, 0), height - down)
        return picture.resize(self.size, box=(left, top, left + across, top + down))

    def _box(self, query: int, time: float) -> tuple[float, ...]:
        low = int(time)
        high = min(low + 1, self.found.layers)
        boxes = self.found.boxes[[low, high], query] * self.scale
        return tuple((boxes[0] + (boxes[1] - boxes[0]) * (time - low)).tolist())

    def _cell(self, token: int) -> tuple[float, float]:
        level, row, column = self.found.token_place(token)
        height, width = self.found.map_shapes[level]
        return (column + 0.5) / width * self.size[0], (row + 0.5) / height * self.size[1]

    @staticmethod
    def _draw(pen: ImageDraw.ImageDraw, box: tuple[float, ...], color: object, width: int) -> None:
        x0, y0, x1, y1 = box
        pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=color, width=width)  # type: ignore[arg-type]

    @staticmethod
    def _dashed(pen: ImageDraw.ImageDraw, box: tuple[float, ...]) -> None:
        x0, y0, x1, y1 = box
        for x in np.arange(x0, x1, 16):
            for y in (y0, y1):
                pen.line((x, y, min(x + 9, x1), y), fill="white", width=2)
        for y in np.arange(y0, y1, 16):
            for x in (x0, x1):
                pen.line((x, y, x, min(y + 9, y1)), fill="white", width=2)

    def _caption(self, picture: Image.Image, words: str, beside: int = 1) -> None:
        """Large enough to be read where `beside` pictures stand in a row."""
        pen, font = ImageDraw.Draw(picture), self.fonts[beside]
        _, _, width, height = pen.textbbox((0, 0), words, font=font)
        pen.rectangle((0, 0, width + 16 * beside, height + 14 * beside), fill="#14171a")
        pen.text((8 * beside, 6 * beside), words, fill="white", font=font)


def _shrunk(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _stage(stage: int) -> str:
    return f"layer {stage}" if stage else "proposal"


def _times(found: Inspection) -> list[float]:
    times = [step / _FRAMES_A_STAGE for step in range(found.layers * _FRAMES_A_STAGE)]
    return [*times, *[float(found.layers)] * _FRAMES_A_STAGE]


def _heat(share: float) -> tuple[int, ...]:
    return tuple(_heat_grid(np.array([[share]]))[0, 0].tolist())


def _heat_grid(values: np.ndarray) -> np.ndarray:
    """uint8 [height, width, 3] of values from 0 to 1."""
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(values, at, HEAT[:, i]) for i in range(3)], -1).astype(np.uint8)


def _sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGBA", (columns * (width + 8) - 8, rows * (height + 8) - 8))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * (width + 8), number // columns * (height + 8)))
    return sheet.resize(_shrunk(sheet.size, 2 / columns))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _film(frames: list[Image.Image]) -> bytes:
    frames = [frame.resize(_shrunk(frame.size, 2 / 3)) for frame in frames]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=80, loop=0, quality=70,
        method=2,
    )  # fmt: skip
    return buffer.getvalue()


def _report(
    found: Inspection, query: int, contents: dict[str, bytes], notes: Mapping[str, str]
) -> str:
    """One page without anything from elsewhere."""
    label = html.escape(found.class_names[found.labels[-1, query]])
    level, row, column = found.token_place(int(found.chosen[query]))
    rows = "".join(
        f"<tr><th>{_stage(stage)}</th><td>{found.scores[stage, query]:.3f}</td><td>"
        f"{html.escape(found.class_names[found.labels[stage, query]])}</td><td>"
        f"{', '.join(f'{value:.0f}' for value in found.boxes[stage, query])}</td></tr>"
        for stage in range(found.layers + 1)
    )
    figures = "".join(
        f"<section><h2>{title}</h2><p>{words} {html.escape(notes.get(title, ''))}</p>"
        f"<img alt='{title}' src='data:image/"
        f"{name.rsplit('.', 1)[1]};base64,{base64.b64encode(contents[name]).decode()}'></section>"
        for name, title, words in _PANELS
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Why RT-DETR found it: {label}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
body {{ font: 1rem/1.5 system-ui, sans-serif }}
img {{ max-width: 100%; border-radius: 8px }}
td, th {{ padding: 0 1rem 0 0; text-align: left; font-variant-numeric: tabular-nums }}
</style>
<h1>Why RT-DETR found it: {label} {found.scores[-1, query]:.2f}</h1>
<p>Checkpoint {html.escape(found.checkpoint)}. Query {query + 1} of {len(found.chosen)}, born in map
{level + 1} of {len(found.map_shapes)}, row {row + 1}, column {column + 1}.</p>
<table><tr><th>stage</th><th>score</th><th>class</th><th>xmin, ymin, xmax, ymax</th></tr>
{rows}</table>
{figures}
</html>
"""
