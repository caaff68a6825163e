"""Prometheus metrics, served at `/metrics`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from .predictions import Timing

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("rtdetr_requests", "API requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "rtdetr_request_seconds", "From an API request's head to its last byte.", ["route"],
    buckets=_SECONDS,
)  # fmt: skip
STAGE_SECONDS = Histogram(
    "rtdetr_stage_seconds",
    "What a picture spends: fetch, decode (waiting for a decoder included), preprocess, wait (for "
    "the device), model, postprocess.",
    ["stage"],
    buckets=_SECONDS,
)
QUEUE_PICTURES = Gauge("rtdetr_queue_pictures", "Pictures of API requests not answered yet.")
MODEL_LOADS = Counter("rtdetr_model_loads", "Checkpoints loaded into memory.", ["checkpoint"])


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Observe how long the block takes."""
    began = time.perf_counter()
    try:
        yield
    finally:
        STAGE_SECONDS.labels(name).observe(time.perf_counter() - began)


def observe_pass(waited: float, timing: Timing) -> None:
    """Record what one picture spent: `waited` seconds for the device, then the pass."""
    STAGE_SECONDS.labels("wait").observe(max(waited, 0.0))
    STAGE_SECONDS.labels("preprocess").observe(timing.preprocess / 1000)
    STAGE_SECONDS.labels("model").observe(timing.model / 1000)
    STAGE_SECONDS.labels("postprocess").observe(timing.postprocess / 1000)
