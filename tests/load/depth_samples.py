"""How often a recommended depth keeps its promise: `.venv/bin/python tests/load/depth_samples.py
IMAGES_DIR`.

Draws random samples of the photographs, takes the recommendation of each for several tolerances,
and counts how often the recommended depth keeps at least so much in all the other photographs. The
photographs are detected once; with `--cache` what each depth keeps of them is written to a file and
read from it next time. For comparison, the same with the bootstrap's interval alone, and with the
measured share instead of an interval.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tqdm import tqdm

from rtdetr_demo.batch.inputs import find_pictures, read
from rtdetr_demo.checkpoints.loading import load
from rtdetr_demo.evaluation.depth import DepthStudy
from rtdetr_demo.evaluation.depth_choice import kept_shares, recommend
from rtdetr_demo.evaluation.depth_counts import EVERY
from rtdetr_demo.evaluation.shares import CONFIDENCE, Share, resampled_sums
from rtdetr_demo.media.images import read_picture


def count(folder: str, checkpoint: str, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Detections that each depth keeps [pictures, depths], and those of full depth [pictures]."""
    detector = load(checkpoint)
    study = DepthStudy(checkpoint, detector.depth, threshold)
    for picture in tqdm(find_pictures([folder]), unit="photo"):
        study.add(picture.name, detector.detect(read_picture(read(picture.name))))
    kept = np.array([picture.kept[EVERY][0] for picture in study.counts])
    return kept, np.array([picture.reference[EVERY] for picture in study.counts])


def bootstrap_shares(kept: np.ndarray, reference: np.ndarray) -> list[Share]:
    """As `kept_shares`, with the bootstrap's interval alone."""
    sums = resampled_sums(np.column_stack([kept, reference]))
    shares = sums[:, :-1] / sums[:, -1:].clip(1)
    low, high = np.quantile(shares, [1 - CONFIDENCE, CONFIDENCE], axis=0)
    values = kept.sum(0) / reference.sum()
    return [Share(*map(float, numbers)) for numbers in zip(values, low, high, strict=True)]


def point_shares(kept: np.ndarray, reference: np.ndarray) -> list[Share]:
    """As `kept_shares`, without any interval."""
    return [
        Share(float(value), float(value), float(value)) for value in kept.sum(0) / reference.sum()
    ]


METHODS = {"": kept_shares, "bootstrap alone": bootstrap_shares, "share alone": point_shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="IMAGES_DIR")
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--keep", type=float, nargs="+", default=[90, 95, 98, 99])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--draws", type=int, default=1000, help="samples of each size (1000)")
    parser.add_argument("--cache", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    if options.cache and options.cache.is_file():
        kept, reference = map(np.array, json.loads(options.cache.read_text(encoding="utf-8")))
    else:
        kept, reference = count(options.folder, options.checkpoint, options.threshold)
        if options.cache:
            text = json.dumps([kept.tolist(), reference.tolist()])
            options.cache.write_text(text, encoding="utf-8")
    pictures, depth = kept.shape
    shares = " ".join(f"{100 * share:.1f}" for share in kept.sum(0) / reference.sum())
    print(f"{pictures} photos, {reference.sum()} detections; kept at each depth, %: {shares}")
    print("| photos | keep | holds | fewer layers | hold, of these | too few | layers | fewest |")
    print("|---|---|---|---|---|---|---|---|")
    generator, coverage = np.random.default_rng(0), []
    for size in options.sizes:
        samples = [generator.permutation(pictures) for _ in range(options.draws)]
        rest = np.array(
            [kept[order[size:]].sum(0) / reference[order[size:]].sum() for order in samples]
        )
        for method, estimate in METHODS.items():
            estimates = [estimate(kept[order[:size]], reference[order[:size]]) for order in samples]
            covered = [
                100
                * np.mean(
                    [
                        shares[k].low <= true[k] <= shares[k].high
                        for shares, true in zip(estimates, rest, strict=True)
                    ]
                )
                for k in range(depth - 1)
            ]
            coverage.append(f"{size} {method}: " + " ".join(f"{part:.1f}" for part in covered))
            for keep in options.keep:
                choices = [
                    recommend(shares, keep / 100, int(reference[order[:size]].sum()), size)
                    for order, shares in zip(samples, estimates, strict=True)
                ]
                layers = np.array([choice.layers for choice in choices])
                holds = rest[np.arange(len(rest)), layers - 1] >= keep / 100
                cut = layers < depth
                few = np.array([choice.has_too_few_pictures for choice in choices]) & ~cut
                fewest = 1 + (rest >= keep / 100).argmax(1)
                cut_holds = f"{100 * holds[cut].mean():.1f} %" if cut.any() else "-"
                print(
                    f"| {size} {method} | {keep:g} % | {100 * holds.mean():.1f} % | "
                    f"{100 * cut.mean():.1f} % | {cut_holds} | {100 * few.mean():.1f} % | "
                    f"{layers.mean():.2f} | {fewest.mean():.2f} |"
                )
    print(
        "Share of intervals that contain what the other photos keep, at each depth but the last, %:"
    )
    print("\n".join(coverage))


if __name__ == "__main__":
    main()
