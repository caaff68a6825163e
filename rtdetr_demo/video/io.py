"""Video files in and out: upright RGB frames with their times, and H.264 that browsers play."""

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from ..errors import BadInput, DiskFull, TooLarge
from .options import Limits

COPIED_SOUND = ("aac", "mp3")
"""Sound codecs that go into an MP4 as they are; others become AAC."""

AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

# The containers that the page names. A playlist or a script names other files, and is not opened.
CONTAINERS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
    "protocol_whitelist": "file",
}


@dataclass(frozen=True)
class Frame:
    """One picture of a clip: uint8 RGB [height, width, 3], shown from `time` seconds on."""

    index: int
    pts: int
    time: float
    pixels: np.ndarray


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
                "This file is no video that can be opened here. Send an MP4, MOV, WebM, AVI or MKV."
            ) from None
        pictures = [one for one in self._container.streams.video if one.codec_context is not None]
        if not pictures:
            self.close()
            raise BadInput("This file has no pictures in it, only sound or data. Send a video.")
        self.video = pictures[0]
        self.video.thread_type = "AUTO"
        heard = [one for one in self._container.streams.audio if _is_decodable(one)]
        self.sound = heard[0] if heard else None
        starts = [
            float(one.start_time * one.time_base)
            for one in (self.video, self.sound)
            if one is not None and one.start_time is not None and one.time_base
        ]
        self._start = Fraction(min(starts, default=0.0)).limit_denominator(90000)
        self._check(self.video.width, self.video.height, self.seconds)

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
                    # Some files repeat or lack time stamps, which an encoder does not forgive.
                    pts = last + 1 if frame.pts is None else max(frame.pts - start, last + 1)
                    self._check(frame.width, frame.height, float(pts * base))
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), self._turns(frame))
                    yield Frame(index, pts, float(pts * base), np.ascontiguousarray(pixels))
                    index, last = index + 1, pts
        except av.FFmpegError:
            # A file cut off half way: what came before is whole.
            pass
        if index == 0:
            raise BadInput("Not one picture of this video can be read: it is damaged or cut off.")

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_decodable(stream: Any) -> bool:
    try:
        return bool(stream.codec_context.name and stream.codec_context.sample_rate)
    except (AttributeError, ValueError, av.FFmpegError):
        return False  # a codec that FFmpeg has no name or no decoder for


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
        self._early: list[av.Packet] = []  # sound before the first picture
        self._sound: Any = None
        self._resampler: av.AudioResampler | None = None
        self._copied = False
        if like.sound is not None:
            self._copied = like.sound.codec_context.name in COPIED_SOUND
            if self._copied:
                self._sound = self._container.add_stream_from_template(like.sound)
            else:
                given = like.sound.codec_context.sample_rate
                rate = given if given in AAC_RATES else AAC_RATES[0]
                self._sound = self._container.add_stream("aac", rate=rate)
                self._resampler = av.AudioResampler("fltp", "stereo", rate)

    def picture(self, frame: Frame) -> None:
        """Encode a frame; odd sizes lose a row or column, which H.264 cannot hold."""
        height, width = (side // 2 * 2 for side in frame.pixels.shape[:2])
        if not self._started:
            self._video.width, self._video.height = width, height
            self._started = True
            for packet in self._early:
                self.packet(packet)
            self._early.clear()
        coded = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame.pixels[:height, :width]), format="rgb24"
        )
        coded.pts, coded.time_base = frame.pts, self._video.codec_context.time_base
        self._mux(self._video.encode(coded))

    def packet(self, packet: av.Packet) -> None:
        """Pass a packet of sound on."""
        if not self._started:
            # The file's head, which the first packet brings about, needs the picture's size.
            self._early.append(packet)
            return
        if packet.dts is None:
            return
        if self._resampler is None:
            packet.stream = self._sound
            self._mux([packet])
            return
        with suppress(av.InvalidDataError):  # a damaged piece of sound is silence
            for heard in packet.decode():
                assert isinstance(heard, av.AudioFrame)
                heard.pts = None
                for even in self._resampler.resample(heard):
                    self._mux(self._sound.encode(even))

    def close(self) -> None:
        """Finish the file, or let go of one that could not be written."""
        try:
            if self._started and not self._failed:
                self._mux(self._video.encode(None))
                if self._resampler is not None:
                    for even in self._resampler.resample(None):
                        self._mux(self._sound.encode(even))
                    self._mux(self._sound.encode(None))
        finally:
            if self._failed:
                with suppress(OSError):
                    self._container.close()
            else:
                self._write(self._container.close)

    def _mux(self, packets: list[Any]) -> None:
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
