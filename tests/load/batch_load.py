"""Many pictures without Ray and with it: `.venv/bin/python tests/load/batch_load.py`.

Turns alternate, as the machine's speed changes while it is shared. A rate is taken between the
first and the last rows that a run writes, so that starting (told apart) does not count. Then comes
one long run of each kind, killed with SIGKILL half way and resumed, with the memory on the way.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from PIL import Image, ImageOps
from pyarrow import parquet

from tests.support.journals import rows_in_journal
from tests.support.paths import EXAMPLES, REPO
from tests.support.processes import descendants


def album(folder: Path, count: int) -> Path:
    """`count` JPEGs of 640x480."""
    folder.mkdir()
    photos = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]
    for number in range(count):
        photo = ImageOps.fit(photos[number % len(photos)], (640, 480))
        photo.rotate(number // len(photos) % 4).save(folder / f"{number:05}.jpg", quality=85)
    return folder


class Run:
    """One `detect` in a process of its own."""

    def __init__(self, pictures: Path, out: Path, part_size: int, *more: str):
        """`part_size`: pictures of a part on Ray; 0: without Ray."""
        self.out, self.part_size = out, part_size
        extra = ["--ray", "--part-size", str(part_size)] if part_size else []
        self.began = time.monotonic()
        self.marks: list[tuple[float, int]] = []
        self.memory: list[float] = []
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "rtdetr_demo", "detect", str(pictures), "--out", str(out),
                "--checkpoint", "bundled", *extra, *more,
            ],
            cwd=REPO, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "RAY_TMPDIR": "/tmp", "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    @property
    def done(self) -> int:
        if self.part_size:
            return self.part_size * len(list(self.out.glob("part-*"))) if self.out.exists() else 0
        journal = Path(f"{self.out}.journal")
        return rows_in_journal(journal)

    def _watch(self) -> None:
        told = 0.0
        while self.process.poll() is None:
            done, now = self.done, time.monotonic()
            if done > (self.marks[-1][1] if self.marks else 0):
                self.marks.append((now, done))
            if now - told > 2:
                told = now
                self.memory.append(
                    sum(map(rss, [self.process.pid, *descendants(self.process.pid)]))
                )
            time.sleep(0.25)

    def wait(self) -> "Run":
        self.process.wait()
        self._watching.join()
        self.seconds = time.monotonic() - self.began
        return self

    def kill_when(self, is_time: Callable[[], bool]) -> None:
        while self.process.poll() is None and not is_time():
            time.sleep(0.25)
        below = descendants(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.wait()
        end = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < end:
            time.sleep(0.2)  # Ray's own processes end when their driver is gone

    @property
    def rate(self) -> float:
        (first, some), (last, all_) = self.marks[0], self.marks[-1]
        return (all_ - some) / (last - first)


def rss(pid: int) -> float:
    """Megabytes of a process that are its own."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def rows(out: Path) -> list:
    files = sorted(out.glob("part-*")) if out.is_dir() else [out]
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=5000, help="of the long runs; 0: none")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--turn-pictures", type=int, default=600)
    parser.add_argument("--part-size", type=int, default=100, help="pictures of a part on Ray")
    parser.add_argument("--layers", default="6", help="of the long runs")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    try:
        if options.turns:
            few, shares = album(root / "few", options.turn_pictures), []
            for turn in range(options.turns):
                plain = Run(few, root / f"plain{turn}.parquet", 0).wait()
                on_ray = Run(few, root / f"ray{turn}.parquet", options.part_size).wait()
                shares.append(on_ray.rate / plain.rate)
                print(
                    f"plain {plain.rate:.1f} pictures/s ({plain.seconds:.0f} s in all), Ray "
                    f"{on_ray.rate:.1f} ({on_ray.seconds:.0f} s): {shares[-1]:.1%}",
                    flush=True,
                )
                assert rows(plain.out) == rows(on_ray.out)
            print(f"median share {statistics.median(shares):.1%}", flush=True)
        if options.pictures:
            many = album(root / "many", options.pictures)
            for ray in (False, True):
                out = root / f"long-{'ray' if ray else 'plain'}.parquet"
                long = (many, out, options.part_size if ray else 0, "--layers", options.layers)
                first = Run(*long)
                first.kill_when(lambda: first.done >= options.pictures // 2)  # noqa: B023
                kept = first.done
                second = Run(*long, "--resume").wait()
                assert second.process.returncode == 0
                names = [row["picture"] for row in rows(out)]
                assert names == sorted(map(str, many.iterdir())), "lost or doubled"
                print(
                    json.dumps(
                        {
                            "ray": ray, "kept": kept, "rate": round(second.rate, 1),
                            "seconds": round(first.seconds + second.seconds),
                            "memory_mb_before_kill": [round(one) for one in first.memory[5::15]],
                            "memory_mb_resumed": [round(one) for one in second.memory[5::15]],
                        }
                    ),
                    flush=True,
                )  # fmt: skip
            same = rows(root / "long-plain.parquet") == rows(root / "long-ray.parquet")
            print("rows with Ray are those without:", same)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
