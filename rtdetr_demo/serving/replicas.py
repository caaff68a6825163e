"""Many detectors behind one API: replicas of Ray Serve, and the service that uses them.

`Models` is a replica: one process with one detector. `RemoteService` stands where `Service` stands
in a single process, with an engine whose passes are calls of replicas, so that the API in front of
it is the same; it holds no model. It keeps a picture until it is answered, and sends it to another
replica if one dies over it.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from ..engine.engine import Engine
from ..engine.requests import Params
from ..errors import BadInput, Busy, CheckpointError, Unprocessable
from ..predictions import Predictions, check_depth
from ..settings import Settings
from .scratch import Scratch

if TYPE_CHECKING:
    from ..detector.inspection import Inspection

TRIES = 3
"""Replicas that one picture is sent to, should they die over it."""

REPLICA_SECONDS = 60.0
"""Seconds that a picture may take at a replica, waiting there included."""

REPLICA_CALLS = 64
"""Pictures that are at replicas at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteDetector:
    """What a request needs to know of the detector that the replicas hold; see `Detector`."""

    checkpoint: str
    class_names: tuple[str, ...]
    depth: int
    queries: int
    tokens: int
    device = SimpleNamespace(type="remote")

    def check_depth(self, decoder_layers: int | None) -> int:
        """As `Detector.check_depth`."""
        return check_depth(decoder_layers, self.depth)


class Models:
    """A replica: the configured checkpoint, or the bundled one if that cannot be loaded."""

    def __init__(self, checkpoint: str, runtime: str):
        from ..checkpoints.loading import load_or_bundled

        self._detector = load_or_bundled(checkpoint, runtime)
        loaded: Future[Any] = Future()
        loaded.set_result(self._detector)
        self._engine = Engine(lambda name: loaded)

    def describe(self) -> RemoteDetector:
        """The detector that this replica holds."""
        detector = self._detector
        return RemoteDetector(
            detector.checkpoint,
            detector.class_names,
            detector.depth,
            detector.queries,
            detector.tokens,
        )

    async def detect(self, pixels: np.ndarray, decoder_layers: int) -> Predictions:
        """Predictions of an RGB picture [height, width, 3] at one depth."""
        params = Params(decoder_layers=decoder_layers, every_layer=False)
        submitted = self._engine.submit("", Image.fromarray(pixels), params)
        return await asyncio.wrap_future(submitted)


class RemoteDevice:
    """Passes that are calls of replicas, many at a time."""

    threads = REPLICA_CALLS

    def __init__(self, models: DeploymentHandle):
        self._models = models

    def batch_limit(self, detector: RemoteDetector) -> int:
        """One: replicas form batches by themselves."""
        return 1

    def prepare(
        self, detector: RemoteDetector, image: Image.Image, params: Params
    ) -> tuple[np.ndarray, int]:
        """The picture's pixels [height, width, 3], and the layers to run. Raises BadInput."""
        if params.every_layer or params.queries is not None or params.size is not None:
            raise BadInput("Replicas give the last decoder layer at the checkpoint's own shape.")
        return np.asarray(image), detector.check_depth(params.decoder_layers)

    def detect(
        self, detector: RemoteDetector, pictures: Sequence[tuple[np.ndarray, int]], params: Params
    ) -> list[Predictions]:
        """Raises Busy where no replica has room, or those that had the picture died."""
        return [self._call(*picture) for picture in pictures]

    def inspect(self, detector: Any, picture: Any, params: Params) -> "Inspection":
        """Raises Unprocessable: a recorded pass is far larger than what replicas send."""
        raise Unprocessable(
            "These replicas detect, and record nothing. Ask a server that python app.py started."
        )

    def _call(self, pixels: np.ndarray, depth: int) -> Predictions:
        for left in reversed(range(TRIES)):
            try:
                return self._models.detect.remote(pixels, depth).result(timeout_s=REPLICA_SECONDS)
            except RayActorError:
                log.warning("a replica died over a picture; %d tries are left", left)
            except (BackPressureError, DeploymentUnavailableError, TimeoutError):
                raise Busy("The replicas have too much to do. Send this again soon.") from None
        raise Busy("The replicas that had this picture died. Send it again soon.")


class RemoteCheckpoints:
    """The one checkpoint that the replicas hold, once one of them has described it."""

    def __init__(self, wanted: str, models: DeploymentHandle):
        self.wanted = self.active = wanted
        self.store = self
        self._models = models
        self._detector: RemoteDetector | None = None

    def start(self) -> None:
        """Ask the replicas, in the background, until one answers."""
        threading.Thread(target=self._start, name="start", daemon=True).start()

    def _start(self) -> None:
        while self._detector is None:
            try:
                detector = self._models.describe.remote().result(timeout_s=REPLICA_SECONDS)
                self.active, self._detector = detector.checkpoint, detector
            except (RayActorError, TimeoutError, DeploymentUnavailableError) as error:
                log.warning("no replica is ready: %s", error)
                time.sleep(1.0)

    def loaded(self) -> list[str]:
        """Names of the checkpoints that can be used."""
        return [self._detector.checkpoint] if self._detector else []

    def is_here(self, checkpoint: str) -> bool:
        """Whether it can be used."""
        return checkpoint in self.loaded()

    def check(self, checkpoint: str | None) -> str:
        """Return the name of a checkpoint, by default the active one.

        Raises CheckpointError for one that the replicas do not hold, Busy before they are ready.
        """
        if self._detector is None:
            raise Busy("The replicas are starting. Send this again in a few seconds.")
        if checkpoint not in (None, "", self._detector.checkpoint):
            raise CheckpointError(
                f"{checkpoint} is not served here: every replica holds {self._detector.checkpoint}."
            )
        return self._detector.checkpoint

    def request(self, checkpoint: str | None = None) -> "Future[Any]":
        """The detector as a future; errors as in `check`."""
        self.check(checkpoint)
        future: Future[Any] = Future()
        future.set_result(self._detector)
        return future


class RemoteService:
    """A `Service` whose passes are done by replicas of `Models`."""

    def __init__(
        self, settings: Settings, models: DeploymentHandle, scratch: Scratch | None = None
    ):
        self.settings = settings
        self.scratch = scratch or Scratch(settings.data_dir)
        self.checkpoints = RemoteCheckpoints(settings.checkpoint, models)
        self.engine = Engine(
            self.checkpoints.request,
            RemoteDevice(models),
            capacity=settings.api_queue,
            share=settings.api_share,
            allowed_hosts=settings.allowed_hosts,
        )

    def start(self) -> None:
        """Start the decoders, and find out what the replicas hold, in the background."""
        threading.Thread(target=self.engine.decoders.start, name="decoders", daemon=True).start()
        self.checkpoints.start()
