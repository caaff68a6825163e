"""Pictures made to take a server's time and memory, and decoders that stop or end."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing import Pipe, active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtdetr_demo.errors import Busy, DamagedPicture, NotAPicture, TooLarge, Unprocessable
from rtdetr_demo.media import decoder_pool, decoder_process, images
from rtdetr_demo.media.decoder_pool import DecoderPool
from tests.support.paths import EXAMPLES, REPO
from tests.support.processes import wait_for

SMALL_SIZE = (10, 10)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def many_scans(count: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A progressive JPEG whose last scan is there `count` times."""
    jpeg = encoded(Image.new("RGB", size, "teal"), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * count + b"\xff\xd9"


SMALL = encoded(Image.new("RGB", SMALL_SIZE))
SLOW = many_scans(150, (4000, 3000))
"""Takes seconds."""


def decoders() -> list[BaseProcess]:
    return [child for child in active_children() if child.name == "decoder"]


class Pools:
    """Makes pools, knows their processes, and closes them in the end."""

    def __init__(self) -> None:
        self._pools: list[DecoderPool] = []

    def make(self, **options: object) -> tuple[DecoderPool, list[int]]:
        """A pool that is ready, and the ids of its decoders."""
        before = {child.pid for child in decoders()}
        pool = DecoderPool(**options)  # type: ignore[arg-type]
        self._pools.append(pool)
        pool.start()
        return pool, [child.pid for child in decoders() if child.pid not in before]

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


@pytest.fixture
def pools() -> Iterator[Pools]:
    pools = Pools()
    yield pools
    pools.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(workers=2)
    pool.start()
    yield pool
    pool.close()


def seconds_of(future: Future) -> float:
    """How long it takes until a future has a result, whatever that is."""
    began = time.monotonic()
    future.exception(timeout=60)
    return time.monotonic() - began


# What is opened


def test_it_gives_what_reading_here_gives(pool, photo):
    for content in (encoded(photo, "JPEG"), encoded(photo.convert("RGBA"))):
        assert pool.read(content).tobytes() == images.read_picture(content).tobytes()
    with pytest.raises(NotAPicture, match="web page"):
        pool.read(b"<html>")


def test_a_large_picture_arrives_whole(pool):
    pixels = np.random.default_rng(0).integers(0, 256, (2111, 1777, 3), dtype=np.uint8)
    seen = pool.read(encoded(Image.fromarray(pixels), compress_level=1))
    assert (np.asarray(seen) == pixels).all()


def test_a_frame_has_the_limits_of_frames(pool):
    frame = encoded(Image.new("RGB", (640, 480)), "JPEG")
    assert pool.submit("a", frame, frame=True).result().size == (640, 480)
    large = encoded(Image.new("RGB", (4000, 3000)), "JPEG")
    with pytest.raises(TooLarge):
        pool.submit("a", large, frame=True).result()
    assert pool.submit("a", large).result().size == (4000, 3000)


def test_the_note_of_a_picture_comes_with_it(monkeypatch):
    """What the child would send is answered by hand."""
    here, there = Pipe()
    image = Image.new("RGB", SMALL_SIZE)
    image.info["note"] = "Its colors were converted."
    monkeypatch.setattr("rtdetr_demo.media.decoder_process.read_picture", lambda _: image)
    threading.Thread(target=decoder_process.answer, args=(there, b"", False), daemon=True).start()
    assert json.loads(here.recv_bytes())["note"] == image.info["note"]
    here.send_bytes(decoder_process.DROP)


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


# Time


def test_past_its_time_a_picture_fails_and_the_next_one_is_read(pools):
    pool, _ = pools.make(workers=1, seconds=0.5)
    with pytest.raises(Unprocessable, match="longer than"):
        pool.read(SLOW)
    assert pool.read(SMALL).size == SMALL_SIZE


def test_from_a_limit_on_pictures_under_way_have_that_long(pools):
    pool, _ = pools.make(workers=1)
    slow, waiting = pool.submit("a", SLOW), pool.submit("b", SLOW)
    time.sleep(0.2)
    pool.limit_time(0.3)
    assert seconds_of(slow) + seconds_of(waiting) < 2
    assert isinstance(slow.exception(), Unprocessable)
    assert isinstance(waiting.exception(), Busy | Unprocessable)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_kernel_limits_the_memory_and_the_time_of_a_decoder(pools):
    pool, [pid] = pools.make(workers=1, seconds=7)
    pool.read(SMALL)
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
    assert int(re.findall(r"Max data size +(\d+)", limits)[0]) <= 1.5 * 2**30
    assert 7 <= int(re.findall(r"Max cpu time +(\d+)", limits)[0]) <= 12


# Decoders that stop or end


def test_a_stopped_decoder_costs_its_picture_its_time_and_nobody_else_anything(pools):
    pool, [first, _] = pools.make(workers=2, seconds=3)
    os.kill(first, signal.SIGSTOP)
    futures = [pool.submit(f"client {number}", SMALL) for number in range(12)]
    began = time.monotonic()
    errors = [future.exception(timeout=30) for future in futures]
    assert 2.5 < time.monotonic() - began < 8
    assert sorted(type(error).__name__ for error in errors if error) == ["Unprocessable"]
    began = time.monotonic()
    assert [pool.read(SMALL).size for _ in range(8)] == [SMALL_SIZE] * 8
    assert time.monotonic() - began < 2


def test_other_pictures_do_not_wait_for_a_stopped_decoder(pools):
    pool, [first, _] = pools.make(workers=2, seconds=20)
    os.kill(first, signal.SIGSTOP)
    futures = [pool.submit(f"client {number}", SMALL) for number in range(12)]
    wait_for(lambda: sum(future.done() for future in futures) == 11, 5)


def test_pictures_are_read_again_after_all_decoders_were_stopped(pools):
    pool, pids = pools.make(workers=2, seconds=1)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    futures = [pool.submit(f"client {number}", SMALL) for number in range(6)]
    errors = [future.exception(timeout=30) for future in futures]
    assert [type(error) for error in errors if error] == [Unprocessable] * 2


def test_killed_decoders_cost_no_picture_that_they_did_not_have(pools):
    pool, pids = pools.make(workers=2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    futures = [pool.submit(f"client {number}", SMALL) for number in range(6)]
    assert [future.result(timeout=30).size for future in futures] == [SMALL_SIZE] * 6


def test_a_decoder_that_is_killed_at_work_costs_that_picture(pools):
    pool, [first, second] = pools.make(workers=2)
    slow = pool.submit("a", SLOW)
    time.sleep(0.3)
    for pid in (first, second):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(DamagedPicture, match="crashed its decoder"):
        slow.result(timeout=10)
    assert pool.read(SMALL).size == SMALL_SIZE


def test_pictures_flow_while_decoders_are_killed_and_stopped_again_and_again(pools):
    pool, _ = pools.make(workers=2, seconds=1)
    end = time.monotonic() + 4
    outcomes: list[type] = []

    def send(client: str) -> None:
        while time.monotonic() < end:
            outcomes.append(type(pool.submit(client, SMALL).exception(timeout=30)))

    senders = [threading.Thread(target=send, args=(f"client {n}",)) for n in range(4)]
    for sender in senders:
        sender.start()
    harmed = 0
    while time.monotonic() < end:
        for child in decoders():
            try:
                os.kill(child.pid or 0, (signal.SIGSTOP, signal.SIGKILL)[harmed % 2])
            except ProcessLookupError:
                continue
            harmed += 1
        time.sleep(0.8)
    for sender in senders:
        sender.join(20)
        assert not sender.is_alive()
    assert outcomes.count(type(None)) > 50
    assert len(outcomes) - outcomes.count(type(None)) <= harmed


def test_a_closed_pool_has_ended_stopped_decoders_and_refuses(pools):
    pool, pids = pools.make(workers=2)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    under_way, waiting = pool.submit("a", SLOW), pool.submit("a", SLOW)
    time.sleep(0.2)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    for future in (under_way, waiting, pool.submit("a", SMALL)):
        with pytest.raises(Busy, match="shutting down"):
            future.result(timeout=2)
    for pid in pids:
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 5)


# Turns


def test_slow_pictures_of_one_client_do_not_make_another_one_wait(pools):
    pool, _ = pools.make(workers=2)
    slow = [pool.submit("greedy", SLOW) for _ in range(4)]
    time.sleep(0.2)
    assert pool.ahead(slow[-1]) is not None
    assert seconds_of(pool.submit("modest", SMALL)) < 1
    assert not any(future.done() for future in slow)


def test_clients_take_turns(pools):
    pool, _ = pools.make(workers=1)
    order: list[str] = []
    first = pool.submit("greedy", many_scans(100, (1000, 1000)))
    for client in ("greedy", "greedy", "greedy", "modest"):
        future = pool.submit(client, SMALL)
        future.add_done_callback(lambda _, client=client: order.append(client))
    first.result(timeout=30)
    wait_for(lambda: len(order) == 4)
    assert order.index("modest") <= 1


def test_a_picture_that_waits_can_be_cancelled_and_has_a_place(pools):
    pool, _ = pools.make(workers=1)
    slow = pool.submit("a", many_scans(150, (1500, 1500)))
    wait_for(lambda: pool.ahead(slow) is None)
    second, third = pool.submit("b", SMALL), pool.submit("c", SMALL)
    assert (pool.ahead(second), pool.ahead(third)) == (0, 1)
    assert second.cancel()
    assert pool.ahead(third) == 0
    assert third.result(timeout=30).size == SMALL_SIZE


def test_past_its_share_of_the_line_a_client_is_refused_and_another_one_is_not(pools):
    pool, _ = pools.make(workers=2)
    futures = [pool.submit("greedy", SLOW) for _ in range(decoder_pool.CLIENT_LINE + 5)]
    refused = [future for future in futures if future.done()]
    assert refused
    with pytest.raises(Busy, match="Send this again"):
        refused[0].result()
    assert pool.submit("modest", SMALL).result(timeout=5).size == SMALL_SIZE


# Memory


def test_a_picture_past_the_memory_waits_until_others_go(pools, monkeypatch):
    monkeypatch.setattr("rtdetr_demo.media.decoder_pool.WAIT_SECONDS", 0.5)
    pool, _ = pools.make(workers=1, held_bytes=1_000_000)
    content = encoded(Image.new("RGB", (450, 450)))
    first = pool.read(content)
    with pytest.raises(Busy, match="Send this again"):
        pool.read(content)
    del first
    assert pool.read(content).size == (450, 450)


def test_a_picture_that_waits_for_memory_does_not_keep_its_decoder(pools):
    pool, _ = pools.make(workers=1, held_bytes=1_000_000)
    content = encoded(Image.new("RGB", (450, 450)))
    first = pool.read(content, "a")
    second = pool.submit("b", content)
    assert pool.read(SMALL, "c").size == SMALL_SIZE
    assert not second.done()
    del first
    assert second.result(timeout=5).size == (450, 450)


def test_one_client_holds_at_most_half_of_the_memory(pools):
    pool, _ = pools.make(workers=2, held_bytes=1_000_000)
    content = encoded(Image.new("RGB", (300, 300)))  # 360,000 bytes
    held = [pool.read(content, "greedy")]
    second = pool.submit("greedy", content)
    held.append(pool.read(content, "modest"))
    time.sleep(0.3)
    assert not second.done()
    held.clear()
    assert second.result(timeout=5).size == (300, 300)


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

decoder_pool.WAIT_SECONDS = 600  # this is about memory, on however slow a machine

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

if __name__ == "__main__":
    pool = decoder_pool.DecoderPool(seconds=600)
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
