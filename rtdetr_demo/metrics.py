"""What an operator may watch: the numbers behind `/metrics`, in Prometheus' terms."""

import time
from collections.abc import Iterator, Sequence
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
    "What a picture spends: fetch, queue (among the API's clients), decode, batch_wait (among "
    "the API's decoded pictures), wait (among all visitors), preprocess, model, postprocess.",
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


def observe_pass(seconds: float, timings: Sequence[Timing]) -> None:
    """One pass of the model: how long it took in all, and the times of its pictures."""
    worked = sum(timing.total for timing in timings) / 1000
    for timing in timings:
        STAGE_SECONDS.labels("wait").observe(max(seconds - worked, 0.0))
        STAGE_SECONDS.labels("preprocess").observe(timing.preprocess / 1000)
        STAGE_SECONDS.labels("model").observe(timing.model / 1000)
        STAGE_SECONDS.labels("postprocess").observe(timing.postprocess / 1000)
