"""Video files in and out: upright RGB frames with their times, and H.264 that browsers play."""

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np

from ..errors import BadInput, DiskFull, TooLarge
from .colors import Colors, ToRGB, to_coded
from .options import Limits
from .sound import COPIED, SoundEncoder, choose, is_default

# The containers that the page names. A playlist or a script names other files, and is not opened.
CONTAINERS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
    "protocol_whitelist": "file",
}

LEAD_IN = 0.1
"""Seconds of sound before the first picture that are a codec's lead-in."""

MAX_ASPECT = 16
"""Shape of a pixel, at most; files that state more are taken to have square ones."""


@dataclass(frozen=True)
class Frame:
    """One picture of a clip: uint8 RGB [height, width, 3], shown from `time` seconds on.

    Pixels are square and upright, and HDR is tone-mapped. `colors`: how to code them in the output.
    """

    index: int
    pts: int
    time: float
    pixels: np.ndarray
    colors: Colors = field(default_factory=Colors)


class Reader:
    """Opens a clip; iterating gives its frames, and its sound packets in between.

    Time begins at 0, whatever the file says. Sound of a codec that cannot be decoded is left out.
    """

    def __init__(self, path: Path, limits: Limits | None = None):
        """Raises BadInput or TooLarge, in a sentence, where the clip cannot be used."""
        self._limits = limits or Limits()
        try:
            self._container = av.open(str(path), container_options=CONTAINERS)
        except (av.FFmpegError, OSError, ValueError):
            raise BadInput(
                "This video format is not supported. Send an MP4, MOV, WebM, AVI or MKV."
            ) from None
        pictures = [
            stream
            for stream in self._container.streams.video
            if stream.codec_context is not None
            and not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not pictures:
            self.close()
            raise BadInput("This file has no video stream, only sound or data. Send a video.")
        self.video = min(pictures, key=lambda stream: not is_default(stream))
        self.video.thread_type = "AUTO"
        self.sound = choose(self._container.streams.audio)
        self.hdr = ""
        """"PQ" or "HLG" where the first frame was in HDR."""
        self._clock = _Clock(self.video, self._container.format.name == "avi")
        self._to_rgb = ToRGB()
        self._start = self._origin()
        self._check(*self._shown(self.video.width, self.video.height), self.seconds)

    @property
    def limits(self) -> Limits:
        return self._limits

    def _origin(self) -> Fraction:
        """The time, by the file's timestamps, that becomes 0: the earlier one of picture and sound.
        Sound that begins a moment before the picture is a codec's lead-in, and does not count."""
        starts = [
            float(stream.start_time * stream.time_base)
            for stream in (self.video, self.sound)
            if stream is not None and stream.start_time is not None and stream.time_base
        ]
        first = min(starts, default=0.0)
        if len(starts) == 2 and first < 0 and starts[0] - LEAD_IN <= first < starts[0]:
            first = starts[0]
        return Fraction(first).limit_denominator(90000)

    @property
    def seconds(self) -> float | None:
        """Length, where the file states it."""
        if self.video.duration and self.video.time_base:
            return float(self.video.duration * self.video.time_base)
        return self._container.duration / av.time_base if self._container.duration else None

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.video.average_rate or self.video.guessed_rate or Fraction(25)

    @property
    def frames(self) -> int | None:
        """Number of frames, as the file states it or as length and rate suggest."""
        if self.video.frames:
            return self.video.frames
        return round(self.seconds * float(self.rate)) if self.seconds else None

    def __iter__(self) -> Iterator[Frame | av.Packet]:
        streams: list[Any] = [self.video, *([self.sound] if self.sound else [])]
        index, last = 0, -1
        base = self.video.time_base or Fraction(1, 90000)
        start = round(self._start / base)
        try:
            for packet in self._container.demux(streams):
                if packet.stream is not self.video:
                    yield self._shifted(packet)
                    continue
                for frame in self._decode(packet):
                    # Some files repeat time stamps, which an encoder does not forgive.
                    pts = max(self._clock.pts(frame) - start, last + 1)
                    size = self._shown(frame.width, frame.height)
                    self._check(*size, float(pts * base))
                    colors = Colors.of(frame)
                    if index == 0:
                        self.hdr = colors.hdr
                    yield Frame(
                        index,
                        pts,
                        float(pts * base),
                        self._upright(frame, colors, size),
                        colors.coded(frame.format.is_rgb),
                    )
                    index, last = index + 1, pts
        except av.FFmpegError:
            # A file cut off half way: what came before is whole.
            pass
        if index == 0:
            raise BadInput("No frame of this video can be read: it is damaged or incomplete.")

    def _upright(self, frame: av.VideoFrame, colors: Colors, size: tuple[int, int]) -> np.ndarray:
        pixels = self._to_rgb.convert(frame, colors)
        if size != (frame.width, frame.height):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(np.rot90(pixels, self._turns(frame)))

    def _shown(self, width: int, height: int) -> tuple[int, int]:
        """Width and height with square pixels: the shorter side of a pixel is stretched."""
        aspect = self.video.sample_aspect_ratio
        if not aspect or aspect == 1 or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            return width, height
        if aspect > 1:
            return round(width * aspect), height
        return width, round(height / aspect)

    def _shifted(self, packet: av.Packet) -> av.Packet:
        if packet.time_base:
            start = round(self._start / packet.time_base)
            for name in ("pts", "dts"):
                if getattr(packet, name) is not None:
                    setattr(packet, name, getattr(packet, name) - start)
        return packet

    @staticmethod
    def _turns(frame: av.VideoFrame) -> int:
        """Quarter turns to the left that put a frame upright."""
        return round(frame.rotation / 90) % 4

    def _decode(self, packet: av.Packet) -> list[Any]:
        try:
            return list(packet.decode())
        except av.InvalidDataError:
            return []

    def _check(self, width: int, height: int, seconds: float | None) -> None:
        if width * height > self._limits.pixels:
            raise TooLarge(
                f"This video is {width} x {height}; the limit is {self._limits.pixels / 1e6:.1f} "
                "megapixels a frame. Make it smaller and send it again."
            )
        if seconds is not None and seconds > self._limits.seconds:
            raise TooLarge(
                f"This video is longer than {self._limits.seconds / 60:.0f} minutes, which is the "
                "limit here. Cut it and send the part that matters."
            )

    def close(self) -> None:
        self._container.close()
        if hasattr(self, "_to_rgb"):
            self._to_rgb.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Clock:
    """Timestamps of decoded frames, as FFmpeg's tools work them out.

    Where presentation times are wrong (repeated, or going back) more often than decoding times, the
    latter count. AVI has no presentation times; what the demuxer gives instead is a guess.
    """

    def __init__(self, stream: Any, decoding_times_only: bool):
        self._decoding_times_only = decoding_times_only
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        base = stream.time_base or Fraction(1, 90000)
        self._step = max(1, round(1 / (rate * base)))
        self._last = -self._step
        self._last_pts = self._last_dts = -(2**63)
        self._wrong_pts = self._wrong_dts = 0

    def pts(self, frame: av.VideoFrame) -> int:
        """When to show a frame, in the stream's time base."""
        pts, dts = None if self._decoding_times_only else frame.pts, frame.dts
        if dts is not None:
            self._wrong_dts += dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._wrong_pts += pts <= self._last_pts
            self._last_pts = pts
        if pts is not None and (self._wrong_pts <= self._wrong_dts or dts is None):
            self._last = pts
        else:
            self._last = self._last + self._step if dts is None else dts
        return self._last


class Writer:
    """Writes frames and sound to an MP4 that is playable however early it is closed.

    Raises DiskFull where the disk is full; nothing is written after that.
    """

    def __init__(self, path: Path, like: Reader):
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self._video = self._container.add_stream("libx264", rate=like.rate)
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"preset": "veryfast", "crf": "23"}
        # The clip's own clock, so that a variable frame rate keeps its timing.
        self._video.codec_context.time_base = like.video.time_base or Fraction(1, 90000)
        self._started = False
        self._failed = False
        self._colors = Colors()
        self._early: list[av.Packet] = []  # sound before the first picture
        self._sound: Any = None
        self._encoder: SoundEncoder | None = None
        if like.sound is not None:
            if like.sound.codec_context.name in COPIED:
                self._sound = self._container.add_stream_from_template(like.sound)
            else:
                self._sound = SoundEncoder.add_stream(self._container, like.sound)
                self._encoder = SoundEncoder(self._sound, like.limits.seconds)

    def picture(self, frame: Frame) -> None:
        """Encode a frame; odd sizes lose a row or column, which H.264 cannot hold."""
        height, width = (side // 2 * 2 for side in frame.pixels.shape[:2])
        pixels = frame.pixels[:height, :width]
        if not self._started:
            self._begin(width, height, frame.colors)
        elif (width, height) != (self._video.width, self._video.height):
            # A stream may change its size on the way, an MP4 of H.264 may not.
            pixels = cv2.resize(pixels, (self._video.width, self._video.height))
        coded = to_coded(pixels, self._colors)
        coded.pts, coded.time_base = frame.pts, self._video.codec_context.time_base
        self._mux(self._video.encode(coded))

    def _begin(self, width: int, height: int, colors: Colors) -> None:
        self._video.width, self._video.height = width, height
        self._colors = colors
        context = self._video.codec_context
        context.colorspace, context.color_range = colors.matrix, int(colors.scaler_range)
        context.color_primaries, context.color_trc = colors.primaries, colors.transfer
        self._started = True
        for packet in self._early:
            self.packet(packet)
        self._early.clear()

    def packet(self, packet: av.Packet) -> None:
        """Pass a packet of sound on."""
        if not self._started:
            # The file's head, which the first packet brings about, needs the picture's size.
            self._early.append(packet)
        elif self._encoder is not None:
            self._mux(self._encoder.encode(packet))
        elif packet.dts is not None:
            packet.stream = self._sound
            self._mux([packet])

    def close(self) -> None:
        """Finish the file, or let go of one that could not be written."""
        try:
            if self._started and not self._failed:
                self._mux(self._video.encode(None))
                if self._encoder is not None:
                    self._mux(self._encoder.finish())
        finally:
            if self._failed:
                with suppress(OSError):
                    self._container.close()
            else:
                self._write(self._container.close)

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._write(self._container.mux, packet)

    def _write(self, write: Callable[..., None], *arguments: object) -> None:
        # FFmpeg crashes where it is given more after it failed to write the head.
        if self._failed:
            return
        try:
            write(*arguments)
        except OSError as error:
            self._failed = True
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("The disk is full: free some space, then try again.") from None
            raise
        except BaseException:
            self._failed = True
            raise
