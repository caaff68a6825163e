"""The stages as a browser's WebAssembly runs them best: few large matrix products, no `GridSample`.

What passes between them is queries, boxes and one tensor of tokens, all feature maps in a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import DecoderLayer, DeformableAttention, EncoderStage


class BrowserEncoder(nn.Module):
    """Takes pixels [1, 3, height, width]; gives queries [1, queries, channels], their boxes
    [1, queries, 4] and tokens [1, tokens, channels]."""

    def __init__(self, stage: EncoderStage):
        super().__init__()
        self.stage = stage

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, boxes, *maps = self.stage(pixels)
        return queries, boxes, torch.cat([feature_map.flatten(1, 2) for feature_map in maps], 1)


class BrowserLayer(nn.Module):
    """One decoder layer with its class head: queries, boxes and tokens in; queries, boxes and
    logits [1, queries, classes] out. Rebuilds the layer that it is given."""

    def __init__(self, layer: DecoderLayer, head: nn.Module, shapes: Sequence[tuple[int, int]]):
        super().__init__()
        layer.attention = TokenAttention(layer.attention, shapes)  # type: ignore[assignment]
        self.layer, self.head = layer, head

    def forward(
        self, queries: Tensor, boxes: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries, boxes = self.layer(queries, boxes, tokens)
        return queries, boxes, self.head(queries)


class TokenAttention(nn.Module):
    """`DeformableAttention` by table look-up, for one picture.

    Looks first and projects afterwards, which is the same, as both are linear: a decoder looks at
    far fewer places than the maps have, so most of the projection is never computed.
    """

    def __init__(self, attention: DeformableAttention, shapes: Sequence[tuple[int, int]]):
        """`shapes`: height and width of each map, in the order of the tokens."""
        super().__init__()
        self.heads, self.discrete = attention.heads, attention.discrete
        self.weights, self.output = attention.weights, attention.output
        self.offset_scale = attention.offset_scale
        self.points = attention.points * len(shapes)
        # All x, then all y: operations on long rows are what the runtime does fast.
        offsets = attention.offsets
        # Buffers, as the exporter names those and writes mere attributes into the graph.
        self.offset_weight: Tensor
        self.offset_bias: Tensor
        self.value_weight: Tensor
        self.value_bias: Tensor
        self.register_buffer("offset_weight", _split_xy(offsets.weight.detach()))
        self.register_buffer("offset_bias", _split_xy(offsets.bias.detach()))
        # [heads, channels in, channels of a head] and [heads, 1, channels of a head]
        weight = attention.value_weight.unflatten(0, (self.heads, -1)).flatten(2)
        self.register_buffer("value_weight", weight.transpose(1, 2).contiguous())
        self.register_buffer("value_bias", attention.value_bias.view(self.heads, 1, -1))
        # For each head's points: width and height of their map, and where it begins.
        areas = torch.tensor([height * width for height, width in shapes])
        starts = areas.cumsum(0) - areas
        per_map = torch.tensor(
            [[w, h, start] for (h, w), start in zip(shapes, starts, strict=True)]
        )
        per_point = per_map.repeat_interleave(attention.points, 0).repeat(self.heads, 1).float()
        self.width, self.height, self.start = per_point.t().contiguous()

    def forward(self, queries: Tensor, boxes: Tensor, maps: tuple[Tensor]) -> Tensor:
        count, width = queries.shape[1:]
        x, y = F.linear(queries[0], self.offset_weight, self.offset_bias).chunk(2, -1)
        centre_x, centre_y, box_width, box_height = boxes[0].chunk(4, -1)
        x = (centre_x + x * (box_width * self.offset_scale)) * self.width
        y = (centre_y + y * (box_height * self.offset_scale)) * self.height
        weights = self.weights(queries).view(count, self.heads, self.points).softmax(-1)
        taps, shares = self._nearest(x, y) if self.discrete else self._bilinear(x, y)
        shape = (count, self.heads, self.points)
        where = torch.cat([tap.view(shape) for tap in taps], -1).int()
        weights = torch.cat([weights * share.view(shape) for share in shares], -1)
        rows = F.embedding(where.flatten(0, 1), maps[0][0])
        sampled = (weights.flatten(0, 1).unsqueeze(1) @ rows).view(count, self.heads, -1)
        total = weights.sum(-1, keepdim=True).transpose(0, 1)
        value = sampled.transpose(0, 1) @ self.value_weight + total * self.value_bias
        return self.output(value.transpose(0, 1).reshape(1, count, width))

    def _nearest(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Places in pixels [queries, heads * points] to the tokens touched and their shares, one
        of these tensors for each tap."""
        column = torch.minimum(x.clamp(min=0), self.width - 1).round()
        row = torch.minimum(y.clamp(min=0), self.height - 1).round()
        return [self.start + row * self.width + column], [torch.ones_like(x)]

    def _bilinear(self, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As `_nearest`; what lies outside a map is zero."""
        columns, rows = self._two(x - 0.5, self.width - 1), self._two(y - 0.5, self.height - 1)
        taps, shares = [], []
        for row, share_y in rows:
            begin = self.start + row * self.width
            for column, share_x in columns:
                taps.append(begin + column)
                shares.append(share_y * share_x)
        return taps, shares

    @staticmethod
    def _two(at: Tensor, last: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The whole numbers below and above, brought inside 0 to `last`, and their shares."""
        low = at.floor()
        high = low + 1
        part = at - low
        return [
            (torch.minimum(one.clamp(min=0), last), share * ((one >= 0) & (one <= last)))
            for one, share in ((low, 1 - part), (high, part))
        ]


def _split_xy(rows: Tensor) -> Tensor:
    """Rows x, y, x, y, ... to all x, then all y."""
    return torch.cat([rows[0::2], rows[1::2]])
