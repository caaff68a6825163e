"""The same network in fewer steps: batch norms and RepVGG branches folded into convolutions.

Both are exact (to rounding) at inference: a batch norm scales and shifts each channel, which the
convolution before it can do itself; a RepVGG block adds a 3x3 and a 1x1 convolution of the same
input, which is one 3x3 convolution (Ding et al., RepVGG, CVPR 2021).
"""

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers.activations import SiLUActivation

FROZEN_EPS = 1e-5
"""What the frozen batch norm of transformers adds to a variance; it has no attribute for it."""


@torch.no_grad()
def fuse(model: Any) -> Any:
    """Fold an RT-DETR or RT-DETRv2 in place, for inference only; gives it back.

    Activations work in place, too: on a CPU new memory costs as much as the arithmetic.
    """
    for module in list(model.modules()):
        _fold_norms(module)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RepVggBlock"):
                setattr(module, name, _one_branch(child))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            # Each follows a convolution or a sum whose result nothing else reads.
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.ReLU(inplace=True))
            elif isinstance(child, nn.SiLU | SiLUActivation):
                setattr(module, name, nn.SiLU(inplace=True))
    return model


def _fold_norms(module: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution among a module's children."""
    children = list(module.named_children())
    conv: Any
    norm: Any
    for (_, conv), (name, norm) in itertools.pairwise(children):
        if not isinstance(conv, nn.Conv2d) or not _is_batch_norm(norm):
            continue
        weight, bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            getattr(norm, "eps", FROZEN_EPS),
            norm.weight,
            norm.bias,
        )
        conv.weight, conv.bias = weight, bias
        setattr(module, name, nn.Identity())


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) or type(module).__name__.endswith("FrozenBatchNorm2d")


def _one_branch(block: Any) -> nn.Module:
    """The 3x3 convolution that does what a RepVGG block's two do, and the block's activation."""
    wide, narrow = block.conv1.conv, block.conv2.conv
    wide.weight += nn.functional.pad(narrow.weight, [1, 1, 1, 1])
    wide.bias += narrow.bias
    return nn.Sequential(wide, block.activation)
