"""Small clips, and what a player sees in one."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.support.paths import EXAMPLES


def make_clip(
    path: Path,
    frames: int = 20,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    sound: str | None = "aac",
    times: list[int] | None = None,
) -> Path:
    """A pan over a photograph, ten frames a second, with a tone; `times` in tenths of a second."""
    photo = Image.open(EXAMPLES / "musicians.jpg").convert("RGB").resize((400, 300))
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, 10)
        tone = container.add_stream(sound, rate=48000) if sound else None
        for number in range(frames):
            view = photo.crop((5 * number, 0, 5 * number + size[0], size[1]))
            frame = av.VideoFrame.from_image(view)
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(4800 * frames) / 20).astype(np.float32)[None]
            step = 960
            for at in range(0, wave.shape[1] - step + 1, step):
                heard = av.AudioFrame.from_ndarray(wave[:, at : at + step], "fltp", "mono")
                heard.sample_rate, heard.pts = 48000, at
                heard.time_base = Fraction(1, 48000)
                container.mux(tone.encode(heard))
            container.mux(tone.encode(None))
    return path


def look(path: Path) -> dict:
    """What a player would see in a file."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = [
            (float(frame.pts * frame.time_base), frame.width, frame.height)
            for frame in container.decode(video)
        ]
        seen = {
            "codec": video.codec_context.name,
            "pixels": video.pix_fmt,
            "sound": [stream.codec_context.name for stream in container.streams.audio],
            "times": [time for time, _, _ in frames],
            "size": frames[0][1:],
        }
    with av.open(str(path)) as container:
        heard = (
            [f.samples / f.sample_rate for f in container.decode(audio=0)] if seen["sound"] else []
        )
    return {**seen, "seconds_of_sound": sum(heard)}
