"""What training sees: a data set in memory, and batches drawn from it, alike for the same step."""

import io
import json
import tarfile
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..errors import BadInput
from .losses import Batch

GREY = 124
ERASED = 3  # Rectangles of a distorted image, at most.
Drawn = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]
"""Images `(batch, size, size, 3)` uint8; of each, corner boxes in [0, 1] and their labels."""


# --- Data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One image `(height, width, 3)` uint8 with `(n, 4)` corner boxes in its pixels."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray  # (n,), -1 marks a region to ignore.


def read_files(source: Path) -> dict[str, bytes]:
    """All files of a folder, a tar or a zip, by their path inside it."""
    if source.is_dir():
        paths = (path for path in source.rglob("*") if path.is_file())
        return {path.relative_to(source).as_posix(): path.read_bytes() for path in paths}
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
    with tarfile.open(source) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in members.items() if file is not None}


def load_samples(source: Path) -> tuple[list[Sample], list[str]]:
    """Decode a data set into memory; returns its samples and its class names in order of id.

    `source` holds one `instances.json` and the images that it names, anywhere inside, each name
    once. Smaller pictures than the JSON says are fine: boxes are scaled to what is there. Raises
    BadInput, in a sentence, for whatever is missing or damaged.
    """
    try:
        found = read_files(source)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise BadInput(f"{source} could not be read as a folder, tar or zip: {error}.") from None
    paths = Counter(PurePosixPath(name).name for name in found)
    if paths["instances.json"] != 1:
        raise BadInput(f"{source} must hold one instances.json, beside or above its images.")
    files = {PurePosixPath(name).name: data for name, data in found.items()}
    try:
        return _samples(files, paths, json.loads(files["instances.json"]), source)
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(
            f"The instances.json of {source} is not in COCO's form: {error!r}."
        ) from None


def _samples(
    files: dict[str, bytes], paths: Counter[str], instances: dict[str, Any], source: Path
) -> tuple[list[Sample], list[str]]:
    """As `load_samples`; `paths` counts the files of each name. Raises what JSON of another form
    makes it raise."""
    names = [_name(entry) for entry in instances["images"]]
    if missing := [name for name in names if name not in files]:
        raise BadInput(f"{source} lacks {len(missing)} of its images, {missing[0]} for one.")
    if alike := [name for name in names if paths[name] > 1]:
        raise BadInput(f"{source} holds two files named {alike[0]}: give each image its own name.")
    categories = sorted(instances["categories"], key=lambda category: category["id"])
    label_of = {category["id"]: index for index, category in enumerate(categories)}
    annotations: dict[int, list[dict]] = {}
    for annotation in instances["annotations"]:
        annotations.setdefault(annotation["image_id"], []).append(annotation)

    def decode(entry: dict) -> Sample:
        try:
            image = Image.open(io.BytesIO(files[_name(entry)]))
            pixels = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise BadInput(f"{_name(entry)} of {source} is no picture: {error}.") from None
        own = annotations.get(entry["id"], [])
        boxes = np.array([item["bbox"] for item in own], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scale = pixels.shape[1] / entry["width"], pixels.shape[0] / entry["height"]
        labels = [-1 if item.get("iscrowd") else label_of[item["category_id"]] for item in own]
        return Sample(pixels, boxes * np.tile(scale, 2), np.array(labels, np.int64))

    with ThreadPoolExecutor() as pool:
        samples = list(pool.map(decode, instances["images"]))
    return samples, [category["name"] for category in categories]


def _name(entry: dict[str, Any]) -> str:
    return PurePosixPath(entry["file_name"]).name


# --- Augmentation -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Augmentation:
    """How often, from 0 to 1, an image is changed in a way beyond crops, flips and colours."""

    mosaic: float = 0.0  # Four images share the canvas.
    mixup: float = 0.0  # Two canvases are blended, and both teach.
    distort: float = (
        0.0  # Rectangles are erased; the image is blurred or noisy, or loses its colours.
    )


def place(
    canvas: np.ndarray, sample: Sample, crop: np.ndarray, spot: np.ndarray, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a crop of the sample onto a spot of the canvas.

    `crop` and `spot` are `(x0, y0, x1, y1)` in pixels of the image and of the canvas.
    Returns the `(n, 4)` corner boxes on the canvas and their `(n,)` labels. A box of which
    little is left becomes a region to ignore; one that is gone is dropped.
    """
    x0, y0, x1, y1 = (int(value) for value in spot)
    piece = Image.fromarray(sample.image).resize(
        (x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=tuple(crop.tolist())
    )
    pixels = np.asarray(piece)
    canvas[y0:y1, x0:x1] = pixels[:, ::-1] if flip else pixels
    extent = crop[2:] - crop[:2]
    scale = np.array([x1 - x0, y1 - y0]) / extent
    cut = np.clip(sample.boxes.reshape(-1, 2, 2), crop[:2], crop[2:]).reshape(-1, 4)
    area, whole = (np.prod(box[:, 2:] - box[:, :2], 1) for box in (cut, sample.boxes))
    boxes = (cut - np.tile(crop[:2], 2)) * np.tile(scale, 2)
    if flip:
        boxes[:, [0, 2]] = (x1 - x0) - boxes[:, [2, 0]]
    boxes += np.tile([x0, y0], 2)
    visible = area / np.maximum(whole, 1e-6)
    small = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=1e9) < 3
    labels = np.where((visible < 0.35) | small, -1, sample.labels)
    kept = area > 0
    return boxes[kept], labels[kept]


def random_crop(rng: np.random.Generator, sample: Sample, smallest: float) -> np.ndarray:
    """A window of at least `smallest` of each side, with some change of aspect."""
    size = np.array(sample.image.shape[1::-1], np.float64)
    extent = size * np.clip(rng.uniform(smallest, 1) * rng.uniform(0.8, 1.25, 2), smallest, 1)
    corner = rng.uniform(0, 1, 2) * (size - extent)
    return np.concatenate([corner, corner + extent])


def compose(
    rng: np.random.Generator, samples: list[Sample], index: int, size: int, mosaic: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One canvas `(size, size, 3)` uint8, its corner boxes in pixels, and their labels.

    With probability `mosaic` four images share the canvas; otherwise one is cropped, shown
    whole, or shrunk onto a grey canvas.
    """
    canvas = np.full((size, size, 3), GREY, np.uint8)
    parts = []
    if rng.random() < mosaic:
        cx, cy = rng.uniform(0.3, 0.7, 2) * size
        spots = [(0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size)]
        for number, corners in enumerate(spots):
            sample = samples[index if number == 0 else rng.integers(len(samples))]
            crop = random_crop(rng, sample, 0.6)
            parts.append(place(canvas, sample, crop, np.array(corners), rng.random() < 0.5))
    else:
        sample = samples[index]
        kind = rng.random()
        crop = random_crop(rng, sample, 0.5 if kind < 0.4 else 1.0)
        spot = np.array([0, 0, size, size])
        if kind > 0.9:
            extent = np.round(size * np.clip(rng.uniform(0.4, 1) * rng.uniform(0.8, 1.25, 2), 0, 1))
            corner = np.floor(rng.uniform(0, 1, 2) * (size - extent))
            spot = np.concatenate([corner, corner + extent])
        parts.append(place(canvas, sample, crop, spot, rng.random() < 0.5))
    boxes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return canvas, boxes, labels


def blend(
    rng: np.random.Generator,
    one: tuple[np.ndarray, np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two canvases in one, each seen about half, with the boxes and labels of both."""
    share = rng.beta(8, 8)
    canvas = np.round(share * one[0] + (1 - share) * other[0]).astype(np.uint8)
    return canvas, np.concatenate([one[1], other[1]]), np.concatenate([one[2], other[2]])


def erase(
    rng: np.random.Generator, canvas: np.ndarray, boxes: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Fill some rectangles of the canvas with noise, and give the labels that are then true.

    An object of which one rectangle hides half becomes a region to ignore.
    """
    size = len(canvas)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], 1), 1e-6)
    for _ in range(rng.integers(1, ERASED + 1)):
        extent = rng.uniform(0.08, 0.3, 2) * size
        corner = rng.uniform(0, 1, 2) * (size - extent)
        x0, y0, x1, y1 = np.round(np.concatenate([corner, corner + extent])).astype(int)
        canvas[y0:y1, x0:x1] = rng.integers(0, 256, (y1 - y0, x1 - x0, 3), np.uint8)
        common = np.minimum(boxes[:, 2:], (x1, y1)) - np.maximum(boxes[:, :2], (x0, y0))
        labels = np.where(common.clip(0).prod(1) > 0.5 * area, -1, labels)
    return labels


def spoil(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """The canvas as a worse camera gives it: blurred, noisy, or without its colours."""
    kind = rng.integers(3)
    if kind == 0:
        blurred = ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5))
        return np.asarray(Image.fromarray(canvas).filter(blurred))
    if kind == 1:
        noise = rng.standard_normal(canvas.shape, np.float32) * rng.uniform(4, 16)
        return np.clip(canvas + noise, 0, 255).astype(np.uint8)
    return np.repeat(np.asarray(Image.fromarray(canvas).convert("L"))[..., None], 3, 2)


def augment(
    rng: np.random.Generator,
    samples: list[Sample],
    index: int,
    size: int,
    augmentation: Augmentation,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One training image `(size, size, 3)` uint8, corner boxes in [0, 1], and labels."""
    drawn = compose(rng, samples, index, size, augmentation.mosaic)
    if rng.random() < augmentation.mixup:
        other = int(rng.integers(len(samples)))
        drawn = blend(rng, drawn, compose(rng, samples, other, size, augmentation.mosaic))
    canvas, boxes, labels = drawn
    if rng.random() < augmentation.distort:
        labels = erase(rng, canvas, boxes, labels)
    if rng.random() < augmentation.distort:
        canvas = spoil(rng, canvas)
    return canvas, boxes / size, labels


def jitter_colors(images: Tensor, strength: float = 0.35) -> Tensor:
    """Change brightness, contrast and saturation of `(batch, 3, h, w)` in [0, 1]."""
    shape = (len(images), 1, 1, 1)
    brightness, contrast, saturation = (
        1 + strength * (2 * torch.rand(shape, device=images.device) - 1) for _ in range(3)
    )
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return ((images - mean) * contrast + mean * brightness).clamp(0, 1)


def make_batch(
    samples: list[Sample],
    step: int,
    batch_size: int,
    size: int,
    augmentation: Augmentation,
    seed: int,
) -> Drawn:
    """The batch of a step; the same step always draws the same one, whatever came before."""
    epoch, position = divmod(step * batch_size, len(samples))
    order = [
        np.random.default_rng((seed, epoch + later)).permutation(len(samples)) for later in (0, 1)
    ]
    indices = np.concatenate(order)[position : position + batch_size]
    drawn = [
        augment(np.random.default_rng((seed, step, row)), samples, int(index), size, augmentation)
        for row, index in enumerate(indices)
    ]
    images = np.stack([image for image, _, _ in drawn])
    return images, [(boxes, labels) for _, boxes, labels in drawn]


def to_device(drawn: Drawn, device: torch.device) -> Batch:
    """Finish a batch on the device: floats, colours, targets in transformers' form."""
    images, truths = drawn
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # channels-last in memory
    pixels = jitter_colors(pixels.float() / 255) * 2 - 1
    targets = []
    for corner, label in truths:
        box, known = torch.from_numpy(corner).float().to(device), torch.from_numpy(label).to(device)
        box = torch.cat([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], 1)
        real = known >= 0
        targets.append({"class_labels": known[real], "boxes": box[real], "ignored": box[~real]})
    return Batch(pixels, targets)
