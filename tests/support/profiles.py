"""Color profiles (ICC) made for tests."""

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
_TO_D50 = np.array(
    [[1.0479, 0.0229, -0.0502], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7517]]
)
"""From the white D65 to D50 (Bradford)."""

DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))


def _number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_number, values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _srgb_curve() -> bytes:
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0\0\3\0\0" + b"".join(map(_number, parameters))


def _profile(
    space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ "
) -> bytes:
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 81
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": _xyz(D50), **tags}
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"none", 0x02400000, kind, space, pcs)
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(_number, D50)) + b"\0" * 48
    return head + table + data


def rgb_profile(chromaticities: tuple, gamma: float | None = 2.2) -> bytes:
    """A profile for RGB with the white D65; without `gamma`, with sRGB's curve."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in chromaticities]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    to_xyz = _TO_D50 @ (columns * np.linalg.solve(columns, white))
    curve = _srgb_curve() if gamma is None else _gamma(gamma)
    tags = {}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"], tags[name + b"TRC"] = _xyz(to_xyz[:, index]), curve
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """A profile for grey pictures."""
    return _profile(b"GRAY", {b"kTRC": _gamma(gamma)})


def cmyk_profile() -> bytes:
    """A printer's profile with a table of two steps an ink; its cyan is a deep violet."""
    steps = []
    for index in range(16):
        cyan, magenta, yellow, black = (index >> shift & 1 for shift in (3, 2, 1, 0))
        light = 100 - 55 * cyan - 35 * magenta - 8 * yellow
        lab = (light * (1 - black) + 5 * black, 40 * cyan + 60 * magenta, 70 * yellow - 80 * cyan)
        share = 1 - black
        steps += [
            round(lab[0] * 2.55), round(lab[1] * share / 2 + 128), round(lab[2] * share / 2 + 128)
        ]  # fmt: skip
    identity = bytes(range(256))
    matrix = b"".join(map(_number, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * identity
    table += bytes(min(max(step, 0), 255) for step in steps) + 3 * identity
    return _profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")
