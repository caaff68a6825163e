"""How sure a share is that was counted over pictures.

Detections of one picture are not independent of each other, so pictures are resampled (bootstrap).
A bootstrap alone is too narrow where few detections are lost: with none lost, it has no width at
all. So the interval is, on each side, the wider one of the bootstrap's and of the exact interval
that holds for independent detections.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, gammaincinv

CONFIDENCE = 0.95
"""Probability that the true share is above the lower end of an interval; the same holds for its
upper end, so an interval covers 90%."""

RESAMPLES = 1000
"""Bootstrap samples."""

_BLOCK = 100


@dataclass(frozen=True)
class Share:
    """A share with its interval.

    Attributes:
        value: The share; None where nothing was counted.
        low: Lower end of the 90% interval; None where `value` is.
        high: Upper end of the 90% interval; None where `value` is.
    """

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """In percent, such as "96.9% (93.2 to 98.4%)"."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        if self.low == self.high:
            return percent(self.value)
        return f"{percent(self.value)} ({100 * self.low:.1f} to {percent(self.high)})"

    def short(self) -> str:
        """The same in whole percent without the sign, such as "97 (93 to 98)"."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        if self.low == self.high:
            return f"{100 * self.value:.0f}"
        return f"{100 * self.value:.0f} ({100 * self.low:.0f} to {100 * self.high:.0f})"


WHOLE = Share(1.0, 1.0, 1.0)
"""What full depth keeps of its own detections."""

NONE = Share(0.0, 0.0, 0.0)
"""What full depth adds to its own detections."""

NOTHING = Share(None, None, None)
"""The share of nothing."""


def percent(share: float) -> str:
    """A share in percent with one decimal, such as "96.9%"."""
    return f"{100 * share:.1f}%"


def resampled_sums(counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Sums of counts over bootstrap samples of the pictures.

    Args:
        counts: [pictures, columns].
        seed: Of the random numbers; the same seed gives the same samples.

    Returns:
        [RESAMPLES, columns].
    """
    pictures = len(counts)
    generator = np.random.default_rng(seed)
    even = np.full(pictures, 1 / pictures)
    values = counts.astype(np.float64)
    return np.concatenate(
        [
            generator.multinomial(pictures, even, _BLOCK).astype(np.float64) @ values
            for _ in range(RESAMPLES // _BLOCK)
        ]
    )


def kept_share(
    kept: int, reference: int, kept_sums: np.ndarray, reference_sums: np.ndarray
) -> Share:
    """The share of the reference that is kept, from 0 to 1.

    Args:
        kept: Detections that are kept, of all pictures.
        reference: Detections of the reference, of all pictures.
        kept_sums: [RESAMPLES], what `resampled_sums` gives for the kept detections.
        reference_sums: [RESAMPLES], the same for the reference.
    """
    if not reference:
        return NOTHING
    low, high = _bootstrap(kept_sums, reference_sums)
    return Share(
        kept / reference,
        min(low, kept_at_least(kept, reference)),
        max(high, 1 - kept_at_least(reference - kept, reference)),
    )


def kept_at_least(kept: float, reference: float) -> float:
    """Lower end of the exact (Clopper-Pearson) interval of a share of independent detections."""
    return float(betaincinv(kept, reference - kept + 1, 1 - CONFIDENCE)) if kept else 0.0


def added_share(
    added: int, reference: int, added_sums: np.ndarray, reference_sums: np.ndarray
) -> Share:
    """Added detections for each one of the reference, from 0 up; arguments as in `kept_share`."""
    if not reference:
        return NOTHING
    low, high = _bootstrap(added_sums, reference_sums)
    # Garwood's interval of a Poisson count.
    least = float(gammaincinv(added, 1 - CONFIDENCE)) if added else 0.0
    most = float(gammaincinv(added + 1, CONFIDENCE))
    return Share(added / reference, min(low, least / reference), max(high, most / reference))


def _bootstrap(numerators: np.ndarray, denominators: np.ndarray) -> tuple[float, float]:
    counted = denominators > 0
    shares = numerators[counted] / denominators[counted]
    low, high = np.quantile(shares, [1 - CONFIDENCE, CONFIDENCE])
    return float(low), float(high)
