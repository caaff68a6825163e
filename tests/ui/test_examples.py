"""What the page ships of its example pictures."""

import json
from pathlib import Path

import pytest

from rtdetr_demo.checkpoints.catalog import BUNDLED
from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.ui import examples

AGAIN = "Run `python -m rtdetr_demo examples` and commit what it writes."


@pytest.mark.parametrize("entry", examples.index(), ids=lambda entry: entry["name"])
def test_shipped_predictions_are_of_the_bundled_weights(entry: dict):
    assert entry["stamp"] == examples.stamp(entry["name"]), AGAIN


def test_the_command_writes_what_is_shipped(tmp_path: Path):
    assert list(examples.make(load(BUNDLED), tmp_path)) == list(examples.TITLES)
    for path in sorted(tmp_path.iterdir()):
        shipped = examples.SHIPPED / path.name
        if path.suffix == ".webp":
            continue  # encoders differ from one version to the next
        made, kept = (json.loads(one.read_text()) for one in (path, shipped))
        if path.name == "index.json":
            assert [{**one, "thumbnail": ""} for one in made] == [
                {**one, "thumbnail": ""} for one in kept
            ], AGAIN
            continue
        if path.name.endswith(".inspection.json"):
            assert made.keys() == kept.keys(), AGAIN
            continue  # of the same predictions, which are compared
        assert made["classes"] == kept["classes"], AGAIN
        for layer, other in zip(made["layers"], kept["layers"], strict=True):
            for best, known in zip(layer["scores"][:5], other["scores"][:5], strict=True):
                assert best == pytest.approx(known, abs=1e-3), AGAIN


def test_hard_examples_are_labelled_so_and_a_first_visit_finds_something():
    assert 1 <= sum(entry["hard"] for entry in examples.index()) < 4
    first = json.loads(
        (examples.SHIPPED / f"{Path(examples.index()[0]['name']).stem}.json").read_text()
    )
    assert all(layer["scores"][0] > 0.4 for layer in first["layers"])
