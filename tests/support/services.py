"""Services in this process."""

from collections.abc import Callable

from rtdetr_demo.serving.service import Service

MakeService = Callable[..., Service]
"""Makes a service of the settings that it is given, by name."""


def close(service: Service) -> None:
    """End its threads and child processes, and delete its folder."""
    service.latencies.close()
    service.queue.close()
    service.pictures.close()
    service.scratch.close()
