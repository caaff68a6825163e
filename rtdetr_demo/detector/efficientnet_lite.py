"""EfficientNet-Lite0 as a transformers backbone, with its batch norms folded away.

Importing this module registers the model type `efficientnet_lite` with `AutoConfig` and
`AutoBackbone`, which is all that `RTDetrForObjectDetection.from_pretrained` needs to load the
bundled checkpoint.

The architecture is the one of the EfficientNet-Lite0 release (Apache-2.0): inverted bottlenecks
without squeeze-and-excitation, ReLU6 everywhere, TensorFlow's "same" padding. Each convolution
carries a bias that holds what was a batch norm: transformers' frozen norm fixes epsilon at 1e-5,
while these weights were trained with 1e-3, and a folded network is also the faster one.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import (
    BackboneConfigMixin,
    BackboneMixin,
    filter_output_hidden_states,
)
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.generic import can_return_tuple


class Group(NamedTuple):
    """A run of inverted bottlenecks; only the first one strides and changes the width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STEM_WIDTH = 32
# One entry per feature map: the groups of blocks that lead from the map before to this one.
STAGES: dict[str, tuple[Group, ...]] = {
    "stage1": (Group(1, 3, 1, 1, 16), Group(2, 3, 2, 6, 24)),
    "stage2": (Group(2, 5, 2, 6, 40),),
    "stage3": (Group(3, 3, 2, 6, 80), Group(3, 5, 1, 6, 112)),
    "stage4": (Group(4, 5, 2, 6, 192), Group(1, 3, 1, 6, 320)),
}


@strict
class EfficientNetLiteConfig(BackboneConfigMixin, PreTrainedConfig):
    """Which feature maps to return; the architecture itself is fixed.

    `stem` has stride 2, `stage1` to `stage4` have strides 4, 8, 16, 32. By default the
    last three are returned, with 40, 112 and 320 channels.
    """

    model_type = "efficientnet_lite"

    num_channels: int = 3
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.stage_names = ["stem", *STAGES]
        out_indices, out_features = (
            kwargs.pop("out_indices", None),
            kwargs.pop("out_features", None),
        )
        if out_indices is None and out_features is None:
            out_features = ["stage2", "stage3", "stage4"]
        self.set_output_features_output_indices(out_indices=out_indices, out_features=out_features)
        super().__post_init__(**kwargs)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd pixel goes right and below.

    In and out: `(batch, channels, height, width)`; the output is `ceil(size / stride)`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pad by the amount that this input's size asks for, then convolve."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:  # Odd kernels only, so the padding is symmetric and costs no copy.
            return F.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        pad_y, pad_x = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]
        )
        x = F.pad(x, (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedBottleneck(nn.Module):
    """Widen by 1x1, filter each channel, narrow by 1x1; a residual where the shapes allow it."""

    def __init__(self, width_in: int, group: Group, stride: int):
        super().__init__()
        hidden = width_in * group.expansion
        self.expand = SameConv2d(width_in, hidden, 1) if group.expansion != 1 else None
        self.depthwise = SameConv2d(hidden, hidden, group.kernel, stride, groups=hidden)
        self.project = SameConv2d(hidden, group.width, 1)
        self.residual = stride == 1 and width_in == group.width

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, width_in, h, w)` to `(batch, width, ceil(h / stride), ceil(w / stride))`."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):
    """EfficientNet-Lite0 up to its last bottleneck, as feature maps.

    Input: `(batch, 3, height, width)` scaled to [-1, 1]. Sizes that are multiples of 32 give
    maps of exactly 1/8, 1/16 and 1/32, as the RT-DETR encoder needs them.
    """

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = SameConv2d(config.num_channels, STEM_WIDTH, 3, 2)
        self.stages = nn.ModuleDict()
        width = STEM_WIDTH
        self.num_features = [width]
        for name, groups in STAGES.items():
            blocks = []
            for group in groups:
                for index in range(group.repeats):
                    stride = group.stride if index == 0 else 1
                    blocks.append(InvertedBottleneck(width, group, stride))
                    width = group.width
            self.stages[name] = nn.Sequential(*blocks)
            self.num_features.append(width)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Keep the scale of the signal from layer to layer, as no norm does it here."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            assert module.bias is not None
            init.zeros_(module.bias)

    @can_return_tuple
    @filter_output_hidden_states
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs
    ) -> BackboneOutput:
        """Feature maps of the stages in `config.out_features`, finest first."""
        maps = [F.relu6(self.stem(pixel_values), inplace=True)]
        for stage in self.stages.values():
            maps.append(stage(maps[-1]))
        named = dict(zip(self.stage_names, maps, strict=True))
        return BackboneOutput(
            feature_maps=tuple(named[name] for name in self.out_features),
            hidden_states=tuple(maps) if output_hidden_states else None,
        )


def load_batch_normed(backbone: EfficientNetLiteBackbone, state: dict[str, Tensor]) -> None:
    """Fill the backbone from an `efficientnet-lite0` state dict, folding its batch norms.

    `state` has the names of the `efficientnet-lite-pytorch` package (`_conv_stem`,
    `_blocks.N._depthwise_conv` ...). Raises `KeyError` where an expected weight is missing.
    """
    pairs = [(backbone.stem, "_conv_stem", "_bn0")]
    blocks = [b for b in backbone.modules() if isinstance(b, InvertedBottleneck)]
    for index, block in enumerate(blocks):
        prefix = f"_blocks.{index}."
        names = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
        if block.expand is not None:
            names.insert(0, ("expand", "_expand_conv", "_bn0"))
        pairs += [(getattr(block, own), prefix + conv, prefix + norm) for own, conv, norm in names]
    with torch.no_grad():
        for conv, weight, norm in pairs:
            scale = state[norm + ".weight"] / torch.sqrt(state[norm + ".running_var"] + 1e-3)
            conv.weight.copy_(state[weight + ".weight"] * scale[:, None, None, None])
            assert conv.bias is not None
            conv.bias.copy_(state[norm + ".bias"] - state[norm + ".running_mean"] * scale)


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone, exist_ok=True)
