"""What an inspection records is what transformers' own modules do, at every layer."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForObjectDetection, RTDetrV2Config, RTDetrV2ForObjectDetection
from transformers.models.rt_detr_v2 import modeling_rt_detr_v2

from rtdetr_demo.checkpoints.catalog import BUNDLED_FOLDER
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.inspection import Inspection, inspect, iou, record
from rtdetr_demo.detector.network import StagedRTDetr
from rtdetr_demo.errors import BadInput
from tests.support.models import random_model, small
from tests.support.paths import EXAMPLES

SIZE = (400, 300)
TELL = {"output_attentions": True, "output_hidden_states": True}


def picture(name: str = "dogs.jpg") -> Image.Image:
    return Image.open(EXAMPLES / name).convert("RGB")


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return Detector.load("bundled", BUNDLED_FOLDER, torch.device("cpu"))


@pytest.fixture(scope="module")
def dogs(bundled: Detector) -> Inspection:
    return inspect(bundled, picture())


def eager(model: Any, spread: bool = True) -> Any:
    """A model that tells its attention; a fresh one would look at the same few points."""
    model = model.eval()
    model.set_attn_implementation("eager")
    for layer in model.model.decoder.layers if spread else ():
        nn.init.normal_(layer.encoder_attn.sampling_offsets.weight, 0, 0.05)
        nn.init.normal_(layer.encoder_attn.attention_weights.weight, 0, 0.05)
    return model


def v2(**settings: object) -> Any:
    torch.manual_seed(0)
    return eager(RTDetrV2ForObjectDetection(RTDetrV2Config(**small(**settings))))


def sampled_by_transformers(model: Any, pixels: torch.Tensor) -> tuple[Any, list[torch.Tensor]]:
    """A model's own outputs, and the places 0 to 1 [queries, heads, maps, points, 2] that its
    deformable attention was given in each layer."""
    places: list[torch.Tensor] = []
    handles = []

    def keep(at: torch.Tensor, attention: Any) -> None:
        at = at[0]
        places.append(at.reshape(*at.shape[:2], attention.n_levels, attention.n_points, 2))

    attentions = [layer.encoder_attn for layer in model.model.decoder.layers]
    if hasattr(attentions[0], "attn"):
        handles = [
            one.attn.register_forward_pre_hook(lambda _, given, one=one: keep(given[4], one))
            for one in attentions
        ]
        outputs = model(pixel_values=pixels, **TELL)
    else:
        real = modeling_rt_detr_v2.multi_scale_deformable_attention_v2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                modeling_rt_detr_v2,
                "multi_scale_deformable_attention_v2",
                lambda *given: keep(given[2], attentions[0]) or real(*given),
            )
            outputs = model(pixel_values=pixels, **TELL)
    for handle in handles:
        handle.remove()
    return outputs, places


def close(ours: np.ndarray, theirs: torch.Tensor, within: float = 1e-4) -> None:
    np.testing.assert_allclose(ours, theirs.float().numpy(), atol=within, rtol=0)


@torch.inference_mode()
def assert_same(found: dict[str, Any], model: Any, pixels: torch.Tensor) -> None:
    """Boxes and places are compared as shares of the picture, to 1e-4."""
    outputs, sampled = sampled_by_transformers(model, pixels)
    scale = np.array(SIZE, dtype=np.float32)
    queries, layers = model.config.num_queries, model.config.decoder_layers

    every_token = outputs.enc_outputs_class[0].sigmoid().amax(-1)
    close(found["token_scores"], every_token)
    assert found["chosen"].tolist() == every_token.topk(queries).indices.tolist()

    proposals, later = outputs.enc_topk_bboxes[0], outputs.intermediate_reference_points[0]
    centre, extent = torch.cat([proposals[None], later]).split(2, -1)
    corners = torch.cat([centre - extent / 2, centre + extent / 2], -1)
    close(found["boxes"] / np.tile(scale, 2), corners)

    close(found["probabilities"][0], outputs.enc_topk_logits[0].sigmoid())
    close(found["probabilities"][1:], outputs.intermediate_logits[0].sigmoid())

    assert len(sampled) == layers
    for layer in range(layers):
        close(found["places"][layer] / scale, sampled[layer])
        weights = outputs.cross_attentions[layer][0].reshape(found["weights"][layer].shape)
        close(found["weights"][layer], weights)
        close(found["attention"][layer], outputs.decoder_attentions[layer][0].mean(0))

    close(found["energy"]["ccff"][0], standing_out(outputs.encoder_last_hidden_state[0]))
    close(found["energy"]["aifi"][-1], standing_out(outputs.encoder_hidden_states[-1]))


def standing_out(features: torch.Tensor) -> torch.Tensor:
    apart = features[0] - features[0].mean((1, 2), keepdim=True)
    return apart.square().mean(0).sqrt()


@pytest.mark.parametrize(
    ("model", "size"),
    [
        pytest.param(lambda: eager(random_model(**small())), 160, id="v1"),
        pytest.param(lambda: eager(random_model(**small(num_feature_levels=4))), 160, id="4 maps"),
        pytest.param(lambda: v2(), 160, id="v2"),
        pytest.param(
            lambda: v2(decoder_n_points=2, decoder_offset_scale=0.7), 160, id="v2, two points"
        ),
        pytest.param(
            lambda: eager(random_model(num_labels=80)), 320, id="R50", marks=pytest.mark.slow
        ),
    ],
)
@torch.inference_mode()
def test_a_random_model_is_recorded_as_transformers_runs_it(model, size):
    model = model()
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = record(StagedRTDetr(model, model.config.num_queries), pixels, SIZE)
    assert_same(found, model, pixels)


@torch.inference_mode()
def test_the_bundled_checkpoint_is_recorded_as_transformers_runs_it(bundled):
    untouched = AutoModelForObjectDetection.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32)
    pixels = bundled.prepare([picture()])
    found = record(bundled.torch_backend().stages, pixels, SIZE)
    assert_same(found, eager(untouched, spread=False), pixels)


@torch.inference_mode()
def test_discrete_sampling_tells_the_cells_that_are_read(monkeypatch):
    # In double precision no place falls to the other side of a cell's edge by rounding.
    model = v2(decoder_method="discrete").double()
    pixels = torch.rand(1, 3, 160, 160, dtype=torch.double)
    found = record(StagedRTDetr(model, 300).double(), pixels, SIZE)
    outputs, sampled = sampled_by_transformers(model, pixels)
    for layer in range(6):
        for level, (height, width) in enumerate(found["map_shapes"]):
            cells = torch.tensor([width, height])
            cell = (sampled[layer][:, :, level] * cells + 0.5).to(torch.int64)
            cell = torch.minimum(cell.clamp(min=0), cells - 1)
            close(found["places"][layer][:, :, level] / np.array(SIZE), (cell + 0.5) / cells)
    close(found["probabilities"][1:], outputs.intermediate_logits[0].sigmoid())


def test_an_inspection_says_what_detection_says(bundled, dogs):
    predictions = bundled.detect(picture())
    for layer in range(1, 7):
        for one, query in zip(
            predictions.select(layer, 0.3), predictions.queries[layer - 1], strict=False
        ):
            assert dogs.boxes[layer, query] == pytest.approx(one[3:], abs=0.1)
            assert dogs.probabilities[layer, query, one.class_id] == pytest.approx(
                one.score, abs=1e-4
            )
            assert dogs.find(one.label, one[3:], one.score, layer) == query


@pytest.mark.load
def test_a_detection_of_another_backend_is_found(dogs):
    elsewhere = Detector.load("bundled", BUNDLED_FOLDER, torch.device("cpu"))
    assert elsewhere.accelerate(half=True)
    for one in elsewhere.detect(picture()).select(6, 0.3):
        query = dogs.find(one.label, one[3:], one.score, 6)
        assert iou(dogs.boxes[6, query], np.array(one[3:])) > 0.9
        assert dogs.probabilities[6, query, one.class_id] == pytest.approx(one.score, abs=0.05)


@pytest.mark.parametrize(
    ("label", "layer", "words"),
    [("dog", 7, "detect again"), ("unicorn", 6, "detect again"), ("dog", 6, "Nothing like")],
)
def test_what_is_not_there_is_not_found(dogs, label, layer, words):
    with pytest.raises(BadInput, match=words):
        dogs.find(label, (0, 0, 3, 3), 0.9, layer)


def test_rivals_say_the_same_of_the_same_place(dogs):
    winner = dogs.best(1)[0]
    rivals = dogs.competing_queries(winner)
    assert rivals
    assert winner not in rivals
    for other in rivals:
        near = [iou(stage[other], stage[winner]) for stage in dogs.boxes]
        assert max(near) >= 0.4


def test_tokens_lie_where_their_queries_begin(dogs):
    for query in dogs.best(5):
        number, row, column = dogs.token_place(int(dogs.chosen[query]))
        height, width = dogs.map_shapes[number]
        x0, y0, x1, y1 = dogs.boxes[0, query]
        across, down = (x0 + x1) / 2 / dogs.width * width, (y0 + y1) / 2 / dogs.height * height
        # A proposal is an anchor on its cell, moved; it stays within a few cells.
        assert abs(across - column - 0.5) < 4
        assert abs(down - row - 0.5) < 4


def test_its_json_is_small_enough_for_the_largest_shape(bundled):
    whole = inspect(bundled, picture(), size=640)
    assert len(str(whole.to_json(0))) < 600_000


@pytest.mark.slow
@pytest.mark.alone
def test_a_recorded_pass_costs_little_more_than_a_plain_one(bundled):
    image, plain = picture(), bundled.torch_backend()

    def recorded() -> None:
        inspect(bundled, image)

    def ordinary() -> None:
        with torch.inference_mode():
            plain.run(bundled.prepare([image]), 6, True)

    # On one thread, by turns, and the best of each: others may be at work here.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ordinary(), recorded()
    times: dict[Any, list[float]] = {ordinary: [], recorded: []}
    for work in [ordinary, recorded] * 15:
        began = time.perf_counter()
        work()
        times[work].append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    ratio = min(times[recorded]) / min(times[ordinary])
    print(f"{1000 * min(times[ordinary]):.0f} ms plain, {ratio:.2f} times that recorded")
    assert ratio < 1.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_records_the_same(bundled, dogs):
    card = inspect(Detector.load("bundled", BUNDLED_FOLDER, torch.device("cuda")), picture())
    for query in dogs.best(3, 0.4):
        name = dogs.class_names[dogs.labels[-1, query]]
        other = card.find(name, dogs.boxes[-1, query], float(dogs.scores[-1, query]), 6)
        assert card.boxes[-1, other] == pytest.approx(dogs.boxes[-1, query], abs=3)
