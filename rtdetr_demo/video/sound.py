"""Sound of a clip: the track to keep, and its way into an MP4 with its times."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np

COPIED = ("aac", "mp3")
"""Codecs that go into an MP4 as they are; others become AAC."""

AAC_RATES = (48000, 44100, 32000)
"""Sample rates that are kept; others become the first. At lower ones an AAC frame, which the end of
the sound is rounded to, lasts longer than 40 ms."""

TOLERANCE = 0.02
"""Seconds by which a timestamp may differ from the samples before it until they are moved."""

LONGEST_JUMP = 1.0
"""Seconds. Timestamps that go back further begin anew, as in clips that were joined."""


def choose(streams: Any) -> Any | None:
    """The default track of those that can be decoded, else the first; None where there is none."""
    decodable = [stream for stream in streams if _is_decodable(stream)]
    return min(decodable, key=lambda stream: not is_default(stream), default=None)


def is_default(stream: Any) -> bool:
    """Whether the file marks a stream as the one to play."""
    return bool(stream.disposition & av.stream.Disposition.default)


def _is_decodable(stream: Any) -> bool:
    try:
        return bool(stream.codec_context.name and stream.codec_context.sample_rate)
    except (AttributeError, ValueError, av.FFmpegError):
        return False  # a codec that FFmpeg has no name or no decoder for


class SoundEncoder:
    """Decodes packets and encodes them as stereo AAC at the same times.

    Holes in the source become silence, and what overlaps is cut, to within `TOLERANCE`.
    """

    def __init__(self, stream: Any, longest: float):
        """
        Args:
            stream: AAC stream of the output; its rate is one of `AAC_RATES`.
            longest: Seconds; a timestamp past these is not believed.
        """
        self._stream = stream
        self._rate: int = stream.codec_context.sample_rate
        self._longest = longest
        self._resampler = self._new_resampler()
        self._position: int | None = None
        """Samples from the clip's start to the next one that is written."""
        self._shift = 0

    @staticmethod
    def add_stream(container: Any, source: Any) -> Any:
        """Add the output's stream for the sound of `source`."""
        rate = source.codec_context.sample_rate
        return container.add_stream("aac", rate=rate if rate in AAC_RATES else AAC_RATES[0])

    def encode(self, packet: av.Packet) -> Iterator[av.Packet]:
        """The packets to write for a packet of the source."""
        decoded: list[Any] = []
        with suppress(av.InvalidDataError):  # a damaged piece of sound is silence
            decoded = list(packet.decode())
        for frame in decoded:
            yield from self._encode(frame)

    def finish(self) -> Iterator[av.Packet]:
        """The packets that are left at the end."""
        for frame in self._resampler.resample(None):
            yield from self._write(frame.to_ndarray())
        yield from self._stream.encode(None)

    def _encode(self, frame: Any) -> Iterator[av.Packet]:
        start = None
        if frame.pts is not None and frame.time_base:
            start = round(frame.pts * Fraction(frame.time_base) * self._rate)
        frame.pts = None
        try:
            resampled = self._resampler.resample(frame)
        except ValueError:  # the rate or the layout has changed
            for rest in self._resampler.resample(None):
                yield from self._write(rest.to_ndarray())
            self._resampler = self._new_resampler()
            resampled = self._resampler.resample(frame)
        for part in resampled:
            samples = part.to_ndarray()
            if start is not None:
                samples, silence = self._fitted(samples, start)
                yield from self._silence(silence)
                start = None
            yield from self._write(samples)

    def _fitted(self, samples: np.ndarray, start: int) -> tuple[np.ndarray, int]:
        """Samples without what was written before, and how many of silence stand before them."""
        if not 0 <= (start + self._shift) / self._rate <= self._longest and start > 0:
            return samples, 0
        if self._position is None:
            self._position = max(start, 0)
            return samples[:, max(-start, 0) :], 0
        gap = start + self._shift - self._position
        if gap < -LONGEST_JUMP * self._rate:
            self._shift -= gap
            return samples, 0
        if gap > TOLERANCE * self._rate:
            return samples, gap
        if gap < -TOLERANCE * self._rate:
            return samples[:, -gap:], 0
        return samples, 0

    def _silence(self, count: int) -> Iterator[av.Packet]:
        while count > 0:
            length = min(count, self._rate)
            yield from self._write(np.zeros((2, length), np.float32))
            count -= length

    def _write(self, samples: np.ndarray) -> Iterator[av.Packet]:
        if not samples.shape[1]:
            return
        position = self._position or 0
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", "stereo")
        frame.sample_rate, frame.pts = self._rate, position
        frame.time_base = Fraction(1, self._rate)
        self._position = position + samples.shape[1]
        yield from self._stream.encode(frame)

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler("fltp", "stereo", self._rate)
