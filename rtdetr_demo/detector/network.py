"""RT-DETR as inference needs it: an encoding stage, then one stage per decoder layer.

The weights and most modules are those of a loaded transformers model; what training alone needs is
left out. Cutting the decoder is then a matter of running fewer stages, whatever runs them (see
`backends`). Boxes are centre x, centre y, width, height, from 0 to 1 of the picture.

Source: Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, CVPR 2024; for the sampling of
points, Zhu et al., Deformable DETR, ICLR 2021, and Lv et al., RT-DETRv2, 2024.
"""

from collections.abc import Sequence
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = 4
"""Shapes of input for which something is kept ready; visitors may ask for any."""

Maps = tuple[Tensor, ...]
"""Feature maps [batch, height, width, channels], finest first."""


class EncoderStage(nn.Module):
    """Backbone, hybrid encoder and query selection.

    Takes pixels [batch, 3, height, width], prepared as the checkpoint's processor does it; gives
    the best `queries` queries [batch, queries, channels], their boxes [batch, queries, 4] and the
    feature maps that the decoder looks at.
    """

    def __init__(self, model: Any, queries: int):
        super().__init__()
        self.backbone = model.backbone.model
        self.backbone_proj = model.encoder_input_proj
        self.encoder = model.encoder
        self.decoder_proj = model.decoder_input_proj
        self.output = model.enc_output
        self.score_head = model.enc_score_head
        self.box_head = model.enc_bbox_head
        self.queries = queries
        self._make_anchors = model.generate_anchors
        self._anchors: LRUCache[tuple, tuple[Tensor, Tensor]] = LRUCache(SHAPES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, *Maps]:
        maps = self.decoder_maps(self.encoder(self.project(pixels)).last_hidden_state)
        _, _, queries, boxes = self.select(maps)
        return queries, boxes, *maps

    def project(self, pixels: Tensor) -> list[Tensor]:
        """The backbone's maps [batch, channels, height, width] as the hybrid encoder takes them,
        which may write into the list."""
        features = self.backbone(pixels).feature_maps
        return [proj(one) for proj, one in zip(self.backbone_proj, features, strict=True)]

    def decoder_maps(self, maps: list[Tensor]) -> Maps:
        """What the hybrid encoder gave, as the decoder takes it."""
        maps = maps + [maps[-1]] * (len(self.decoder_proj) - len(maps))  # coarser, if asked for
        maps = [proj(one) for proj, one in zip(self.decoder_proj, maps, strict=True)]
        return tuple(one.permute(0, 2, 3, 1) for one in maps)

    def select(self, maps: Maps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query selection: logits [batch, tokens, classes] of every token, finest map first, row by
        row; which were chosen [batch, queries], best first; the queries and their boxes."""
        anchors, valid = self.anchors(maps)
        tokens = torch.cat([one.flatten(1, 2) for one in maps], 1)
        tokens = self.output(tokens * valid)
        logits = self.score_head(tokens)
        chosen = logits.amax(-1).topk(self.queries).indices
        best = chosen.unsqueeze(-1)
        queries = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        # The box head runs on what was chosen only.
        anchors = anchors.expand(len(best), -1, -1).gather(1, best.expand(-1, -1, 4))
        return logits, chosen, queries, (self.box_head(queries) + anchors).sigmoid()

    def anchors(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Anchors [1, tokens, 4] as logits, and which of them are valid (1 or 0) [1, tokens, 1]."""
        first = maps[0]
        shapes = tuple((int(one.shape[1]), int(one.shape[2])) for one in maps)
        key = (shapes, first.device, first.dtype)
        made = self._anchors.get(key)
        if made is None:
            anchors, valid = self._make_anchors(shapes, device=first.device, dtype=first.dtype)
            made = self._anchors[key] = anchors, valid.to(first.dtype)
        return made


class DecoderLayer(nn.Module):
    """One decoder layer: takes and gives queries and boxes; the feature maps stay as they are."""

    def __init__(self, decoder: Any, number: int):
        super().__init__()
        layer = decoder.layers[number]
        self.position = decoder.query_pos_head
        self.self_attention = layer.self_attn
        self.norm_1 = layer.self_attn_layer_norm
        self.attention = DeformableAttention(layer.encoder_attn)
        self.norm_2 = layer.encoder_attn_layer_norm
        self.mlp = layer.mlp
        self.norm_3 = layer.final_layer_norm
        self.box_head = decoder.bbox_embed[number]

    def forward(self, queries: Tensor, boxes: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        position = self.position(boxes)
        queries = self.self_attend(queries, position)
        queries = self.norm_2(queries + self.attention(queries + position, boxes, maps))
        queries = self.norm_3(queries + self.mlp(queries))
        # Not Tensor.logit, which OpenVINO cannot convert.
        logit = (boxes.clamp(min=1e-5) / (1 - boxes).clamp(min=1e-5)).log()
        return queries, (self.box_head(queries) + logit).sigmoid()

    def self_attend(self, queries: Tensor, position: Tensor) -> Tensor:
        """The queries after they have looked at each other."""
        attended, _ = self.self_attention(queries, position_embeddings=position)
        return self.norm_1(queries + attended)


class DeformableAttention(nn.Module):
    """Each query looks at a few points in each map, around its box: RT-DETR's and RT-DETRv2's."""

    def __init__(self, module: Any):
        super().__init__()
        self.heads, self.points = module.n_heads, module.n_points
        self.offsets, self.weights = module.sampling_offsets, module.attention_weights
        self.value_weight = module.value_proj.weight.detach()[..., None, None]
        self.value_bias = module.value_proj.bias.detach()
        self.output = module.output_proj
        self.offset_scale = getattr(module, "offset_scale", 0.5) / self.points
        self.discrete = getattr(module, "method", "default") == "discrete"

    def forward(self, queries: Tensor, boxes: Tensor, maps: Maps) -> Tensor:
        batch, count, width = queries.shape
        locations, weights = self.sample(queries, boxes, len(maps))
        by_map = locations.transpose(1, 2).flatten(0, 1).split(self.points, 2)
        sampled = torch.cat(
            [self._sample_map(one, within) for one, within in zip(maps, by_map, strict=True)], -1
        )
        weights = weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)
        return self.output((sampled * weights).sum(-1).view(batch, width, count).transpose(1, 2))

    def sample(self, queries: Tensor, boxes: Tensor, levels: int) -> tuple[Tensor, Tensor]:
        """Where each head looks, and how much each location counts.

        Gives locations [batch, queries, heads, levels * points, 2] (x, y; 0 to 1 of the picture)
        and weights [batch, queries, heads, levels * points], which sum to 1 in each head.
        """
        shape = (*queries.shape[:2], self.heads, levels * self.points)
        offsets = self.offsets(queries).view(*shape, 2)
        weights = self.weights(queries).view(shape).softmax(-1)
        scale = boxes[:, :, None, None, 2:] * self.offset_scale
        return boxes[:, :, None, None, :2] + offsets * scale, weights

    def _sample_map(self, one: Tensor, locations: Tensor) -> Tensor:
        """Values [batch * heads, channels, queries, points] of a map at locations from 0 to 1."""
        value = F.conv2d(one.permute(0, 3, 1, 2), self.value_weight, self.value_bias)
        height, width = value.shape[-2:]
        value = value.reshape(locations.shape[0], -1, height, width)
        if self.discrete:
            locations = locations + 0.5 / locations.new_tensor([width, height])
            return F.grid_sample(value, 2 * locations - 1, "nearest", "border", align_corners=False)
        return F.grid_sample(value, 2 * locations - 1, "bilinear", "zeros", align_corners=False)


class StagedRTDetr(nn.Module):
    """All stages of one model, for `queries` queries. Weights are shared with the model."""

    def __init__(self, model: Any, queries: int):
        super().__init__()
        decoder = model.model.decoder
        numbers = range(len(decoder.layers))
        self.encode = EncoderStage(model.model, queries)
        self.layers = nn.ModuleList(DecoderLayer(decoder, number) for number in numbers)
        self.heads = decoder.class_embed

    def forward(self, pixels: Tensor, depth: int, every: bool = True) -> tuple[Tensor, Tensor]:
        """Run `depth` layers; give logits [batch, layers, queries, classes] and boxes
        [batch, layers, queries, 4] of every layer, or of the last one alone."""
        queries, boxes, *maps = self.encode(pixels)
        logits, found = [], []
        for number in range(depth):
            queries, boxes = self.layers[number](queries, boxes, *maps)
            if every or number == depth - 1:
                logits.append(self.heads[number](queries))
                found.append(boxes)
        return torch.stack(logits, 1), torch.stack(found, 1)
