"""A study of depths: what it counts, and that it recommends only what it has shown."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.errors import BadInput, NotAPicture, Unprocessable
from rtdetr_demo.evaluation.depth import DepthStudy, saved_in_words
from rtdetr_demo.evaluation.depth_choice import check_keep, kept_shares, recommend, sentences
from rtdetr_demo.evaluation.depth_counts import EVERY, Group, count_picture
from rtdetr_demo.evaluation.depth_html import to_html
from rtdetr_demo.evaluation.latency import Latency
from rtdetr_demo.evaluation.shares import Share, added_share, kept_share, resampled_sums
from rtdetr_demo.predictions import Predictions, Timing

CLASSES = ("dog", "<b>cat</b>", "=sum")
SMALL, MEDIUM, LARGE = (0, 0, 20, 20), (50, 50, 100, 100), (100, 100, 300, 300)

Row = tuple[int, float, tuple[float, float, float, float]]


def predictions(*layers: list[Row]) -> Predictions:
    """Of a picture of 400 x 300 pixels; each row is a class, a score and a box."""
    longest = max(len(rows) for rows in layers)
    empty: Row = (0, 0.0, (0, 0, 1, 1))
    filled = [[*rows, *[empty] * (longest - len(rows))] for rows in layers]
    return Predictions(
        checkpoint="test",
        class_names=CLASSES,
        width=400,
        height=300,
        scores=np.array([[row[1] for row in rows] for rows in filled], np.float32),
        labels=np.array([[row[0] for row in rows] for rows in filled]),
        queries=np.zeros((len(filled), longest), np.int64),
        boxes=np.array([[row[2] for row in rows] for rows in filled], np.float32),
        timing=Timing(1, 1, 1),
    )


def moved(box: tuple[float, ...], share: float) -> tuple[float, float, float, float]:
    """A box, moved to the right by a share of its width."""
    by = share * (box[2] - box[0])
    return box[0] + by, box[1], box[2] + by, box[3]


TWO_LAYERS = predictions(
    # The dog is shifted (IoU 0.67), the small cat is missed, and a large cat is added.
    [(0, 0.9, moved(LARGE, 0.2)), (1, 0.8, MEDIUM), (1, 0.7, LARGE)],
    [(0, 0.9, LARGE), (1, 0.8, MEDIUM), (1, 0.7, SMALL), (2, 0.4, MEDIUM)],
)


def test_kept_and_added_are_counted_by_overlap_class_and_size() -> None:
    counts = count_picture("a.jpg", TWO_LAYERS, 0.5)
    dog, cat = Group("class", "dog"), Group("class", "<b>cat</b>")
    small, medium, large = (Group("size", name) for name in ("small", "medium", "large"))
    assert counts.reference == {EVERY: 3, dog: 1, cat: 2, small: 1, medium: 1, large: 1}
    assert counts.kept[EVERY].tolist() == [[2, 3], [1, 3]]
    assert counts.added[EVERY].tolist() == [[1, 0], [2, 0]]
    assert counts.kept[dog].tolist() == [[1, 1], [0, 1]]
    assert counts.kept[cat].tolist() == [[1, 2], [1, 2]]
    assert counts.added[cat].tolist() == [[1, 0], [1, 0]]
    assert counts.kept[small].tolist() == [[0, 1], [0, 1]]
    assert counts.added[large].tolist() == [[1, 0], [2, 0]]
    assert [[detection.label for detection in lost] for lost in counts.lost] == [["<b>cat</b>"], []]


def test_a_detection_is_kept_once() -> None:
    twice = predictions([(0, 0.9, LARGE)], [(0, 0.9, LARGE), (0, 0.8, LARGE)])
    assert count_picture("a", twice, 0.5).kept[EVERY].tolist() == [[1, 2], [1, 2]]


def test_an_interval_has_width_where_nothing_is_lost() -> None:
    """A bootstrap alone has none. With n of n kept, the exact lower end is 0.05 ** (1 / n)."""
    sums = resampled_sums(np.full((20, 1), 3))[:, 0]
    share = kept_share(60, 60, sums, sums)
    assert (share.value, share.high) == (1.0, 1.0)
    assert share.low == pytest.approx(0.05 ** (1 / 60))
    assert added_share(0, 60, 0 * sums, sums).high == pytest.approx(-np.log(0.05) / 60)


def test_an_interval_is_wider_where_one_picture_loses_all() -> None:
    """The same share: spread evenly, or lost in a few pictures alone."""
    reference = np.full(50, 10)
    even, few = np.full(50, 9), np.where(np.arange(50) < 5, 0, 10)
    widths = []
    for kept in (even, few):
        share = kept_shares(np.column_stack([kept, reference]), reference)[0]
        assert share.value == pytest.approx(0.9)
        assert share.low is not None
        assert share.high is not None
        widths.append(share.high - share.low)
    assert widths[1] > 2 * widths[0]


def test_a_share_of_nothing_is_no_number() -> None:
    share = kept_share(0, 0, np.zeros(1000), np.zeros(1000))
    assert share == Share(None, None, None)
    assert (str(share), share.short()) == ("-", "-")


def test_shares_are_written_in_percent() -> None:
    share = Share(0.969, 0.9322, 0.9836)
    assert (str(share), share.short()) == ("96.9% (93.2 to 98.4%)", "97 (93 to 98)")
    assert (str(Share(1, 1, 1)), Share(1, 1, 1).short()) == ("100.0%", "100")


def test_the_recommended_depth_keeps_enough_as_often_as_promised() -> None:
    """Samples of 60 pictures from a population whose first depth keeps just too little: at most
    one in 20 may say that it keeps enough."""
    generator = np.random.default_rng(3)
    reference = generator.poisson(3, 20_000) + 1
    kept = generator.binomial(reference, 0.89)
    assert kept.sum() / reference.sum() < 0.9
    wrong = 0
    for _ in range(300):
        chosen = generator.integers(20_000, size=60)
        both = np.column_stack([kept[chosen], reference[chosen]])
        shares = kept_shares(both, reference[chosen])
        wrong += recommend(shares, 0.9, int(reference[chosen].sum()), 60).layers == 1
    assert wrong <= 0.05 * 300


def choose(*lows_and_values: tuple[float, float, float], keep: float) -> tuple:
    shares = [Share(value, low, high) for low, value, high in lows_and_values]
    choice = recommend([*shares, Share(1, 1, 1)], keep, 1000, 400)
    return choice, sentences(choice, [*shares, Share(1, 1, 1)], "3.0 ms (6%) a picture")


def test_the_fewest_layers_that_are_shown_to_keep_enough_are_recommended() -> None:
    choice, words = choose((0.7, 0.8, 0.85), (0.985, 0.99, 1.0), (0.99, 0.995, 1.0), keep=0.98)
    assert (choice.layers, choice.undecided) == (2, ())
    assert words == (
        "Use 2 decoder layers of 4: this keeps 99.0% (90% interval 98.5 to 100.0%) of full "
        "depth's detections, at least 98% with 95% confidence (1,000 detections in 400 photos), "
        "and saves 3.0 ms (6%) a picture."
    )


def test_the_search_ends_at_the_first_depth_that_fails() -> None:
    choice, _ = choose((0.99, 0.99, 1.0), (0.97, 0.985, 0.99), (0.99, 0.99, 1.0), keep=0.98)
    assert choice.layers == 3
    assert choice.undecided == (2,)


def test_too_few_photos_are_said_to_be_too_few() -> None:
    choice, words = choose((0.94, 0.99, 1.0), keep=0.98)
    assert choice.layers == 2
    assert choice.has_too_few_pictures
    assert choice.pictures_needed > 400
    assert "Too few photos to recommend fewer than all 2 decoder layers" in words
    assert f"About {choice.pictures_needed:,} photos would decide" in words


def test_a_depth_below_the_tolerance_needs_an_unknown_number_of_photos() -> None:
    choice, words = choose((0.94, 0.97, 0.99), keep=0.98)
    assert choice.has_too_few_pictures
    assert choice.pictures_needed is None
    assert "More photos are needed" in words


def test_full_depth_is_recommended_where_less_is_shown_to_lose_too_much() -> None:
    choice, words = choose((0.9, 0.92, 0.95), keep=0.98)
    assert choice.layers == 2
    assert not choice.has_too_few_pictures
    assert words.startswith("Use all 2 decoder layers: 1 decoder layer keeps 92.0%")
    assert "less than 98%" in words


def test_a_checkpoint_of_one_layer_has_none_to_cut() -> None:
    assert "one decoder layer" in choose(keep=0.98)[1]


@pytest.mark.parametrize("keep", [0, -1, 101, float("nan")])
def test_a_tolerance_is_a_percentage(keep: float) -> None:
    with pytest.raises(BadInput, match="at most"):
        check_keep(keep)
    assert check_keep(98) == 0.98


@pytest.fixture
def study() -> DepthStudy:
    study = DepthStudy("test", 2, 0.5)
    study.add("quiet.jpg", predictions([(0, 0.9, LARGE)], [(0, 0.9, LARGE)]))
    study.add("=busy.jpg", TWO_LAYERS)
    study.add("empty.jpg", predictions([(0, 0.1, LARGE)], [(0, 0.1, LARGE)]))
    study.add_unreadable("bad.jpg", "bad.jpg is not a picture.")
    return study


LATENCY = Latency(
    "cpu", "PyTorch", "float32", (64, 64), 8, {}, (8.0, 10.0), (0.1, 0.1), (False,) * 2
)


def test_a_report_sums_over_pictures(study: DepthStudy) -> None:
    report = study.report(0.98, LATENCY)
    [first, full] = report.overall(0.5)
    assert (first.reference, first.kept, first.added) == (4, 3, 1)
    assert first.kept_share.value == 0.75
    assert (full.kept_share, full.added_share) == (Share(1, 1, 1), Share(0, 0, 0))
    assert report.overall(0.75)[0].kept == 2
    assert [(loss.picture, loss.words()) for loss in report.losses] == [
        ("=busy.jpg", "1 <b>cat</b>")
    ]
    assert report.saved_ms(1) == 2.0
    classes = [row.group for row in report.rows if row.kind == "class"]
    assert [name for name, _ in itertools.groupby(classes)] == ["<b>cat</b>", "dog"]


def test_json_and_csv_hold_the_same_numbers(study: DepthStudy) -> None:
    averages = [{"AP": 0.5, "AP50": None}, {"AP": 0.6, "AP50": 0.7}]
    report = study.report(0.98, LATENCY, averages, labelled=2)
    content = json.loads(json.dumps(report.to_json()))
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(rows) == len(content["depths"])
    for line, row in zip(rows, content["depths"], strict=True):
        assert (int(line["layers"]), int(line["kept"])) == (row["layers"], row["kept"])
        if row["reference"]:
            assert float(line["kept_low"]) == pytest.approx(row["kept_share"]["low"], abs=1e-4)
    assert {(line["layers"], line["ms"], line["AP"], line["AP50"]) for line in rows} == {
        ("1", "8.00", "0.5000", ""),
        ("2", "10.00", "0.6000", "0.7000"),
    }
    assert content["unreadable"] == [{"picture": "bad.jpg", "error": "bad.jpg is not a picture."}]
    assert content["losses"][0]["lost"][0]["label"] == "<b>cat</b>"


def test_csv_cells_are_no_formulas() -> None:
    study = DepthStudy("test", 1, 0.5)
    study.add("a", predictions([(2, 0.9, LARGE)]))
    assert "'=sum" in study.report(0.9).to_csv()


def test_the_html_report_needs_nothing_else_and_escapes_names(study: DepthStudy) -> None:
    opened = []

    def picture(name: str) -> Image.Image:
        opened.append(name)
        return Image.new("RGB", (400, 300))

    text = to_html(study.report(0.98, LATENCY), picture)
    assert opened == ["=busy.jpg"]
    assert text.count("src='data:image/jpeg;base64,") == 1
    assert "://" not in text
    assert "<b>cat</b>" not in text
    assert "&lt;b&gt;cat&lt;/b&gt;" in text
    assert "bad.jpg is not a picture." in text
    assert "PyTorch" in text


def test_a_picture_that_has_gone_is_left_out_of_the_html(study: DepthStudy) -> None:
    def gone(name: str) -> Image.Image:
        raise NotAPicture("It is gone.")

    text = to_html(study.report(0.98), gone)
    assert "=busy.jpg" in text
    assert "<img" not in text


def test_nothing_detected_and_nothing_read_are_sentences() -> None:
    study = DepthStudy("test", 1, 0.95)
    study.add_unreadable("bad.jpg", "bad.jpg is not a picture.")
    with pytest.raises(Unprocessable, match=r"^bad\.jpg is not a picture\.$"):
        study.report(0.98)
    study.add_unreadable("worse.jpg", "worse.jpg is not a picture.")
    with pytest.raises(Unprocessable, match=r"None of 2 pictures could be read\. bad\.jpg"):
        study.report(0.98)
    study.add("a", predictions([(0, 0.9, LARGE)]))
    with pytest.raises(Unprocessable, match=r"detects nothing above 0\.95 in 1 photos"):
        study.report(0.98)


def test_time_that_cannot_be_told_is_not_named() -> None:
    assert saved_in_words(LATENCY, 1) == "2.0 ms (20%) a picture on this machine"
    assert saved_in_words(LATENCY, 2) == ""
    assert saved_in_words(None, 1) == ""
    noisy = Latency("cpu", "PyTorch", "", (1, 1), 8, {}, (9.9, 10.0), (1.0, 1.0), (True, False))
    assert "less time than this measurement can tell" in saved_in_words(noisy, 1)
