"""Many detectors behind one service: replicas of Ray Serve, and the service that asks them.

`Models` is a replica: one process with one detector. `RemoteService` stands where `Service` stands
in a single process, so that the API in front of it is the same; it holds no model. It keeps a
picture until it is answered, and sends it to another replica where one dies over it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from .. import metrics
from ..checkpoints.catalog import BUNDLED
from ..errors import BadInput, Busy, CheckpointError, DemoError, Unprocessable
from ..predictions import Predictions, check_depth
from ..settings import Settings
from .scratch import Scratch
from .service import Service

TRIES = 3
"""Replicas that one picture is sent to, should they die over it."""

REPLICA_TIMEOUT = 60.0
"""Seconds that a picture may take at a replica, waiting there included."""

BATCH = 8

log = logging.getLogger(__name__)


_batched: Any = serve.batch  # whose types know functions alone, not methods


@dataclass(frozen=True)
class RemoteDetector:
    """What a request needs to know of the detector that the replicas hold; see `Detector`."""

    checkpoint: str
    class_names: tuple[str, ...]
    depth: int
    queries: int
    tokens: int
    device = SimpleNamespace(type="cpu")
    """Of this process: it batches nothing by itself."""

    def check_depth(self, decoder_layers: int | None) -> int:
        return check_depth(decoder_layers, self.depth)


class Models:
    """A replica: loads the checkpoint, or the bundled one where that is not to be had."""

    def __init__(self, checkpoint: str, runtime: str):
        from ..checkpoints.loading import load

        try:
            self._detector = load(checkpoint)
            if os.path.isdir(checkpoint):
                # Clients see a name, not where on this machine the operator keeps it.
                self._detector.checkpoint = Path(checkpoint).resolve().name
        except CheckpointError as reason:
            log.warning("%s The bundled checkpoint serves instead.", reason)
            self._detector = load(BUNDLED)
        if runtime != "torch":
            self._detector.accelerate(half=runtime == "bf16")
        if self._detector.device.type == "cpu":
            batching: Any = self.detect
            batching.set_max_batch_size(1)

    def describe(self) -> RemoteDetector:
        one = self._detector
        return RemoteDetector(one.checkpoint, one.class_names, one.depth, one.queries, one.tokens)

    @_batched(max_batch_size=BATCH, batch_wait_timeout_s=0.004)
    async def detect(self, pictures: list[np.ndarray], depths: list[int]) -> list[Any]:
        """Predictions of RGB pictures [height, width, 3], or the DemoError instead."""
        found: list[Any] = [None] * len(pictures)
        for depth in set(depths):
            some = [i for i, other in enumerate(depths) if other == depth]
            images = [Image.fromarray(pictures[i]) for i in some]
            for i, one in zip(
                some, await asyncio.to_thread(self._pass, images, depth), strict=True
            ):
                found[i] = one
        return found

    def _pass(self, images: list[Image.Image], depth: int) -> Sequence[Any]:
        try:
            return self._detector.detect_batch(images, depth, every_layer=False)
        except DemoError as error:
            return [error] * len(images)


class _RemoteStore:
    """The one checkpoint that the replicas hold, once one of them has told."""

    def __init__(self) -> None:
        self.detector: RemoteDetector | None = None

    def loaded(self) -> list[str]:
        return [self.detector.checkpoint] if self.detector else []

    def is_here(self, checkpoint: str) -> bool:
        return checkpoint in self.loaded()

    def is_loading(self, checkpoint: str) -> bool:
        return self.detector is None

    def downloading(self, checkpoint: str) -> None:
        return None

    def get(self, checkpoint: str) -> RemoteDetector:
        if self.detector is None:
            raise Busy("The replicas are starting. Send this again in a few seconds.")
        if checkpoint != self.detector.checkpoint:
            raise CheckpointError(
                f"{checkpoint} is not served here: every replica holds {self.detector.checkpoint}."
            )
        return self.detector


class RemoteService(Service):
    """A `Service` whose passes are done by replicas of `Models`, many at a time."""

    passes = 64

    def __init__(
        self, settings: Settings, models: DeploymentHandle, scratch: Scratch | None = None
    ):
        super().__init__(settings, scratch)
        self._models = models
        self.store = _RemoteStore()  # type: ignore[assignment]

    def inspect(self, *_: Any, **__: Any) -> Any:
        """Raises Unprocessable: a recorded pass is far larger than what replicas send."""
        raise Unprocessable(
            "These replicas detect, and record nothing. Ask a server that python app.py started."
        )

    def _start(self) -> None:
        while True:
            try:
                found = self._models.describe.remote().result(timeout_s=REPLICA_TIMEOUT)
                break
            except (RayActorError, TimeoutError, DeploymentUnavailableError) as error:
                log.warning("no replica is ready: %s", error)
                time.sleep(1.0)
        self.active = found.checkpoint
        self.store.detector = found  # type: ignore[attr-defined]
        self.searching = False

    def check(self, checkpoint: str) -> str:
        """Raises CheckpointError for one that the replicas do not hold, Busy before they are up."""
        return self.store.get(checkpoint).checkpoint

    def detect_batch(
        self,
        images: Sequence[Image.Image],
        checkpoint: str | None = None,
        decoder_layers: int | None = None,
        **shape: Any,
    ) -> list[Predictions]:
        """Detect in several pictures, each wherever there is room. Raises Busy where there is none.

        Of the shape only `every_layer=False` is served.
        """
        if shape != {"every_layer": False}:
            raise BadInput("Replicas give the last decoder layer at the checkpoint's own shape.")
        detector = self.store.get(checkpoint or self.active)
        depth = detector.check_depth(decoder_layers)
        return [self._ask(np.asarray(image), depth) for image in images]

    def _ask(self, pixels: np.ndarray, depth: int) -> Predictions:
        began = time.perf_counter()
        for left in reversed(range(TRIES)):
            try:
                found = self._models.detect.remote(pixels, depth).result(timeout_s=REPLICA_TIMEOUT)
                break
            except RayActorError:
                log.warning("a replica died over a picture; %d tries are left", left)
            except (BackPressureError, DeploymentUnavailableError, TimeoutError):
                raise Busy("The replicas have too much to do. Send this again soon.") from None
        else:
            raise Busy("The replicas that had this picture died. Send it again soon.")
        if isinstance(found, DemoError):
            raise found
        metrics.observe_pass(time.perf_counter() - began, [found.timing])
        return found
