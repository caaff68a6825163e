"""Color spaces of clips: from a decoded frame to RGB and back, and HDR to SDR.

The numbers are those of ITU-T H.273, which FFmpeg uses for its `AVCOL_*` constants as well.
"""

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from ..errors import BadInput

UNSPECIFIED = 2
BT709 = 1
PQ, HLG = 16, 18
HDR_NAMES = {PQ: "PQ", HLG: "HLG"}

HD_HEIGHT = 720
"""Lines from which on a clip that does not state its matrix counts as BT.709, as in browsers."""

_MATRICES = {
    BT709: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""H.273 matrices that can be converted, as the scaler's constants."""

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Within 2 of 255 there and back; the scaler's default errs by up to 4."""

_CHROMATICITIES = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x and y of red, green and blue by H.273 primaries; all with the white point D65."""
_D65 = (0.3127, 0.3290)

_LUT_SIZE = 65
_REFERENCE_WHITE = 203.0
"""Luminance of diffuse white in HDR, in cd/m2 (ITU-R BT.2408)."""
_PEAK = 1000.0


@dataclass(frozen=True)
class Colors:
    """How the numbers of a coded frame become colors: H.273 matrix, primaries and transfer, and
    whether the full range is used."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool = False
    height: int = 0
    """Lines of the coded frame; decides what an unspecified matrix stands for."""

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Colors":
        """The colors of a decoded frame. Raises BadInput for a matrix that cannot be converted."""
        if frame.format.is_rgb or frame.format.name.startswith(("pal8", "gray", "mono")):
            full = frame.format.is_rgb or frame.color_range == ColorRange.JPEG
            # H.264 with 4:2:0 samples needs a matrix; RGB has none of its own.
            return cls(BT709, frame.color_primaries, frame.color_trc, full, frame.height)
        if frame.colorspace not in (*_MATRICES, UNSPECIFIED):
            raise BadInput(
                f"This video codes its colors in a way that cannot be converted here (matrix "
                f"{frame.colorspace} of H.273). Save it with BT.709 and send that."
            )
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        return cls(frame.colorspace, frame.color_primaries, frame.color_trc, full, frame.height)

    @property
    def hdr(self) -> str:
        """ "PQ" or "HLG"; empty for SDR."""
        return HDR_NAMES.get(self.transfer, "")

    @property
    def scaler_matrix(self) -> Colorspace:
        if self.matrix == UNSPECIFIED:
            return Colorspace.ITU709 if self.height >= HD_HEIGHT else Colorspace.ITU601
        return _MATRICES[self.matrix]

    @property
    def scaler_range(self) -> ColorRange:
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    def coded(self, is_rgb: bool) -> "Colors":
        """The colors of the annotated clip: these, but BT.709 for HDR, which is tone-mapped."""
        if self.hdr:
            return Colors(BT709, BT709, BT709, False, self.height)
        return Colors(
            self.matrix, self.primaries, self.transfer, self.full_range and not is_rgb, self.height
        )


class ToRGB:
    """Converts decoded frames to uint8 RGB. HDR is tone-mapped to sRGB.

    The tone curve is that of SMPTE ST 2094-50's reference-white operator, which Chromium uses on
    SDR screens: 203 cd/m2 becomes half of the screen's white, 1000 cd/m2 all of it.
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple, av.filter.Graph] = {}
        self._folder: tempfile.TemporaryDirectory | None = None

    def convert(self, frame: av.VideoFrame, colors: Colors) -> np.ndarray:
        """uint8 RGB [height, width, 3]."""
        if colors.hdr:
            return self._tone_mapped(frame, colors)
        return self._reformatted(frame, colors, "rgb24").to_ndarray()

    @staticmethod
    def _reformatted(frame: av.VideoFrame, colors: Colors, form: str) -> av.VideoFrame:
        return frame.reformat(
            format=form,
            src_colorspace=colors.scaler_matrix,
            src_color_range=colors.scaler_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        )

    def _tone_mapped(self, frame: av.VideoFrame, colors: Colors) -> np.ndarray:
        deep = self._reformatted(frame, colors, "rgb48le")
        key = (deep.width, deep.height, colors.transfer, colors.primaries)
        graph = self._graphs.get(key)
        if graph is None:
            self._graphs.clear()
            graph = self._graphs[key] = self._graph(deep, colors)
        # The numbers are final: no filter may take the source's tags for a reason to convert.
        plain = av.VideoFrame.from_ndarray(deep.to_ndarray(), format="rgb48le")
        plain.pts = 0
        graph.vpush(plain)
        mapped = graph.vpull().to_ndarray()
        return ((mapped.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)

    def _graph(self, deep: av.VideoFrame, colors: Colors) -> av.filter.Graph:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hdr-")
        cube = Path(self._folder.name) / f"{colors.transfer}-{colors.primaries}.cube"
        write_cube(cube, colors)
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=deep.width, height=deep.height, format=deep.format, time_base=Fraction(1, 25)
        )
        lut = graph.add("lut3d", f"file={cube}:interp=tetrahedral")
        sink = graph.add("buffersink")
        source.link_to(lut)
        lut.link_to(sink)
        graph.configure()
        return graph

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def to_coded(pixels: np.ndarray, colors: Colors) -> av.VideoFrame:
    """RGB pixels as a yuv420p frame in these colors, tagged with them."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=colors.scaler_matrix,
        dst_color_range=colors.scaler_range,
        interpolation=_EXACT,
    )
    frame.colorspace, frame.color_range = colors.matrix, int(colors.scaler_range)
    frame.color_primaries, frame.color_trc = colors.primaries, colors.transfer
    return frame


def write_cube(path: Path, colors: Colors) -> None:
    """A 3D lookup table (.cube) from HDR code values to sRGB."""
    steps = np.linspace(0, 1, _LUT_SIZE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red runs fastest
    codes = np.stack([red, green, blue], -1).reshape(-1, 3)
    np.savetxt(
        path, tone_map(codes, colors), "%.6f", header=f"LUT_3D_SIZE {_LUT_SIZE}", comments=""
    )


def tone_map(codes: np.ndarray, colors: Colors) -> np.ndarray:
    """HDR code values, 0 to 1 [..., 3], as sRGB values, 0 to 1."""
    light = (_pq_light(codes) if colors.transfer == PQ else _hlg_light(codes)) / _REFERENCE_WHITE
    brightest = light.max(-1, keepdims=True)
    light = light * (_curve(brightest) / np.maximum(brightest, 1e-9))
    primaries = colors.primaries if colors.primaries in _CHROMATICITIES else 9
    light = light @ (np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)).T
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _pq_light(codes: np.ndarray) -> np.ndarray:
    """cd/m2 of PQ code values (SMPTE ST 2084)."""
    root = codes ** (1 / 78.84375)
    share = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    return 1e4 * share ** (1 / 0.1593017578125)


def _hlg_light(codes: np.ndarray) -> np.ndarray:
    """cd/m2 of HLG code values on a screen of 1000 cd/m2 (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _PEAK * scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2


def _curve(light: np.ndarray) -> np.ndarray:
    """Tone curve, both axes as shares of their white: a straight line of slope 1/2 up to diffuse
    white, then a quadratic Bezier curve to the peak."""
    peak, knee, white, kappa = _PEAK / _REFERENCE_WHITE, 1.0, 0.5, 0.65
    time = np.linspace(0, 1, 1025)
    middle = (1 - kappa) * knee + kappa * knee / white, (1 - kappa) * white + kappa
    x, y = (
        (1 - time) ** 2 * first + 2 * time * (1 - time) * second + time**2 * third
        for first, second, third in ((knee, middle[0], peak), (white, middle[1], 1.0))
    )
    return np.where(light <= knee, white * light, np.interp(light, x, y))


def _to_xyz(primaries: int) -> np.ndarray:
    """Linear RGB with these primaries to XYZ, [3, 3]."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))
