"""Why the model found it: one pass that records what query selection and each layer did.

The pass runs the stages that serve (`network`), in plain PyTorch whatever else serves. What is
recorded is worked out anew from what goes into each layer, so that nothing is kept, hooked or
slowed in ordinary passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import BadInput
from ..predictions import is_whole
from .detector import Detector
from .network import DecoderLayer, EncoderStage, StagedRTDetr

MAP_STEPS = ("backbone", "aifi", "ccff")
"""Where the maps are measured: projected to the encoder's channels; after attention within the
coarsest (AIFI); after fusion across scales (CCFF)."""

SAME_PLACE = 0.4
"""IoU from which two queries are after the same thing."""


@dataclass(frozen=True)
class Inspection:
    """What one pass over one picture did, for every query; arrays are NumPy's, on the CPU.

    Places and boxes are in pixels of the upright original picture, not clipped to it. Boxes are
    xmin, ymin, xmax, ymax. "Stages" are the proposal (0) and then each decoder layer (1, 2, ...).
    Tokens are the cells of the maps, finest map first, row by row. Queries are numbered in the
    order in which they were chosen, so that a query's number is its rank.
    """

    checkpoint: str
    class_names: tuple[str, ...]
    width: int
    height: int
    map_shapes: tuple[tuple[int, int], ...]
    """Height and width of each map in cells, finest first."""
    token_scores: np.ndarray
    """float32 [tokens]: the encoder's score of its best class, 0 to 1."""
    token_labels: np.ndarray
    """int64 [tokens]: that class, an index into `class_names`."""
    chosen: np.ndarray
    """int64 [queries]: the token that each query came from."""
    boxes: np.ndarray
    """float32 [stages, queries, 4]."""
    probabilities: np.ndarray
    """float32 [stages, queries, classes], 0 to 1, each class for itself (they do not sum to 1)."""
    places: np.ndarray
    """float32 [layers, queries, heads, maps, points, 2]: x, y that each head read in each map; with
    discrete sampling the centres of the cells that it read."""
    weights: np.ndarray
    """float32 [layers, queries, heads, maps, points], summing to 1 in each head."""
    attention: np.ndarray
    """float32 [layers, queries, queries], mean over heads: how much the query of a row took from
    the query of a column; rows sum to 1."""
    energy: dict[str, tuple[np.ndarray, ...]]
    """For each of `MAP_STEPS` the encoder's maps, float32 [height, width]: how far each cell stands
    out from its map's mean, root mean square over channels. (AIFI ends in a layer norm, so that its
    cells are all of one length, and differ in direction alone.)"""

    @property
    def layers(self) -> int:
        return len(self.places)

    @property
    def scores(self) -> np.ndarray:
        """float32 [stages, queries]: of the best class."""
        return self.probabilities.max(-1)

    @property
    def labels(self) -> np.ndarray:
        """int64 [stages, queries]: the best class."""
        return self.probabilities.argmax(-1)

    def token_place(self, token: int) -> tuple[int, int, int]:
        """Map, row and column of a token."""
        for number, (height, width) in enumerate(self.map_shapes):
            if token < height * width:
                return number, token // width, token % width
            token -= height * width
        raise IndexError("there is no such token")

    def best(self, count: int, threshold: float = 0.0) -> list[int]:
        """The queries that score highest after the last layer and above `threshold`, best first."""
        last = self.scores[-1]
        order = np.argsort(-last, kind="stable")[:count]
        return [int(query) for query in order if last[query] > threshold]

    def ranked(self, rank: int) -> int:
        """The query that scores `rank`th highest after the last layer; 1 is the best. Raises
        BadInput unless there are so many."""
        if not is_whole(rank) or not 1 <= rank <= len(self.chosen):
            raise BadInput(f"Choose an object by its rank, from 1 to {len(self.chosen)}.")
        return self.best(rank)[-1]

    def find(self, label: str, box: Sequence[float], score: float, layer: int) -> int:
        """The query behind a detection of `layer`, which another backend may have made.

        Its numbers there may differ a little, and its queries may stand in another order; so it is
        known by its class, its box (pixels) and its score. Raises BadInput where none is like it.
        """
        if label not in self.class_names or not 1 <= layer <= self.layers:
            raise BadInput("This detection is not of this checkpoint: detect again.")
        edges = np.tile(np.array([self.width, self.height], dtype=np.float32), 2)
        inside = np.clip(self.boxes[layer], 0, edges)  # pages and files cut boxes at the edges
        overlap = iou(inside, np.clip(np.asarray(box, dtype=np.float32), 0, edges))
        off = np.abs(self.probabilities[layer, :, self.class_names.index(label)] - score)
        query = int(np.argmax(overlap - off))
        if overlap[query] < 0.5 or off[query] > 0.25:
            raise BadInput("Nothing like this detection is found in this picture: detect again.")
        return query

    def competing_queries(self, query: int, count: int = 8) -> list[int]:
        """Other queries that, at some stage, said the same class in the same place; strongest
        first, by their highest score at such a stage."""
        label = self.labels[-1, query]
        claim = np.zeros(len(self.chosen))
        for boxes, probabilities in zip(self.boxes, self.probabilities, strict=True):
            near = iou(boxes, boxes[query]) >= SAME_PLACE
            claim = np.maximum(claim, np.where(near, probabilities[:, label], 0))
        claim[query] = 0
        order = np.argsort(-claim, kind="stable")[:count]
        return [int(other) for other in order if claim[other] > 0]

    def to_json(self, *queries: int, threshold: float | None = None) -> dict[str, Any]:
        """`overview`, and `query_json` of these queries; or of the best sixteen that score above a
        threshold after any layer."""
        if threshold is not None:
            highest = self.scores[1:].max(0)
            order = np.argsort(-highest, kind="stable")[:16]
            queries = tuple(int(query) for query in order if highest[query] > threshold)
        return {**self.overview(), "queries": [self.query_json(query) for query in queries]}

    def overview(self) -> dict[str, Any]:
        """All that is not of one query: heat, film and maps. Grids are flat, row by row; scores to
        0.001, boxes to a tenth of a pixel; `film` holds one entry a stage, flat over queries."""
        sizes = [height * width for height, width in self.map_shapes]
        heat = np.split(self.token_scores, np.cumsum(sizes)[:-1])
        return {
            "checkpoint": self.checkpoint,
            "classes": list(self.class_names),
            "image": {"width": self.width, "height": self.height},
            "decoder_layers": self.layers,
            "maps": [
                {"width": width, "height": height, "scores": _rounded(scores, 3)}
                for (height, width), scores in zip(self.map_shapes, heat, strict=True)
            ],
            "chosen": self.chosen.tolist(),
            "film": [
                {
                    "boxes": _rounded(boxes, 1),
                    "scores": _rounded(scores, 3),
                    "labels": labels.tolist(),
                }
                for boxes, scores, labels in zip(self.boxes, self.scores, self.labels, strict=True)
            ],
            "energy": {
                step: [
                    {
                        "width": values.shape[1],
                        "height": values.shape[0],
                        "values": _rounded(values, 2),
                    }
                    for values in maps
                ]
                for step, maps in self.energy.items()
            },
        }

    def query_json(self, query: int) -> dict[str, Any]:
        """One query: its token, its best three classes at each stage, its IoU to its last box, its
        points in each layer (x, y, weight, flat over heads, maps and points), its rivals with the
        attention that passed each way, and what an even share of attention would be."""
        number, row, column = self.token_place(int(self.chosen[query]))
        best = np.argsort(-self.probabilities[:, query], -1, kind="stable")[:, :3]
        points = np.concatenate([self.places[:, query], self.weights[:, query, ..., None]], -1)
        return {
            "query": query,
            "token": {"map": number, "row": row, "column": column},
            "label": self.class_names[self.labels[-1, query]],
            "classes": [
                [[self.class_names[i], round(float(stage[query, i]), 4)] for i in top]
                for stage, top in zip(self.probabilities, best, strict=True)
            ],
            "iou": _rounded(iou(self.boxes[:, query], self.boxes[-1, query]), 3),
            "heads": points.shape[1],
            "points": points.shape[3],
            "layers": [_points(layer) for layer in points],
            "even_share": round(1 / len(self.chosen), 5),
            "rivals": [
                {
                    "query": other,
                    "scores": _rounded(self.probabilities[:, other, self.labels[-1, query]], 3),
                    "iou": _rounded(
                        np.array([iou(b[other], b[query]) for b in self.boxes]).ravel(), 3
                    ),
                    "takes": _rounded(self.attention[:, other, query], 5),
                    "gives": _rounded(self.attention[:, query, other], 5),
                }
                for other in self.competing_queries(query)
            ],
        }


def inspect(
    detector: Detector,
    image: Image.Image,
    *,
    queries: int | None = None,
    size: int | None = None,
) -> Inspection:
    """Run one recorded pass over an RGB picture; `queries` and `size` as in `Detector.detect`.

    Raises BadInput for a shape that cannot be.
    """
    pixels = detector.prepare([image], size)
    return inspect_prepared(detector, pixels, image.size, queries)


@torch.inference_mode()
def inspect_prepared(
    detector: Detector, pixels: Tensor, size: tuple[int, int], queries: int | None = None
) -> Inspection:
    """Run one recorded pass over a prepared tensor [1, 3, height, width]; `size` is the picture's
    width and height in pixels. Raises BadInput for a number of queries that cannot be."""
    stages = detector.torch_backend(queries).stages
    pixels = pixels.to(detector.device, detector.model.dtype)
    recorded = record(stages, pixels, size)
    return Inspection(detector.checkpoint, detector.class_names, *size, **recorded)


def record(stages: StagedRTDetr, pixels: Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """The fields of an `Inspection` from `map_shapes` on, of the one picture in `pixels`
    [1, 3, height, width], whose original is `size` (width, height) pixels large."""
    encode = stages.encode
    energy, maps = _record_encoder(encode, pixels)
    logits, chosen, queries, boxes = encode.select(maps)
    shapes = tuple((int(feature_map.shape[1]), int(feature_map.shape[2])) for feature_map in maps)
    logits_by_stage, boxes_by_stage = [logits[0, chosen[0]]], [boxes[0]]
    sampling: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    layer: Any
    for layer, head in zip(stages.layers, stages.heads, strict=True):
        for kept, part in zip(sampling, _record_layer(layer, queries, boxes, shapes), strict=True):
            kept.append(part)
        queries, boxes = layer(queries, boxes, *maps)
        logits_by_stage.append(head(queries)[0])
        boxes_by_stage.append(boxes[0])
    scores, labels = logits[0].float().sigmoid().max(-1)
    centre, extent = torch.stack(boxes_by_stage).float().split(2, -1)
    attention, places, weights = sampling
    scale = np.array(size, dtype=np.float32)
    corners = torch.cat([centre - extent / 2, centre + extent / 2], -1)
    return {
        "map_shapes": shapes,
        "token_scores": scores.cpu().numpy(),
        "token_labels": labels.cpu().numpy(),
        "chosen": chosen[0].cpu().numpy(),
        "boxes": corners.cpu().numpy() * np.tile(scale, 2),
        "probabilities": torch.stack(logits_by_stage).float().sigmoid().cpu().numpy(),
        "places": torch.stack(places).float().cpu().numpy() * scale,
        "weights": torch.stack(weights).float().cpu().numpy(),
        "attention": torch.stack(attention).float().cpu().numpy(),
        "energy": energy,
    }


def iou(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU of boxes [..., 4] with one box [4]; corners."""
    sides = np.minimum(boxes[..., 2:], other[2:]) - np.maximum(boxes[..., :2], other[:2])
    shared = sides.clip(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (other[2:] - other[:2]).prod()
    return shared / np.maximum(areas - shared, 1e-9)


def _record_encoder(
    encode: EncoderStage, pixels: Tensor
) -> tuple[dict[str, tuple[np.ndarray, ...]], tuple[Tensor, ...]]:
    """The energies of `MAP_STEPS`, and the maps that the decoder looks at."""
    before = encode.project(pixels)
    first = tuple(map(_energy, before))
    mixed = list(before)
    encoder: Any = encode.encoder
    if encoder.config.encoder_layers > 0:
        for index, attend in zip(encoder.encode_proj_layers, encoder.aifi, strict=True):
            mixed[index] = attend(before[index])
    within = tuple(map(_energy, mixed))
    after = encoder(before).last_hidden_state
    maps = encode.decoder_maps(after)
    return dict(zip(MAP_STEPS, (first, within, tuple(map(_energy, after))), strict=True)), maps


def _energy(features: Tensor) -> np.ndarray:
    """Of maps [1, channels, height, width]."""
    apart = features[0].float() - features[0].float().mean((1, 2), keepdim=True)
    return apart.square().mean(0).sqrt().cpu().numpy()


def _record_layer(
    layer: DecoderLayer, queries: Tensor, boxes: Tensor, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer is about to do with these: attention [queries, queries], places (0 to 1) and
    weights as in `Inspection`."""
    position = layer.position(boxes)
    attention = _attention(layer.self_attention, queries + position)
    attended = layer.self_attend(queries, position)
    cross_attention = layer.attention
    places, weights = cross_attention.sample(attended + position, boxes, len(shapes))
    split = (*places.shape[1:3], len(shapes), cross_attention.points)
    places, weights = places.view(*split, 2), weights.view(split)
    if cross_attention.discrete:
        cells = places.new_tensor([(width, height) for height, width in shapes])[:, None]
        cell = torch.minimum((places * cells + 0.5).floor().clamp(min=0), cells - 1)
        places = (cell + 0.5) / cells
    return attention, places, weights


def _attention(module: Any, queries: Tensor) -> Tensor:
    """Self-attention's weights [queries, queries], mean over heads."""
    shape = (queries.shape[1], -1, module.head_dim)
    query = module.q_proj(queries).view(shape).transpose(0, 1)
    key = module.k_proj(queries).view(shape).transpose(0, 1)
    return (query @ key.transpose(1, 2) * module.scaling).softmax(-1).mean(0)


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return np.round(values.astype(float), digits).ravel().tolist()


def _points(points: np.ndarray) -> list[float]:
    flat = points.reshape(-1, 3).astype(float)
    flat[:, :2] = flat[:, :2].round(1)
    return flat.round(4).ravel().tolist()
