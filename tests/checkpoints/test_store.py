"""Models come and go, and what they took is given back."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rtdetr_demo.checkpoints.store import ModelStore
from rtdetr_demo.detector.detector import Detector
from tests.support.paths import REPO
from tests.support.processes import wait_for

ALTERNATE = """
import re, sys, time
from pathlib import Path
from PIL import Image
from rtdetr_demo.checkpoints.store import ModelStore
from rtdetr_demo.serving.latency_worker import LatencyWorker

worker = LatencyWorker("auto")
store = ModelStore(int(sys.argv[2]), worker.add, worker.remove)
names = [store.name_folder(folder) for folder in sorted(Path(sys.argv[1]).iterdir())]
image = Image.open("examples/dogs.jpg").convert("RGB")
for turn in range(10):
    store.get(names[turn % 2]).detect(image, 1)
    time.sleep(3)  # long enough for its measurement to be under way
    print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], flush=True)
assert len(names) == 2 and len(store.loaded()) == 1
worker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_checkpoints_that_take_turns_take_no_more_memory_each_time(random_r50, tmp_path: Path):
    for name in ("one", "other"):
        shutil.copytree(random_r50, tmp_path / name, copy_function=os.link)
    room = 250 * 2**20  # for one of them
    output = subprocess.run(
        [sys.executable, "-c", ALTERNATE, tmp_path, str(room)],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    resident = [int(line) / 1024 for line in output.stdout.split()]
    print("resident MB:", *map(round, resident))
    assert max(resident[-4:]) - max(resident[2:6]) < 100


def test_a_forked_copy_does_not_wait_for_a_thread_that_it_has_not(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    loads, go_on, load = [], threading.Event(), Detector.load

    def slow_load(*arguments) -> Detector:
        loads.append(1)
        if len(loads) == 1:
            go_on.wait(30)
        return load(*arguments)

    monkeypatch.setattr(Detector, "load", slow_load)
    store = ModelStore(2**30)
    name = store.name_folder(tiny)
    # This thread stands for one of the process that is copied: the copy has it half way for ever.
    loading = threading.Thread(target=store.get, args=(name,), daemon=True)
    loading.start()
    wait_for(lambda: loads)
    assert store.is_loading(name)
    store.forget_threads()
    assert store.get(name).depth == 6
    go_on.set()
    loading.join()


def test_a_listener_that_fails_leaves_nobody_waiting(tiny: Path):
    def fail(_: object) -> None:
        raise RuntimeError("no thread could be started")

    store = ModelStore(2**30, on_load=fail)
    name = store.name_folder(tiny)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no thread"):
            store.get(name)
    assert not store.is_loading(name)
