"""Which depth keeps enough: the recommendation that follows from counts over pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .shares import (
    CONFIDENCE,
    NOTHING,
    WHOLE,
    Share,
    kept_at_least,
    kept_share,
    percent,
    resampled_sums,
)

MANY = 10_000
"""Pictures past which no number of them is suggested."""


@dataclass(frozen=True)
class Recommendation:
    """The fewest layers that are shown to keep enough.

    Attributes:
        layers: The recommended depth. Full depth where fewer layers are not shown to keep enough.
        keep: The tolerance: share of full depth's detections to keep, from 0 to 1.
        kept: Share that the recommended depth keeps, with its interval.
        undecided: Depths below `layers` whose intervals contain `keep`: more pictures would decide.
        pictures: Pictures that the recommendation rests on.
        detections: Their detections at full depth.
        pictures_needed: Pictures after which the deepest undecided depth is expected to be shown
            to keep enough, if its share stays as it is; None where no number can be named.
    """

    layers: int
    keep: float
    kept: Share
    undecided: tuple[int, ...]
    pictures: int
    detections: int
    pictures_needed: int | None

    @property
    def has_too_few_pictures(self) -> bool:
        """Whether the number of pictures, and not what was measured, rules out the next depth."""
        return self.layers - 1 in self.undecided


def check_keep(keep: float) -> float:
    """Give a tolerance in percent back as a share. Raises BadInput unless it is over 0 and at most
    100."""
    if not 0 < keep <= 100:
        raise BadInput("The share to keep is a percentage over 0, and at most 100.")
    return keep / 100


def kept_shares(kept: np.ndarray, reference: np.ndarray) -> list[Share]:
    """The share that each depth keeps.

    Args:
        kept: [pictures, depths], detections of full depth that each depth keeps.
        reference: [pictures], detections of full depth.
    """
    sums = resampled_sums(np.column_stack([kept, reference]))
    totals, everything = kept.sum(axis=0), int(reference.sum())
    cut = [
        kept_share(int(totals[k]), everything, sums[:, k], sums[:, -1])
        for k in range(kept.shape[1] - 1)
    ]
    return [*cut, WHOLE if everything else NOTHING]


def recommend(
    shares: Sequence[Share], keep: float, detections: int, pictures: int
) -> Recommendation:
    """Choose the fewest layers that are shown to keep at least a share.

    Depths are tested one after the other from full depth down, and the first one that fails ends
    the search. So the probability that the recommended depth keeps less is at most that of one
    test, 1 - CONFIDENCE, however many depths there are.

    Args:
        shares: What each depth keeps; index 0 is one layer.
        keep: Share of full depth's detections to keep, from 0 to 1.
        detections: Number of detections at full depth.
        pictures: Number of pictures.
    """
    layers = len(shares)
    while layers > 1 and _low(shares[layers - 2]) >= keep:
        layers -= 1
    undecided = tuple(
        k for k in range(1, layers) if _low(shares[k - 1]) < keep <= _high(shares[k - 1])
    )
    needed = None
    if layers - 1 in undecided:
        needed = _pictures_needed(shares[layers - 2].value or 0.0, keep, detections, pictures)
    return Recommendation(layers, keep, shares[layers - 1], undecided, pictures, detections, needed)


def _low(share: Share) -> float:
    return 0.0 if share.low is None else share.low


def _high(share: Share) -> float:
    return 1.0 if share.high is None else share.high


def _pictures_needed(share: float, keep: float, detections: int, pictures: int) -> int | None:
    if share <= keep or not detections:
        return None
    factor = 1.0
    while kept_at_least(share * detections * factor, detections * factor) < keep:
        factor *= 1.1
        if factor * pictures > MANY:
            return None
    # One digit is all that such an extrapolation is worth, rounded up.
    exact = max(int(np.ceil(factor * pictures)), pictures + 1)
    step = 10 ** (len(str(exact)) - 1)
    return -(-exact // step) * step


def sentences(choice: Recommendation, shares: Sequence[Share], saved: str = "") -> str:
    """The recommendation in words.

    Args:
        choice: What `recommend` gives for `shares`.
        shares: What each depth keeps.
        saved: The time that the recommended depth saves, such as "2.3 ms (6%) a picture"; empty
            where it was not measured or nothing is saved.
    """
    depth, keep = len(shares), _percentage(choice.keep)
    basis = f"{choice.detections:,} detections in {choice.pictures:,} photos"
    next_layers = choice.layers - 1
    if depth == 1:
        return "This checkpoint has one decoder layer, so there is none to cut."
    if choice.layers < depth:
        words = (
            f"Use {layers_in_words(choice.layers)} of {depth}: this keeps "
            f"{_interval(choice.kept)} of full depth's detections, at least {keep} with "
            f"{_percentage(CONFIDENCE)} confidence ({basis})"
        )
        words += f", and saves {saved}." if saved else "."
        if next_layers in choice.undecided:
            words += f" {_more(choice, next_layers)}"
        return words
    measured = f"{layers_in_words(next_layers)} keep{'s' if next_layers == 1 else ''} "
    measured += _interval(shares[next_layers - 1])
    if choice.has_too_few_pictures:
        return (
            f"Too few photos to recommend fewer than all {depth} decoder layers: {measured} of "
            f"full depth's detections ({basis}), which does not show whether it is at least "
            f"{keep}. {_more(choice, next_layers)}"
        )
    return (
        f"Use all {depth} decoder layers: {measured} of full depth's detections, less than {keep} "
        f"({basis})."
    )


def _more(choice: Recommendation, layers: int) -> str:
    if choice.pictures_needed is None:
        return f"More photos are needed to decide about {layers_in_words(layers)}."
    return (
        f"About {choice.pictures_needed:,} photos would decide about {layers_in_words(layers)}, "
        "if the share stays the same."
    )


def layers_in_words(count: int) -> str:
    """A number of layers, such as "1 decoder layer"."""
    return f"{count} decoder layer{'' if count == 1 else 's'}"


def _percentage(share: float) -> str:
    return f"{100 * share:.4g}%"


def _interval(share: Share) -> str:
    assert share.value is not None
    assert share.low is not None
    assert share.high is not None
    low, high = f"{100 * share.low:.1f}", percent(share.high)
    return f"{percent(share.value)} (90% interval {low} to {high})"
