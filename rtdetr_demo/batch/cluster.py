"""A run on Ray: Ray Data hands slices of the list of pictures to actors that each hold a Detector.

Reading, decoding, detecting and writing happen in the actor's own process, side by side in its
threads. What travels through Ray's object store is names and counts: a decoded picture is a hundred
times the size of its row, and would be copied there and back for nothing.
"""

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray
import torch
from tqdm import tqdm

import rtdetr_demo

from ..checkpoints.loading import load
from ..errors import BadInput, DemoError
from .inputs import Picture
from .parts import Parts
from .pipeline import detect_pictures
from .rows import RunInfo
from .runner import prepare, progress_bar


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; `threads`: of each worker."""

    checkpoint: str
    runtime: str
    layers: int
    threshold: float
    annotated: str | None
    folder: str
    threads: int
    directory: str
    """Where relative paths begin."""


@dataclass(frozen=True)
class Layout:
    """How a cluster's nodes are shared out: `workers` actors with `cpus` and `gpus` each."""

    workers: int
    cpus: int
    gpus: int

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, float]], workers: int | None) -> "Layout":
        """For nodes with these resources. One worker a card, or without cards one a node, which
        takes all of its cores; `workers` shares each node's out among more. Raises BadInput."""
        able = [node for node in nodes if node.get("GPU", 0) >= 1]
        gpus = 1 if able else 0
        able = able or [node for node in nodes if node.get("CPU", 0) >= 1]
        if not able:
            raise BadInput("This Ray cluster has no CPU to work with. Add a node to it.")
        count = workers or sum(int(node["GPU"]) if gpus else 1 for node in able)
        each = -(-count // len(able))
        return cls(count, max(1, int(min(node["CPU"] for node in able)) // each), gpus)


class Worker:
    """An actor: from a part's pictures to its file."""

    def __init__(self, job: Job):
        torch.set_num_threads(job.threads)
        with contextlib.suppress(OSError):  # nodes that share no disk are given addresses
            os.chdir(job.directory)
        self._parts = Parts(job.folder)
        self._error = ""
        try:
            self._detector = load(job.checkpoint)
            self._run = prepare(
                self._detector, job.runtime, job.layers, job.threshold, job.annotated
            )
        except DemoError as error:
            self._error = str(error)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        pictures = [Picture(*names) for names in zip(task["names"], task["stems"], strict=True)]
        if self._error:
            return {"pictures": 0, "error": self._error}
        try:
            rows = list(detect_pictures(pictures, self._detector, self._run))
            self._parts.write(task["part"], rows, self._run)
        except DemoError as error:
            return {"pictures": 0, "error": str(error)}
        return {"pictures": len(rows), "error": ""}


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start one of this machine alone. Raises BadInput."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its lines would break the bar's
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            # The other nodes need what is installed here, and exactly this code.
            code = {"py_modules": [str(Path(rtdetr_demo.__file__).parent)]}
            ray.init(address, runtime_env=code, **quiet)
        else:
            ray.init(include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(f"There is no Ray cluster at {address or 'this machine'}: {error}") from None


def run_on_ray(
    pictures: Sequence[Picture],
    run: RunInfo,
    checkpoint: str,
    runtime: str,
    parts: Parts,
    resume: bool,
    workers: int | None = None,
    part_size: int = 500,
) -> int:
    """Write the rows of all pictures as parts; gives how many could not be read.

    `checkpoint` is what workers load: a hub id, a folder that they can reach, or "bundled". Needs a
    connection (see `connect`). Workers and nodes may die on the way; where this process does,
    `resume` goes on with the parts that are missing. Raises BadInput.
    """
    if not resume and parts.numbers():
        raise BadInput(
            f"{parts.folder} holds parts of another run. Go on with --resume, or delete it to "
            "begin anew."
        )
    plan = parts.plan(pictures, part_size, run)
    left = sum(map(len, plan.values()))
    with progress_bar(len(pictures), len(pictures) - left) as bar:
        if plan:
            _go_through(plan, run, checkpoint, runtime, parts.folder, workers, bar)
    return parts.failed()


def _go_through(
    plan: Mapping[int, Sequence[Picture]],
    run: RunInfo,
    checkpoint: str,
    runtime: str,
    folder: str,
    workers: int | None,
    bar: tqdm,
) -> None:
    layout = Layout.of([node["Resources"] for node in ray.nodes() if node["Alive"]], workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    job = Job(
        checkpoint,
        runtime,
        run.decoder_layers,
        run.threshold,
        run.annotated,
        folder,
        layout.cpus,
        os.getcwd(),
    )
    tasks = [
        {
            "part": number,
            "names": [picture.name for picture in some],
            "stems": [picture.stem for picture in some],
        }
        for number, some in plan.items()
    ]
    done = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
        cast(Any, Worker),  # A class is made once in each actor; Ray's types ask for a function.
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=min(layout.workers, len(tasks))),
        num_cpus=layout.cpus,
        num_gpus=layout.gpus or None,
    )
    for part in done.iter_rows():
        if part["error"]:
            raise BadInput(part["error"])
        bar.update(part["pictures"])
