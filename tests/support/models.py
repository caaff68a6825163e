"""Small models for tests, in the layout of the hub."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

NAMES = ["person", "car", "dog", "cat", "<b>bold</b>"]


def random_model(**overrides: object) -> RTDetrForObjectDetection:
    """An RT-DETR with random weights whose maps and scores are spread out: what it finds depends on
    the picture, few tokens and scores tie, and thresholds bite."""
    return _randomized(RTDetrForObjectDetection, RTDetrConfig(**overrides))


def random_model_v2(**overrides: object) -> RTDetrV2ForObjectDetection:
    """An RT-DETRv2 with random weights, as `random_model`."""
    return _randomized(RTDetrV2ForObjectDetection, RTDetrV2Config(**overrides))


def r18() -> dict:
    """Settings of the published RT-DETR R18, for 80 classes."""
    return {
        "num_labels": 80,
        "backbone_config": RTDetrResNetConfig(
            embedding_size=64,
            hidden_sizes=[64, 128, 256, 512],
            depths=[2, 2, 2, 2],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_in_channels": [128, 256, 512],
        "hidden_expansion": 0.5,
        "decoder_layers": 3,
    }


def _randomized(kind: type, config: PreTrainedConfig) -> Any:
    torch.manual_seed(1)
    names = NAMES + [f"class {i}" for i in range(len(NAMES), config.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    model = kind(config).eval()
    with torch.no_grad():
        spread(model)
        for head in model.model.decoder.class_embed:
            head.weight.normal_(0, 0.2)
            head.bias.fill_(-1.0)
        for head in model.model.decoder.bbox_embed:
            head.layers[-1].weight.normal_(0, 0.05)
    return model


def spread(model: nn.Module) -> None:
    """Let the picture through: as they are made, norms with weights of 0.01 leave nothing of it."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.7)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        elif hasattr(module, "enc_score_head"):
            module.enc_score_head.weight.normal_(0, 0.1)


def small(**overrides: object) -> dict:
    """Settings of an RT-DETR that is small enough for a test, six layers and 300 queries deep."""
    return {
        "num_labels": len(NAMES),
        "backbone_config": RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_in_channels": [16, 24, 32],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 4,
        "d_model": 32,
        "num_denoising": 0,
        **overrides,
    }


def save(model: PreTrainedModel, folder: Path, size: int) -> Path:
    model.save_pretrained(folder)
    RTDetrImageProcessorPil(
        do_normalize=False, size={"height": size, "width": size}
    ).save_pretrained(folder)
    return folder
