"""Pictures made to take a server's time and memory."""

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.errors import Busy, DamagedPicture, NotAPicture, TooLarge, Unprocessable
from rtdetr_demo.media import images
from rtdetr_demo.media.decoder_pool import DecoderPool
from tests.support.paths import EXAMPLES, REPO


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def many_scans(count: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A progressive JPEG whose last scan is there `count` times."""
    jpeg = encoded(Image.new("RGB", size, "teal"), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + b"\xff\xd9"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(workers=2)
    pool.start()
    yield pool
    pool.close()


def test_it_gives_what_reading_here_gives(pool, photo):
    for content in (encoded(photo, "JPEG"), encoded(photo.convert("RGBA"))):
        assert pool.read(content).tobytes() == images.read_picture(content).tobytes()
    with pytest.raises(NotAPicture, match="web page"):
        pool.read(b"<html>")


def test_a_jpeg_of_thousands_of_scans_is_refused_and_one_with_a_film_behind_it_is_not(pool, photo):
    began = time.monotonic()
    with pytest.raises(Unprocessable, match="more than 200 passes"):
        pool.read(many_scans(15000, (1000, 1000)))
    assert time.monotonic() - began < 5
    assert pool.read(many_scans(20)).size == (64, 64)
    film = encoded(photo, "JPEG") + b"\xff\xda" * 1000
    assert pool.read(film).size == photo.size


def test_formats_that_the_readme_does_not_name_are_no_pictures(pool):
    slow = b"P1\n" + b"# comment\n" * 1000 + b"100 100\n" + b"0 " * 10000
    with pytest.raises(NotAPicture):
        pool.read(slow)


def test_past_the_deadline_the_worker_goes_and_the_next_picture_is_read():
    pool = DecoderPool(workers=1, deadline=0.2)
    pool.start()
    slow = many_scans(150, (3000, 3000))  # takes seconds
    with pytest.raises(Unprocessable, match="longer than"):
        pool.read(slow)
    pool._deadline = 20
    assert pool.read(encoded(Image.new("RGB", (10, 10)))).size == (10, 10)
    pool.close()
    with pytest.raises(Busy, match="going down"):
        pool.read(slow)


def test_a_decoder_that_crashes_is_a_sentence(pool, monkeypatch):
    def crash() -> None:
        time.sleep(0.3)
        for child in active_children():
            child.kill()

    large = encoded(Image.new("RGB", (7000, 7000), "red"), compress_level=1)
    threading.Thread(target=crash).start()

    def read_on() -> None:
        while True:
            pool.read(large)

    with pytest.raises(DamagedPicture, match="brought its decoder down"):
        read_on()
    assert pool.read(encoded(Image.new("RGB", (10, 10)))).size == (10, 10)


def test_a_server_that_goes_down_does_not_wait_for_a_decoder(pool):
    pool = DecoderPool(workers=1)
    pool.start()
    large = encoded(Image.new("RGB", (7000, 7000), "red"), compress_level=1)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(pool.read, large)
        time.sleep(0.1)
        pool.hurry(0.05)
        with pytest.raises((Busy, Unprocessable)):
            reading.result()
    pool.close()


def test_pictures_past_what_memory_is_for_wait_until_others_go(monkeypatch):
    monkeypatch.setattr("rtdetr_demo.media.decoder_pool.DECODE_QUEUE_TIMEOUT", 0.5)
    pool = DecoderPool(workers=1, held_bytes=1_000_000)
    content = encoded(Image.new("RGB", (450, 450)))
    first = pool.read(content)
    with pytest.raises(Busy, match="Send this again"):
        pool.read(content)
    del first
    assert pool.read(content).size == (450, 450)
    pool.close()


def test_a_live_frame_is_small_and_plain():
    assert images.read_frame(encoded(Image.new("RGB", (1280, 720)), "WEBP")).size == (1280, 720)
    with pytest.raises(TooLarge):
        images.read_frame(encoded(Image.new("RGB", (4000, 3000)), "JPEG"))
    with pytest.raises(Unprocessable):
        images.read_frame(many_scans(50))
    with pytest.raises(NotAPicture):
        images.read_frame(encoded(Image.new("RGB", (64, 64)), "TIFF"))


def test_sixteen_bits_are_spread_over_eight():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    seen = np.asarray(images.read_picture(encoded(Image.fromarray(values))))[..., 0]
    assert (seen == values // 257).all()


MEMORY = """
import io, re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import time
from PIL import Image
from rtdetr_demo.media import decoder_pool

decoder_pool.DECODE_QUEUE_TIMEOUT = 600  # this is about memory, on however slow a machine

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

if __name__ == "__main__":
    pool = decoder_pool.DecoderPool(deadline=600)
    pool.start()
    def encoded(size):
        buffer = io.BytesIO()
        Image.new("RGBA", size, (9, 9, 9, 99)).save(buffer, "PNG")
        return buffer.getvalue()
    large, usual = encoded((7000, 7000)), encoded((4000, 3000))
    def read(content):
        return pool.read(content).size
    before = megabytes()
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(read, [large] * 10 + [usual] * 16))
    most = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    time.sleep(2.5)
    print(before, most, megabytes())
    pool.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_and_given_back(tmp_path):
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    environ = {"PYTHONPATH": str(REPO), "PATH": "/usr/bin:/bin"}
    output = subprocess.run(
        [sys.executable, script], env=environ, capture_output=True, text=True, check=True
    )
    before, most, after = map(float, re.findall(r"[\d.]+", output.stdout))
    print(f"{before:.0f} MB before, {most:.0f} at most, {after:.0f} after")
    assert most - before < 1700
    assert after - before < 60


WITHOUT_SOCKET = """
import shutil, sys, time
from multiprocessing import active_children, util
from rtdetr_demo.media.decoder_pool import DecoderPool

pool = DecoderPool(workers=1)
picture = open(sys.argv[1], "rb").read()
pool.read(picture)
shutil.rmtree(util.get_temp_dir())
for child in active_children():
    child.kill()
end = time.monotonic() + 30
while True:
    try:
        print(pool.read(picture).size)
        break
    except Exception:
        assert time.monotonic() < end
        time.sleep(0.1)
pool.close()
"""


def test_workers_start_again_though_all_temporary_files_were_deleted(tmp_path):
    command = [sys.executable, "-c", WITHOUT_SOCKET, EXAMPLES / "dogs.jpg"]
    ran = subprocess.run(
        command, cwd=REPO, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout.startswith(b"(")
