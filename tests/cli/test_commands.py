"""`python -m rtdetr_demo detect`."""

import json
from pathlib import Path

import pytest
from PIL import Image

from rtdetr_demo.__main__ import main
from tests.support.paths import EXAMPLES
from tests.support.standin import HubStandIn

PHOTO = str(EXAMPLES / "dogs.jpg")


def test_json_has_the_common_form(tiny: Path, capsys):
    assert main(["detect", PHOTO, "--checkpoint", str(tiny), "--threshold", "0.3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["checkpoint", "decoder_layers", "image", "detections", "timing_ms"]
    assert answer["decoder_layers"] == 6
    with Image.open(PHOTO) as photo:
        assert answer["image"] == dict(zip(("width", "height"), photo.size, strict=True))
    assert set(answer["timing_ms"]) == {"preprocess", "model", "postprocess", "total"}
    found = answer["detections"]
    assert found
    assert all(set(one) == {"label", "score", "box"} for one in found)
    assert all(one["score"] > 0.3 for one in found)


def test_layers_cut_the_decoder(tiny: Path, capsys):
    main(["detect", PHOTO, "--checkpoint", str(tiny), "--layers", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["decoder_layers"] == 2


def test_save_writes_an_annotated_picture(tiny: Path, tmp_path, capsys):
    target = tmp_path / "out.png"
    main(["detect", PHOTO, "--checkpoint", str(tiny), "--threshold", "0.3", "--save", str(target)])
    with Image.open(target) as drawn, Image.open(PHOTO) as photo:
        assert drawn.size == photo.size
        assert drawn.convert("RGB").tobytes() != photo.convert("RGB").tobytes()
    assert capsys.readouterr().out.count("\n") > 1


def test_a_checkpoint_of_the_hub_is_fetched(hub: HubStandIn, capsys):
    assert main(["detect", PHOTO, "--checkpoint", "owner/tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "owner/tiny"


def test_without_a_hub_the_bundled_checkpoint_steps_in_for_the_default(capsys, caplog, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["detect", PHOTO, "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["checkpoint"] == "bundled"
    assert "HF_HUB_OFFLINE" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-photo.jpg"], "could not be read"),
        (["http://127.0.0.1/photo.jpg"], "private network"),
        ([str(Path(__file__))], "not a picture"),
        ([PHOTO, "--layers", "9"], "from 1 to 6"),
        ([PHOTO, "--threshold", "7"], "from 0 to 1"),
        ([PHOTO, "--save", "/no/such/folder/out.png"], "could not be written"),
        ([PHOTO, "--checkpoint", "not a name"], "neither a local folder nor a hub ID"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_on_stderr(tiny: Path, capsys, arguments, words):
    checkpoint = [] if "--checkpoint" in arguments else ["--checkpoint", str(tiny)]
    assert main(["detect", *arguments, *checkpoint]) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert "Traceback" not in err
    assert out == ""


def test_inspect_writes_pictures_a_film_and_a_report_that_needs_nothing_else(tmp_path, capsys):
    assert main(["inspect", PHOTO, "--out", str(tmp_path / "why"), "--object", "2"]) == 0
    assert "query" in capsys.readouterr().out
    for name in ("born.png", "looked.png", "silenced.png", "saw.png"):
        with Image.open(tmp_path / "why" / name) as drawn:
            assert min(drawn.size) > 100
    with Image.open(tmp_path / "why" / "refined.webp") as film:
        assert film.n_frames > 12  # what stands still is one frame
    report = (tmp_path / "why" / "report.html").read_text()
    assert report.count("src='data:image/") == 6
    assert "://" not in report


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect"], "--out DIR"),
        (["inspect", PHOTO, "--out", "x", "--object", "101"], "from 1 to 100"),
        (["inspect", "--faithfulness", "no.json", "."], "could not be read"),
    ],
)
def test_inspect_refuses_in_a_sentence(words, sentence, capsys):
    assert main(words) == 1
    assert sentence in capsys.readouterr().err
