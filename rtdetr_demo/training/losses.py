"""What the training minimises: transformers' own loss, and a dense one for the encoder.

RT-DETR teaches one query per object, which needs many epochs. A dense detector teaches some ten
tokens per object and learns from few images. So the first part of the training treats the encoder
as a dense detector: every token of its maps predicts classes and a box, and those that already
align best with an object (score and overlap together, as in task-aligned learning) become its
positives. The decoder then starts from proposals that are worth refining.

Boxes are `(center x, center y, width, height)` in [0, 1] of the image, as transformers has them.
"""

import re
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RTDetrForObjectDetection, RTDetrModel

Target = dict[str, Tensor]
POSITIVES = 10  # Tokens per object.
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0  # How much score and overlap count in the alignment.
EPS = 1e-7
DUPLICATE_IOU, DUPLICATE_SCORE = 0.7, 0.05  # What repeats another query, and is seen at all.
FIRST_LAYER = 0.2  # What the first decoder layer's loss counts, beside 1 for the last.


@dataclass(frozen=True)
class Batch:
    """`images` `(batch, 3, size, size)` in [-1, 1] and one target an image.

    A target has `class_labels` `(n,)`, `boxes` `(n, 4)` and `ignored` `(k, 4)`,
    regions that teach neither presence nor absence.
    """

    images: Tensor
    targets: list[Target]


def corners(boxes: Tensor) -> Tensor:
    """`(..., 4)` centre form to `(x0, y0, x1, y1)`."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU, GIoU and intersection over the area of `a`, for corner boxes that broadcast."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    common, hull = inner.prod(-1), outer.clamp(0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clamp(0).prod(-1) for box in (a, b))
    union = area_a + area_b - common
    iou = common / (union + EPS)
    return iou, iou - (hull - union) / (hull + EPS), common / (area_a + EPS)


class DenseHead(nn.Module):
    """The encoder's proposal heads, cloned, so that one-to-many targets do not reach the model.

    Once the decoder trains, the model's own heads learn one proposal per object and this clone
    goes on teaching the encoder densely.
    """

    def __init__(self, model: RTDetrModel):
        super().__init__()
        self.output = deepcopy(model.enc_output)
        self.score = deepcopy(model.enc_score_head)
        self.box = deepcopy(model.enc_bbox_head)

    def forward(self, memory: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, tokens, d_model)` to logits `(batch, tokens, classes)` and boxes `(..., 4)`."""
        features = self.output(memory)
        return self.score(features).float(), (self.box(features).float() + anchors).sigmoid()

    def copy_to(self, model: RTDetrModel) -> None:
        """Make these heads the model's own."""
        model.enc_output.load_state_dict(self.output.state_dict())
        model.enc_score_head.load_state_dict(self.score.state_dict())
        model.enc_bbox_head.load_state_dict(self.box.state_dict())


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, centers: Tensor, labels: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the positive tokens of each object.

    `scores` `(B, N, C)` and `boxes` `(B, N, 4)` are predictions, `centers` `(N, 2)`
    the tokens' places, `labels` `(B, G)` the classes of the objects (-1 is padding),
    `targets` `(B, G, 4)` their boxes. Returns, each `(B, N)`: the index of the object that
    a token stands for (-1 for none), its alignment in [0, 1] relative to the object's best token,
    and that alignment scaled by the best overlap, which is the score to learn.
    """
    valid = labels >= 0
    count = boxes.shape[1]
    iou = overlap(corners(boxes)[:, None], corners(targets)[:, :, None])[0]  # (B, G, N)
    score = scores.transpose(1, 2).gather(1, labels.clamp(0)[..., None].expand(-1, -1, count))
    offset = (centers - targets[:, :, None, :2]).abs()
    # A small object may hold no token's centre: it may take those right around it.
    half = (targets[:, :, None, 2:] / 2).clamp(min=0.5 / count**0.5)
    inside = (offset < half).all(-1) & valid[..., None]
    alignment = score.clamp(min=EPS) ** SCORE_POWER * (iou + EPS) ** OVERLAP_POWER
    alignment = torch.where(inside, alignment + EPS**3, alignment.new_zeros(()))
    best, index = alignment.topk(min(POSITIVES, count), -1)
    chosen = torch.zeros_like(alignment).scatter(-1, index, best)
    strongest = chosen.max(-1, keepdim=True).values
    relative = chosen / strongest.clamp(min=EPS**4)
    best_iou = torch.where(chosen > 0, iou, 0).max(-1, keepdim=True).values
    # A token claimed by several objects serves the one that it overlaps most.
    owner_iou, owner = torch.where(chosen > 0, iou + EPS, 0).max(1)
    gathered = owner[:, None]
    taken = owner_iou > 0
    weight = torch.where(taken, relative.gather(1, gathered)[:, 0], 0)
    quality = torch.where(taken, (relative * best_iou).gather(1, gathered)[:, 0], 0)
    return torch.where(taken, owner, -1), weight, quality


def dense_loss(logits: Tensor, boxes: Tensor, centers: Tensor, targets: list[Target]) -> Tensor:
    """The one-to-many loss of all tokens, a scalar.

    `logits` `(B, N, C)`, `boxes` `(B, N, 4)`, `centers` `(N, 2)`; each target has
    `class_labels` `(G,)`, `boxes` `(G, 4)` and `ignored` `(K, 4)`, regions that teach
    neither presence nor absence.
    """
    batch, device = len(targets), logits.device
    max_objects = max(1, *(len(target["boxes"]) for target in targets))
    labels = torch.full((batch, max_objects), -1, dtype=torch.long, device=device)
    truth = torch.zeros(batch, max_objects, 4, device=device)
    negative = torch.ones(logits.shape[:2], device=device)
    for row, target in enumerate(targets):
        labels[row, : len(target["boxes"])] = target["class_labels"]
        truth[row, : len(target["boxes"])] = target["boxes"]
        if len(target["ignored"]):
            box = corners(target["ignored"])[:, None]
            covered = ((centers > box[..., :2]) & (centers < box[..., 2:])).all(-1).any(0)
            negative[row, covered] = 0
    owner, weight, quality = assign(
        logits.sigmoid().detach(), boxes.detach(), centers, labels, truth
    )
    positive = owner >= 0
    own_label = labels.gather(1, owner.clamp(0))
    goal = torch.zeros_like(logits)
    goal[positive, own_label[positive]] = quality[positive]
    is_goal = torch.zeros_like(logits, dtype=torch.bool)
    is_goal[positive, own_label[positive]] = True
    focus = 0.75 * logits.sigmoid().detach() ** 2 * torch.maximum(negative, positive)[..., None]
    score_loss = F.binary_cross_entropy_with_logits(
        logits, goal, weight=torch.where(is_goal, 1.0, focus), reduction="sum"
    ) / quality.sum().clamp(min=1)

    found, wanted = boxes[positive], truth.gather(1, owner.clamp(0)[..., None].expand(-1, -1, 4))
    wanted = wanted[positive]
    share = weight[positive] / weight.sum().clamp(min=1)
    distance = (found - wanted).abs().sum(-1)
    giou = overlap(corners(found), corners(wanted))[1]
    return score_loss + (share * (5 * distance + 2 * (1 - giou))).sum()


def start_decoder(model: RTDetrForObjectDetection, dense: DenseHead) -> None:
    """Hand what the dense part learnt to the proposal heads and to all decoder layers."""
    dense.copy_to(model.model)
    for head in model.model.decoder.class_embed:
        head.load_state_dict(model.model.enc_score_head.state_dict())


def encode(model: RTDetrForObjectDetection, images: Tensor) -> tuple[Tensor, Tensor]:
    """Memory tokens `(batch, tokens, d_model)` and their anchors `(1, tokens, 4)` as logits."""
    inner = model.model
    maps = inner.backbone.model(images).feature_maps
    projected = [layer(item) for layer, item in zip(inner.encoder_input_proj, maps, strict=True)]
    encoded = inner.encoder(projected).last_hidden_state
    sources = [layer(item) for layer, item in zip(inner.decoder_input_proj, encoded, strict=True)]
    shapes = tuple((int(item.shape[2]), int(item.shape[3])) for item in sources)
    memory = torch.cat([item.flatten(2).transpose(1, 2) for item in sources], 1)
    anchors, valid = inner.generate_anchors(shapes, device=images.device)
    return memory * valid.to(memory.dtype), anchors


def dense_step(model: RTDetrForObjectDetection, dense: DenseHead, batch: Batch) -> Tensor:
    """The loss of the encoder as a dense detector."""
    memory, anchors = encode(model, batch.images)
    logits, boxes = dense(memory, anchors)
    return dense_loss(logits, boxes, anchors[0, :, :2].sigmoid(), batch.targets)


class FullStep:
    """The loss of the whole model, with the dense loss beside it.

    The dense head reads the memory that the model's own forward pass made, caught by a hook on
    the layer that receives it.
    """

    def __init__(
        self,
        model: RTDetrForObjectDetection,
        dense: DenseHead,
        dense_weight: float,
        duplicate_weight: float = 0.0,
    ):
        self.model, self.dense, self.dense_weight = model, dense, dense_weight
        self.duplicate_weight = duplicate_weight
        self.memory: Tensor | None = None
        model.model.enc_output.register_forward_pre_hook(self._remember)

    def _remember(self, module: nn.Module, arguments: tuple[Tensor]) -> None:
        self.memory = arguments[0]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The one-to-one loss of transformers and the dense loss, both scalars."""
        model = self.model
        found = model.model(batch.images, labels=batch.targets)
        meta = found.denoising_meta_values
        denoising = meta["dn_num_split"][0] if meta else 0
        logits, boxes = found.intermediate_logits.float(), found.intermediate_reference_points
        plain, kept = logits[:, :, :denoising], logits[:, :, denoising:]
        kept = mask_ignored(kept, boxes[:, :, denoising:], batch.targets)
        logits = torch.cat([plain, kept], 2)
        first = found.enc_topk_logits.float()[:, None]
        first = mask_ignored(first, found.enc_topk_bboxes[:, None], batch.targets)
        _, parts, _ = model.loss_function(
            logits[:, -1], batch.targets, model.device, boxes[:, -1].float(), model.config,
            logits, boxes.float(),
            enc_topk_logits=first[:, 0], enc_topk_bboxes=found.enc_topk_bboxes.float(),
            denoising_meta_values=meta,
        )  # fmt: skip
        loss = weight_losses(parts, logits.shape[1])
        if self.duplicate_weight:
            loss = loss + self.duplicate_weight * duplicate_loss(
                logits[:, :, denoising:], boxes[:, :, denoising:].float(), batch.targets
            )
        side = loss.new_zeros(())
        if self.dense_weight:
            size = batch.images.shape[-1]
            shapes = tuple((size // stride, size // stride) for stride in (8, 16, 32))
            anchors, _ = model.model.generate_anchors(shapes, device=batch.images.device)
            dense_logits, dense_boxes = self.dense(self.memory, anchors)
            centers = anchors[0, :, :2].sigmoid()
            side = dense_loss(dense_logits, dense_boxes, centers, batch.targets)
        return loss, self.dense_weight * side


def duplicate_loss(logits: Tensor, boxes: Tensor, targets: list[Target]) -> Tensor:
    """Cross-entropy against the scores of queries that repeat a better one, a scalar.

    `logits` `(batch, layers, queries, classes)`, `boxes` `(batch, layers, queries, 4)`. A query is
    a duplicate if one of the same class scores higher and overlaps it by an IoU over
    `DUPLICATE_IOU`. The varifocal loss hardly teaches these: it weighs a wrong score by its square.
    The best query of every labelled object is never a duplicate, however close objects stand.
    The sum is divided by the number of objects; later layers count more, as in `weight_losses`.
    """
    scores, labels = logits.sigmoid().detach().max(-1)  # (B, L, Q)
    found = corners(boxes.detach())
    iou = overlap(found[..., :, None, :], found[..., None, :, :])[0]  # (B, L, Q, Q)
    same = labels[..., :, None] == labels[..., None, :]
    higher = scores[..., :, None] < scores[..., None, :]
    duplicate = (same & higher & (iou > DUPLICATE_IOU)).any(-1) & (scores > DUPLICATE_SCORE)
    objects = 0
    for row, target in enumerate(targets):
        if not len(target["boxes"]):
            continue
        objects += len(target["boxes"])
        own = overlap(found[row][..., None, :], corners(target["boxes"]))[0]  # (L, Q, G)
        fits = (own > 0.5) & (labels[row][..., None] == target["class_labels"])
        worth = torch.where(fits, scores[row][..., None], -1.0)
        best = worth.max(1, keepdim=True)  # (L, 1, G)
        kept = ((worth == best.values) & fits).any(-1)
        duplicate[row] &= ~kept
    logit = logits.gather(-1, labels[..., None])[..., 0]
    layers = logits.shape[1]
    depth = torch.linspace(FIRST_LAYER, 1, layers, device=logits.device)[:, None]
    wrong = F.softplus(logit) * duplicate * depth
    return wrong.sum() / max(1, objects)


def weight_losses(parts: dict[str, Tensor], layers: int) -> Tensor:
    """Sum transformers' loss terms, those of the first decoder layer at `FIRST_LAYER`.

    The weight grows evenly to 1 at the last layer, so that what the layers share (the encoder,
    and every layer for those after it) serves the full depth first. The proposals' terms, which
    transformers files as one auxiliary layer more, count in full.
    """
    total = torch.zeros((), device=next(iter(parts.values())).device)
    for name, value in parts.items():
        # `loss_vfl_aux_0` is of the first layer, `loss_vfl_dn_0` of its denoising queries;
        # `loss_vfl` is of the last, and so counts as `loss_vfl_aux_5`, the proposals, does.
        found = re.search(r"_(?:aux|dn)_(\d+)$", name)
        place = int(found[1]) / (layers - 1) if found else 1.0
        total = total + value * (FIRST_LAYER + (1 - FIRST_LAYER) * place)
    return total


def mask_ignored(logits: Tensor, boxes: Tensor, targets: list[Target]) -> Tensor:
    """Silence queries that look at ignored regions, so that no loss calls them wrong.

    `logits` `(batch, layers, queries, classes)`, `boxes` `(batch, layers, queries, 4)`.
    A query that overlaps a real object is never silenced.
    """
    mask = torch.zeros(boxes.shape[:3], dtype=torch.bool, device=boxes.device)
    for row, target in enumerate(targets):
        if len(target["ignored"]):
            found = corners(boxes[row].detach().float())[..., None, :]
            inside = overlap(found, corners(target["ignored"]))[2].amax(-1) > 0.6
            if len(target["boxes"]):
                inside &= overlap(found, corners(target["boxes"]))[0].amax(-1) < 0.4
            mask[row] = inside
    return logits.masked_fill(mask[..., None], -30.0)
