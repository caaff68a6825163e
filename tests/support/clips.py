"""Small clips, and what a player sees in one."""

import json
import shutil
import subprocess
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.predictions import Predictions, Timing
from rtdetr_demo.video.options import Limits, Options, Summary
from rtdetr_demo.video.pipeline import annotate_clip
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


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg; its output file is the last argument. Skips the test where there is none."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def probe(path: Path, stream: str, entries: str) -> dict:
    """What ffprobe says of a stream ("v:0", "a:0"), by name."""
    command = ["ffprobe", "-v", "error", "-select_streams", stream, "-of", "json"]
    output = subprocess.run(
        [*command, "-show_entries", f"stream={entries}", str(path)], check=True, capture_output=True
    ).stdout
    return json.loads(output)["streams"][0]


def frame_times(path: Path) -> list[float]:
    """When each frame is shown, in seconds, as ffprobe reports it.

    It has no time for the last frames of an AVI: these follow at the clip's rate.
    """
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "csv=p=0"]
    output = subprocess.run(
        [*command, "-show_entries", "frame=best_effort_timestamp_time", str(path)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    times: list[float] = []
    step = 1 / Fraction(probe(path, "v:0", "avg_frame_rate")["avg_frame_rate"])
    for line in output.split():
        time = line.strip(",")
        times.append(times[-1] + float(step) if time == "N/A" else float(time))
    return times


def decoded(path: Path) -> np.ndarray:
    """The first frame as ffmpeg converts it to RGB: uint8 [height, width, 3]."""
    stream = probe(path, "v:0", "width,height")
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], check=True, capture_output=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(stream["height"], stream["width"], 3)


def annotate(source: Path, folder: Path, **options: Any) -> tuple[Path, Summary]:
    """The annotated clip of a detector that finds nothing, so that only the clip's own pixels,
    times and sound are in it."""

    def nothing(frames: list[np.ndarray]) -> list[Predictions]:
        empty = np.zeros((1, 1))
        return [
            Predictions(
                "", ("dog",), frame.shape[1], frame.shape[0], empty, empty, empty,
                np.zeros((1, 1, 4)), Timing(0, 0, 0),
            )
            for frame in frames
        ]  # fmt: skip

    folder.mkdir(exist_ok=True)
    summary = annotate_clip(
        source, folder, ("dog",), nothing, 1, Options(**options), lambda _: None,
        threading.Event(), Limits(),
    )  # fmt: skip
    return folder / "annotated.mp4", summary
