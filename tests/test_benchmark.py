"""The benchmark takes turns, and says what it measured."""

import json
import time
from pathlib import Path

import pytest

from rtdetr_demo.__main__ import main
from rtdetr_demo.benchmark import alternate


def test_contenders_take_turns_after_one_to_warm_up():
    calls: list[str] = []
    lines = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert [line.contender for line in lines] == ["a", "b"]


def test_times_are_milliseconds_with_their_spread():
    [line] = alternate({"nap": lambda: time.sleep(0.02)}, 5)
    assert 20 <= line.p5 <= line.median <= line.p95 < 60


def test_the_command_writes_every_depth_and_the_pipeline(tiny: Path, tmp_path, capsys):
    out = tmp_path / "out.json"
    arguments = ["--checkpoint", str(tiny), "--against", "pipeline", "--rounds", "2"]
    assert main(["benchmark", *arguments, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    names = [line["contender"] for line in content["lines"]]
    assert names == [*(f"{k} of 6 layers" for k in range(1, 7)), "transformers pipeline"]
    assert all(name in printed for name in names)
    assert content["conditions"]["rounds"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "none"], "whole number"),
        (["--layers", "9"], "from 1 to 6"),
        (["--rounds", "0"], "at least 1"),
        (["--picture", "none.jpg"], "could not be read"),
    ],
)
def test_wrong_options_are_a_sentence(tiny: Path, capsys, arguments, words):
    assert main(["benchmark", "--checkpoint", str(tiny), *arguments]) == 1
    assert words in capsys.readouterr().err
