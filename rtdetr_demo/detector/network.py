"""RT-DETR as inference needs it: an encoding stage, then one stage per decoder layer.

The weights and most modules are those of a loaded transformers model; what training alone needs is
left out. Cutting the decoder is then a matter of running fewer stages, whatever runs them (see
`backends`). Boxes are centre x, centre y, width, height, from 0 to 1 of the picture.

In half precision everything that boxes pass through stays in float32 (`to_half`): float16 has steps
of 1/2048 near 1, which is a pixel at a width of 1920, and the inverse sigmoid of a box at the
picture's edge overflows there.

Source: Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, CVPR 2024; for the sampling of
points, Zhu et al., Deformable DETR, ICLR 2021, and Lv et al., RT-DETRv2, 2024.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = 4
"""Shapes of input for which something is kept ready; visitors may ask for any."""

Maps = tuple[Tensor, ...]
"""Feature maps [batch, height, width, channels], finest first."""

Shapes = tuple[tuple[int, int], ...]
"""Height and width of each feature map in cells, finest first."""


class ShapeConstants(NamedTuple):
    """Tensors that depend on the size of the input alone, not on the picture."""

    positions: tuple[Tensor | None, ...]
    """Position embeddings [1, cells, channels] of each map that attends to itself."""
    anchors: Tensor
    """Anchors [1, tokens, 4] as logits, in float32 at least."""
    valid: Tensor
    """1 for anchors that are used, else 0 [1, tokens, 1]."""


def level_shapes(config: Any, height: int, width: int) -> Shapes:
    """The maps that the decoder attends to for an input of this size in pixels."""
    shapes = [(-(-height // stride), -(-width // stride)) for stride in config.feat_strides]
    return _with_extra_levels(shapes, config.num_feature_levels)


def token_count(config: Any, height: int, width: int) -> int:
    """Cells of all these maps: how many queries can be selected."""
    return sum(rows * columns for rows, columns in level_shapes(config, height, width))


def fits_pyramid(config: Any, height: int, width: int) -> bool:
    """Whether each map is twice as large as the next, as the encoder's upsampling requires."""
    shapes = level_shapes(config, height, width)[: len(config.feat_strides)]
    return min(height, width) > 0 and all(
        (2 * coarse[0], 2 * coarse[1]) == fine for fine, coarse in itertools.pairwise(shapes)
    )


def _with_extra_levels(shapes: Sequence[tuple[int, int]], count: int) -> Shapes:
    height, width = shapes[-1]
    coarser = ((height + 1) // 2, (width + 1) // 2)  # each extra level comes from the same map
    return (*shapes, *[coarser] * (count - len(shapes)))


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
        self._constants: LRUCache[tuple, ShapeConstants] = LRUCache(SHAPES)

    def forward(
        self, pixels: Tensor, constants: ShapeConstants | None = None
    ) -> tuple[Tensor, Tensor, *Maps]:
        """`constants` are those of the size of `pixels`; they are looked up by default."""
        features = self.project(pixels)
        constants = constants or self.constants(features)
        maps = self.decoder_maps(self.encode_maps(features, constants))
        _, _, queries, boxes = self.select(maps, constants)
        return queries, boxes, *maps

    def project(self, pixels: Tensor) -> list[Tensor]:
        """The backbone's maps [batch, channels, height, width] with the encoder's channels."""
        features = self.backbone(pixels).feature_maps
        return [proj(one) for proj, one in zip(self.backbone_proj, features, strict=True)]

    def encode_maps(self, features: list[Tensor], constants: ShapeConstants) -> list[Tensor]:
        """The hybrid encoder: attention within the maps that the checkpoint names, then fusion
        from coarse to fine and back. Maps in and out are [batch, channels, height, width]."""
        features = list(features)
        encoder: Any = self.encoder
        if encoder.config.encoder_layers > 0:
            for index, aifi, position in zip(
                encoder.encode_proj_layers, encoder.aifi, constants.positions, strict=True
            ):
                features[index] = _attend(aifi, features[index], position)
        coarse = features.pop()
        fused: list[Tensor] = []
        for lateral, block in zip(encoder.lateral_convs, encoder.fpn_blocks, strict=True):
            fused.insert(0, lateral(coarse))
            larger = F.interpolate(fused[0], scale_factor=2.0, mode="nearest")
            coarse = block(torch.cat([larger, features.pop()], 1))
        maps = [coarse]
        for shrink, block, fine in zip(
            encoder.downsample_convs, encoder.pan_blocks, fused, strict=True
        ):
            maps.append(block(torch.cat([shrink(maps[-1]), fine], 1)))
        return maps

    def decoder_maps(self, maps: list[Tensor]) -> Maps:
        """What the hybrid encoder gave, as the decoder takes it."""
        maps = maps + [maps[-1]] * (len(self.decoder_proj) - len(maps))  # coarser, if asked for
        maps = [proj(one) for proj, one in zip(self.decoder_proj, maps, strict=True)]
        return tuple(feature_map.permute(0, 2, 3, 1) for feature_map in maps)

    def select(
        self,
        maps: Maps,
        constants: ShapeConstants | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query selection: logits [batch, tokens, classes] of every token, finest map first, row by
        row; which were chosen [batch, queries], best first; the queries and their boxes.

        `chosen` takes these tokens instead of the best, so that two runs can be compared query by
        query where near ties would fall differently.
        """
        if constants is None:
            shapes = tuple(
                (int(feature_map.shape[1]), int(feature_map.shape[2])) for feature_map in maps
            )
            constants = self._of_shapes(shapes, maps[0].device, maps[0].dtype)
        tokens = torch.cat([feature_map.flatten(1, 2) for feature_map in maps], 1)
        tokens = self.output(tokens * constants.valid)
        logits = self.score_head(tokens)
        if chosen is None:
            chosen = logits.amax(-1).topk(self.queries).indices
        best = chosen.unsqueeze(-1)
        queries = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        # The box head runs on what was chosen only.
        anchors = constants.anchors.expand(best.shape[0], -1, -1).gather(1, best.expand(-1, -1, 4))
        return logits, chosen, queries, (_in_its_dtype(self.box_head, queries) + anchors).sigmoid()

    def constants(self, features: Sequence[Tensor]) -> ShapeConstants:
        """The constants for maps of these shapes, as `project` gives them.

        They are kept for the last few shapes only: who reads them by address, as a recorded graph
        does, must hold them.
        """
        shapes = [
            (int(feature_map.shape[2]), int(feature_map.shape[3])) for feature_map in features
        ]
        first = features[0]
        return self._of_shapes(
            _with_extra_levels(shapes, len(self.decoder_proj)), first.device, first.dtype
        )

    def _of_shapes(
        self, shapes: Shapes, device: torch.device, dtype: torch.dtype
    ) -> ShapeConstants:
        key = (shapes, device, dtype)
        made = self._constants.get(key)
        if made is None:
            encoder: Any = self.encoder
            positions = tuple(
                aifi.position_embedding(
                    width=shapes[index][1], height=shapes[index][0], device=device, dtype=dtype
                )
                if aifi.eval_size is None
                else None
                for index, aifi in zip(encoder.encode_proj_layers, encoder.aifi, strict=True)
            )
            precise = torch.promote_types(dtype, torch.float32)
            anchors, valid = self._make_anchors(shapes, device=device, dtype=precise)
            made = self._constants[key] = ShapeConstants(positions, anchors, valid.to(dtype))
        return made


def _attend(aifi: Any, features: Tensor, position: Tensor | None) -> Tensor:
    """Attention among the cells of one map [batch, channels, height, width]."""
    cells = features.flatten(2).transpose(1, 2)
    for layer in aifi.layers:
        cells = layer(cells, attention_mask=None, spatial_position_embeddings=position)
    return cells.transpose(1, 2).reshape(features.shape).contiguous()


def _in_its_dtype(head: Any, values: Tensor) -> Tensor:
    """What a head gives in the precision of its own weights (see `to_half`)."""
    dtype = head.layers[0].weight.dtype
    # No cast where there is nothing to cast: tracers would write it down.
    return head(values if values.dtype == dtype else values.to(dtype))


class DecoderLayer(nn.Module):
    """One decoder layer: takes and gives queries and boxes; the feature maps stay as they are."""

    def __init__(self, decoder: Any, number: int):
        super().__init__()
        layer = decoder.layers[number]
        self.position_head = decoder.query_pos_head
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
        return queries, (_in_its_dtype(self.box_head, queries) + logit).sigmoid()

    def position(self, boxes: Tensor) -> Tensor:
        """Position embeddings [batch, queries, channels] of boxes, in the layer's precision."""
        dtype = self.norm_1.weight.dtype
        position = _in_its_dtype(self.position_head, boxes)
        return position if position.dtype == dtype else position.to(dtype)

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
        values = (sampled * weights).sum(-1).view(batch, width, count).transpose(1, 2)
        return self.output(values if values.dtype == queries.dtype else values.to(queries.dtype))

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
        """Values [batch * heads, channels, queries, points] of a map at locations from 0 to 1, in
        the precision of the locations, which is that of the boxes."""
        value = F.conv2d(one.permute(0, 3, 1, 2), self.value_weight, self.value_bias)
        height, width = value.shape[-2:]
        value = value.reshape(locations.shape[0], -1, height, width)
        if value.dtype != locations.dtype:
            value = value.to(locations.dtype)
        if self.discrete:
            # No tensor is made from numbers here: a copy from the host cannot be recorded.
            x = (locations[..., 0] * width + 0.5).floor().clamp(0, width - 1)
            y = (locations[..., 1] * height + 0.5).floor().clamp(0, height - 1)
            cells = (y * width + x).long().flatten(1).unsqueeze(1)
            taken = value.flatten(2).gather(2, cells.expand(-1, value.shape[1], -1))
            return taken.view(*value.shape[:2], *locations.shape[1:3])
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

    def forward(
        self,
        pixels: Tensor,
        depth: int,
        every: bool = True,
        constants: ShapeConstants | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run `depth` layers; give logits [batch, layers, queries, classes] and boxes
        [batch, layers, queries, 4] of every layer, or of the last one alone."""
        queries, boxes, *maps = self.encode(pixels, constants)
        logits, found = [], []
        for number in range(depth):
            queries, boxes = self.layers[number](queries, boxes, *maps)
            if every or number == depth - 1:
                logits.append(self.heads[number](queries))
                found.append(boxes)
        return torch.stack(logits, 1), torch.stack(found, 1)


@torch.no_grad()
def to_half(model: Any) -> Any:
    """Convert an RT-DETR or RT-DETRv2 in place to float16, for `StagedRTDetr`; gives it back.

    The box heads and the head that turns boxes into position embeddings keep their precision. The
    forward method of transformers cannot run such a model.
    """
    decoder = model.model.decoder
    heads = (model.model.enc_bbox_head, decoder.query_pos_head, *decoder.bbox_embed)
    kept = {id(module) for head in heads for module in head.modules()}
    for module in model.modules():
        if id(module) not in kept:
            for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if value.is_floating_point():
                    value.data = value.data.half()
    return model
