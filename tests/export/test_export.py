"""An export gives what the cut pass gives, and runs where this project is not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import (
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrV2ForObjectDetection,
)

from rtdetr_demo.__main__ import main
from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.detector.detector import Detector
from rtdetr_demo.detector.openvino_import import import_openvino
from rtdetr_demo.errors import BadInput, Unprocessable
from rtdetr_demo.export import exporter
from rtdetr_demo.export.card import NOT_STATED, card, license_of, read_measured
from rtdetr_demo.export.check import Gap
from rtdetr_demo.export.exporter import export
from rtdetr_demo.export.settings import FORMATS, Cut, check_cut, description
from tests.support.models import r18, random_model, random_model_v2, save, small
from tests.support.paths import EXAMPLES, REPO

CPU = torch.device("cpu")
PHOTO = EXAMPLES / "dogs.jpg"

Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def detector(tiny: Path) -> Detector:
    return Detector.load("tiny", tiny, CPU)


@pytest.fixture(scope="module")
def version_2(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    folder = save(random_model_v2(**small()), tmp_path_factory.mktemp("v2"), 160)
    return Detector.load("v2", folder, CPU)


@pytest.fixture(scope="module")
def bundled() -> Detector:
    return load("bundled", device=CPU)


def photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


def run_transformers(
    folder: Path, image: Image.Image, kind: type = RTDetrForObjectDetection
) -> Candidates:
    model = kind.from_pretrained(folder).eval()
    processor = RTDetrImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        output = model(**processor(images=image, return_tensors="pt"))
    size = [(image.height, image.width)]
    [detected] = processor.post_process_object_detection(output, 0.0, size)
    return detected["scores"].numpy(), detected["labels"].numpy(), detected["boxes"].numpy()


def pixels_of(about: dict, image: Image.Image) -> np.ndarray:
    height, width = about["input_size"]
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(resized, np.float32) * np.float32(about["scale"])
    return np.ascontiguousarray((values + np.float32(about["shift"])).transpose(2, 0, 1)[None])


def run_onnx(folder: Path, image: Image.Image) -> Candidates:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    about = {name: json.loads(metadata[name]) for name in ("input_size", "scale", "shift")}
    pixels = pixels_of(about, image)
    scores, labels, boxes = (out[0] for out in session.run(None, {"pixels": pixels}))
    return scores, labels, boxes * [*image.size, *image.size]


def run_openvino(folder: Path, image: Image.Image) -> Candidates:
    model = import_openvino().compile_model(
        folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    outputs = model(pixels_of(json.loads((folder / "model.json").read_text()), image))
    scores, labels, boxes = (outputs[name][0] for name in ("scores", "labels", "boxes"))
    return scores, labels, boxes * [*image.size, *image.size]


RUN: dict[str, Callable[..., Candidates]] = {
    "transformers": run_transformers,
    "onnx": run_onnx,
    "openvino": run_openvino,
}
TOLERANCE = {"transformers": 1e-4, "onnx": 1e-3, "openvino": 2e-2}


def assert_same(detector: Detector, cut: Cut, candidates: Candidates, tolerance: float) -> None:
    """The detections of the cut pass are there, within a tolerance in score and in box."""
    image = photo()
    predictions = detector.detect(
        image, cut.layers, queries=cut.queries, size=cut.size, every_layer=False
    )
    expected = predictions.select(cut.layers, 0.3)
    assert len(expected) > 1, "a case in which something is at stake"
    scores, labels, boxes = candidates
    assert len(scores) == cut.queries
    sides = np.array([*image.size, *image.size])
    gaps = []
    for detection in expected:
        score_gaps = np.abs(scores - detection.score)
        box_gaps = np.abs((boxes - np.array(detection[3:])) / sides).max(1)
        nearest = np.maximum(score_gaps, box_gaps)[labels == detection.class_id]
        gaps.append(nearest.min(initial=1.0))
    # Weights in float16 may choose another query where two are nearly equal.
    alike = 0.97 if tolerance == TOLERANCE["openvino"] else 1.0
    assert np.quantile(gaps, alike, method="lower") < tolerance


@pytest.mark.parametrize(
    ("form", "layers"),
    [
        *((form, layers) for form in ("transformers", "onnx") for layers in (1, 4, 6)),
        ("openvino", 4),
        pytest.param("openvino", 1, marks=pytest.mark.slow),
        pytest.param("openvino", 6, marks=pytest.mark.slow),
    ],
)
def test_it_gives_what_the_cut_pass_gives(
    detector: Detector, tmp_path: Path, form: str, layers: int
) -> None:
    cut = check_cut(detector, layers, None, None)
    written = export(detector, tmp_path / "out", form, cut)
    assert_same(detector, cut, RUN[form](tmp_path / "out", photo()), TOLERANCE[form])
    assert written.difference is not None
    assert max(written.difference.score, written.difference.box) < TOLERANCE[form]


@pytest.mark.parametrize(
    ("form", "layers"),
    [("transformers", 1), ("transformers", 2), ("transformers", 6), ("onnx", 1), ("openvino", 2)],
)
def test_an_rtdetrv2_gives_the_same(
    version_2: Detector, tmp_path: Path, form: str, layers: int
) -> None:
    cut = check_cut(version_2, layers, None, None)
    export(version_2, tmp_path / "out", form, cut)
    more = [RTDetrV2ForObjectDetection] if form == "transformers" else []
    assert_same(version_2, cut, RUN[form](tmp_path / "out", photo(), *more), TOLERANCE[form])


@pytest.mark.parametrize("form", FORMATS)
def test_fewer_queries_and_another_size_carry_over(
    detector: Detector, tmp_path: Path, form: str
) -> None:
    cut = check_cut(detector, 3, 50, 192)
    export(detector, tmp_path / "out", form, cut)
    assert_same(detector, cut, RUN[form](tmp_path / "out", photo()), TOLERANCE[form])


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("version", [1, 2])
def test_an_r18_of_the_published_size_gives_the_same(
    tmp_path: Path, form: str, layers: int, version: int
) -> None:
    model = random_model(**r18()) if version == 1 else random_model_v2(**r18())
    whole = Detector.load("r18", save(model, tmp_path / "r18", 640), CPU)
    cut = check_cut(whole, layers, None, None)
    export(whole, tmp_path / "out", form, cut)
    more = [type(model)] if form == "transformers" else []
    assert_same(whole, cut, RUN[form](tmp_path / "out", photo(), *more), TOLERANCE[form])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "layers",
    [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)],
)
def test_the_script_runs_without_this_project(
    bundled: Detector, tmp_path: Path, form: str, layers: int
) -> None:
    cut = check_cut(bundled, layers, None, None)
    folder = export(bundled, tmp_path / "out", form, cut).folder
    script = folder / "detect.py"
    assert len(script.read_text().splitlines()) <= 30
    alone = (
        "import runpy, sys\n"
        f"sys.argv = ['detect.py', {str(PHOTO)!r}, '0.3']\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'rtdetr_demo']\n"
        "try:\n    import rtdetr_demo\n"
        "except ImportError:\n    sys.exit()\n"
        "sys.exit('this project can be imported, so this test shows nothing')\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-c", alone], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    expected = bundled.detect(photo(), layers, every_layer=False).select(layers, 0.3)
    assert [line["label"] for line in printed] == [line.label for line in expected]
    for line, wanted in zip(printed, expected, strict=True):
        assert line["score"] == pytest.approx(wanted.score, abs=TOLERANCE[form])
        assert line["box"] == pytest.approx(wanted[3:], abs=TOLERANCE[form] * 1280)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_weights_of_other_layers_are_left_out(
    detector: Detector, version_2: Detector, tmp_path: Path, version: int, layers: int
) -> None:
    whole = detector if version == 1 else version_2
    export(whole, tmp_path / "out", "transformers", check_cut(whole, layers, 60, 128))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["decoder_layers"], config["num_queries"]) == (layers, 60)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        names = list(file.keys())
    for part in ("decoder.layers.", "class_embed.", "bbox_embed."):
        numbered = [name for name in names if part in name and "denoising" not in name]
        numbers = {int(name.split(part)[1].split(".")[0]) for name in numbered}
        assert numbers == set(range(layers))
    processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 128, "width": 128}


def test_an_onnx_file_takes_any_batch_and_states_its_interface(
    detector: Detector, tmp_path: Path
) -> None:
    export(detector, tmp_path / "out", "onnx", check_cut(detector, 3, None, None))
    model = onnx.load(tmp_path / "out" / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    [opset] = [imported.version for imported in model.opset_import if imported.domain == ""]
    assert json.loads(metadata["opset"]) == opset
    assert "already" not in metadata["input"]
    assert "float32 [batch, 3, height, width]" in metadata["input"]
    assert json.loads(metadata["class_names"]) == list(detector.class_names)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    pixels = np.random.default_rng(0).random((3, 3, 160, 160), np.float32)
    together = session.run(None, {"pixels": pixels})
    assert [output.shape for output in together] == [(3, 300), (3, 300), (3, 300, 4)]
    for number in range(3):
        single = session.run(None, {"pixels": pixels[number : number + 1]})
        assert single[0][0] == pytest.approx(together[0][number], abs=1e-4)


def test_openvino_weights_are_halves_and_any_batch_runs(detector: Detector, tmp_path: Path) -> None:
    cut = check_cut(detector, 3, None, None)
    files = export(detector, tmp_path / "ir", "openvino", cut).files
    whole = export(detector, tmp_path / "onnx", "onnx", cut).files
    assert files["model.bin"] < 0.6 * whole["model.onnx"]
    model = import_openvino().compile_model(tmp_path / "ir" / "model.xml", "CPU")
    assert model(np.zeros((2, 3, 160, 160), np.float32))["boxes"].shape == (2, 300, 4)


@pytest.mark.parametrize("form", FORMATS)
def test_the_readme_names_source_license_and_changes(bundled: Detector, form: str) -> None:
    cut = check_cut(bundled, 5, None, None)
    about = None if form == "transformers" else description(bundled, cut)
    text = card(bundled, cut, form, about, Gap(2e-6, 3e-7, 19, 19), "- kept: 96.9 %")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "5 of 6 decoder layers" in text
    assert "rtdetr_demo/checkpoints/bundled" in text
    assert "EfficientNet-Lite0" in text
    assert "layers after layer 5 are left out" in text
    assert "at most 2e-06 in score" in text
    assert "- kept: 96.9 %" in text
    assert ("float16" in text) == (form == "openvino")


def test_the_license_is_that_of_the_card_or_of_the_hub(tmp_path: Path) -> None:
    assert license_of("PekingU/rtdetr_r18vd", None) == "apache-2.0"
    assert license_of("bundled", tmp_path) == NOT_STATED, "another folder of this name"
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: 'cc-by-nc-4.0'\n---\n# Mine\n")
    assert license_of("mine", tmp_path) == "cc-by-nc-4.0"


def test_the_figures_of_a_depth_report_go_into_the_card(tmp_path: Path) -> None:
    share = {"value": 0.97, "low": 0.95, "high": 0.99}
    row = {"layers": 5, "kind": "all", "iou": 0.5, "reference": 1000}
    report = {
        "checkpoint": "bundled",
        "pictures": 500,
        "labelled_pictures": 500,
        "depths": [{**row, "kept_share": share, "added_share": share}],
        "averages": [{"layers": 5, "AP": 0.401, "AP50": 0.622}],
    }
    path = tmp_path / "depth.json"
    path.write_text(json.dumps(report))
    words = read_measured(path, "bundled", 5)
    assert "97.0 % of 1,000 detections are kept (90 % interval 95.0 to 99.0 %)" in words
    assert "AP 40.1 %, AP50 62.2 %" in words
    for checkpoint, layers in (("bundled", 4), ("other", 5)):
        with pytest.raises(BadInput, match="has no figures of"):
            read_measured(path, checkpoint, layers)
    path.write_text("{}")
    with pytest.raises(BadInput, match="no report"):
        read_measured(path, "bundled", 5)


def test_an_export_that_disagrees_is_refused_and_leaves_nothing(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exporter.TOLERANCE, "onnx", -1.0)
    with pytest.raises(Unprocessable, match="too much to use it"):
        export(detector, tmp_path / "out", "onnx", check_cut(detector, 3, None, None))
    assert list(tmp_path.iterdir()) == []


def test_a_processor_that_pads_is_for_transformers_alone(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pads"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    RTDetrImageProcessorPil(
        size={"height": 128, "width": 160}, do_pad=True, pad_size={"height": 160, "width": 160}
    ).save_pretrained(folder)
    whole = Detector.load("pads", folder, CPU)
    cut = check_cut(whole, 2, None, None)
    with pytest.raises(Unprocessable, match="format transformers"):
        export(whole, tmp_path / "out", "onnx", cut)
    export(whole, tmp_path / "out", "transformers", cut)
    assert_same(whole, cut, run_transformers(tmp_path / "out", photo()), 1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layers", "9"], "from 1 to 6"),
        (["--layers", "2", "--queries", "5000"], "choose from"),
        (["--layers", "2", "--size", "100"], "multiple of 32"),
        (["--layers", "2", "--measured", "none.json"], "could not be read"),
        (["--layers", "2", "--checkpoint", "not a name"], "neither a local folder nor a hub ID"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    checkpoint = [] if "--checkpoint" in words else ["--checkpoint", str(tiny)]
    out = tmp_path / "out"
    assert main(["export", str(out), "--format", "onnx", *words, *checkpoint]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    words = ["--layers", "2", "--format", "transformers", "--checkpoint", str(tiny)]
    assert main(["export", str(tmp_path), *words]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_tells_files_agreement_and_license(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["--layers", "2", "--format", "transformers", "--checkpoint", str(tiny)]
    assert main(["export", str(tmp_path / "out"), *words]) == 0
    out = capsys.readouterr().out
    assert "model.safetensors" in out
    assert "differs from the demo's own pass by at most" in out
    assert "not stated" in out


def test_the_scripts_need_no_more_than_they_say() -> None:
    for script in (REPO / "rtdetr_demo" / "export" / "scripts").glob("*.py"):
        text = script.read_text()
        assert "rtdetr_demo" not in text
        [needs] = [line for line in text.splitlines() if line.startswith("Needs: pip install")]
        imported = {
            line.split()[1].split(".")[0]
            for line in text.splitlines()
            if line.startswith(("import ", "from "))
        } - {"json", "sys", "pathlib"}
        packages = {"PIL": "pillow"}
        assert all(packages.get(name, name) in needs for name in imported)
