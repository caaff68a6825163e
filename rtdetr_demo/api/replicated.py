"""The API as a Ray Serve application: one gateway, many replicas of the model.

The gateway is the same ASGI app as that of a single process, with the same keys, limits and errors.
As there is one of it, they hold over all replicas; it opens pictures and hands them on, and holds
no model. `build` is what `deploy/ray-serve.yaml` names.
"""

import asyncio
import time
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from ..serving.replicas import Models, RemoteService
from ..settings import Settings
from .app import Api

NAME = "rtdetr"


class Gateway:
    """The API; `settings` are fields of `Settings`. Keys come from this process's environment."""

    def __init__(self, settings: dict[str, Any], models: DeploymentHandle):
        service = RemoteService(Settings(**settings), models)
        self._api = Api(service)  # type: ignore[arg-type]
        self._api.open()
        service.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._api.app

    async def drain(self, seconds: float) -> None:
        """Refuse new requests (503), and wait for those under way, for `seconds` at most."""
        await asyncio.to_thread(self._api.drain, time.monotonic() + seconds)


def build(args: dict[str, Any]) -> Application:
    """The application of a Serve file, where Ray wants a function of one argument. `args` are those
    of `application`; cores and cards stand in the file's `ray_actor_options`."""
    return application(args)


def application(args: dict[str, Any], cpus: float = 1, gpus: float = 0) -> Application:
    """The application. `args` are fields of `Settings`, by default those of a server that others
    can reach, and `replicas`: [min, max] (1, 4); `cpus` and `gpus` are those of each replica."""
    settings: dict[str, Any] = {"host": "0.0.0.0", **args}
    min_replicas, max_replicas = settings.pop("replicas", (1, 4))
    known = Settings(**settings)
    deployment: Any = serve.deployment
    models = deployment(
        Models,
        name="Models",
        # Two for each: one in the model, one on its way.
        autoscaling_config={
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": 2,
        },
        max_ongoing_requests=16,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        graceful_shutdown_timeout_s=30,
    )
    gateway = deployment(
        serve.ingress()(Gateway),
        name="Gateway",
        num_replicas=1,
        # It refuses by itself, in the API's own form.
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": 0},  # so that it never waits for the models to make room,
        graceful_shutdown_timeout_s=30,
    )
    return gateway.bind(settings, models.bind(known.checkpoint, known.runtime))
