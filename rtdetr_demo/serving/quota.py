"""How much of the disk visitors' files may take: in all, and each visitor's."""

from collections.abc import Sequence

OWN_SHARE = 0.25
"""Of what is kept for all visitors, how much may be one's."""


def past_quota(
    held: Sequence[tuple[str, float]], max_bytes: float, max_count: float = float("inf")
) -> list[int]:
    """Which of the things that are held must go, as indices in order.

    `held`: the owner and the bytes of each, oldest first. First go the oldest of each owner whose
    things take more than `OWN_SHARE` of `max_bytes`, or number more than that share of `max_count`,
    but never their newest; then everybody's oldest, until all together keep within both, but never
    the newest of all.
    """
    newest = {owner: index for index, (owner, _) in enumerate(held)}
    left = dict(enumerate(held))
    for index, (owner, _) in enumerate(held):
        own = [size for one, size in left.values() if one == owner]
        if index != newest[owner] and _is_past(own, OWN_SHARE * max_bytes, OWN_SHARE * max_count):
            del left[index]
    for index in list(left)[:-1]:
        if _is_past([size for _, size in left.values()], max_bytes, max_count):
            del left[index]
    return [index for index in range(len(held)) if index not in left]


def _is_past(sizes: Sequence[float], max_bytes: float, max_count: float) -> bool:
    return sum(sizes) > max_bytes or len(sizes) > max_count
