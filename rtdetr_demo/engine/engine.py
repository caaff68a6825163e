"""One thread that owns the device, and the line of requests in front of it."""

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from .. import metrics
from ..cpus import cpu_quota
from ..errors import GOING_DOWN, Busy, Cancelled, DemoError
from ..fair_queue import FairQueue
from ..media.decoder_pool import DecoderPool
from ..media.fetch import fetch
from ..media.images import read_data_uri
from ..predictions import Predictions
from .admission import Admission
from .devices import Device, LocalDevice
from .fair_pool import FairPool
from .futures import chain
from .requests import Params, Prepared, Request, Source

if TYPE_CHECKING:
    from ..detector.detector import Detector
    from ..detector.inspection import Inspection

T = TypeVar("T")

FETCHES = 16
CLIENT_FETCHES = 4
"""Pictures that are fetched at once, in all and for one client."""

QUIET_SECONDS = 0.25
"""How long nothing must have been under way before idle work runs."""


class Engine:
    """Runs the requests of many clients on one device, each client in turns.

    A picture is fetched, decoded and prepared by pools of threads and processes; the device's
    thread takes prepared pictures only, one request of each client at a time. On a GPU, requests
    that are alike share a pass. Idle work runs while nothing else is under way.

    Args:
        load: Gives the detector of a checkpoint's name (None: the active one) as a future.
        device: What runs passes.
        capacity: Most pictures that are under way at once.
        share: Most of these for one client.
        allowed_hosts: Private hosts that addresses of pictures may name.
        on_request: Called with the detector and the parameters of each request.
    """

    def __init__(
        self,
        load: "Callable[[str | None], Future[Detector]]",
        device: Device | None = None,
        *,
        capacity: int = 128,
        share: int = 64,
        allowed_hosts: tuple[str, ...] = (),
        on_request: "Callable[[Detector, Params], None]" = lambda detector, params: None,
    ):
        self.admission = Admission(capacity, share)
        # Admission bounds what a client has under way: none of that is refused here.
        self.decoders = DecoderPool(line=2 * capacity, client_line=share)
        self._load = load
        self.device: Device = device or LocalDevice()
        self._allowed_hosts = allowed_hosts
        self._on_request = on_request
        self._fetchers = FairPool(FETCHES, CLIENT_FETCHES, "fetch")
        self._preparers = ThreadPoolExecutor(cpu_quota(), "prepare")
        self._callers = ThreadPoolExecutor(capacity, "caller")
        self._queue: FairQueue[Request] = FairQueue()
        self._guard = threading.Lock()
        self._under_way: set[Request] = set()
        self._opening = 0
        self._last_end = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"device-{number}", daemon=True)
            for number in range(self.device.threads)
        ]
        for thread in self._threads:
            thread.start()

    # --- Requests ---------------------------------------------------------------------------------

    def open(self, client: str, source: Source, ticket: str = "") -> "Future[Image.Image]":
        """Fetch and decode a picture, without waiting: upright, RGB.

        Cancelling the future drops it from the line. It fails with DemoError for a picture that
        cannot be used. `ticket`: the client's own name for it, for `ahead`.
        """
        opened = self._open(client, source)
        if ticket and not opened.done():
            request = Request(client, ticket, kind="open", opening=opened)
            with self._guard:
                self._under_way.add(request)
            opened.add_done_callback(lambda future: self._forget(request))
        return opened

    def open_frame(self, client: str, content: bytes) -> "Future[Image.Image]":
        """Decode a frame of a live video, within the narrow limits of `media.images.read_frame`;
        otherwise as `open`."""
        return self._decode(client, content, frame=True)

    def fetch(self, client: str, url: str) -> "Future[bytes]":
        """Get the bytes behind an address, as `media.fetch.fetch`."""

        def work() -> bytes:
            with metrics.stage("fetch"):
                return fetch(url, self._allowed_hosts)

        return self._tracked(self._fetchers.submit(client, work))

    def submit(
        self,
        client: str,
        source: Source,
        params: Params | None = None,
        ticket: str = "",
        detector: "Detector | None" = None,
    ) -> "Future[Predictions]":
        """Detect in a picture, without waiting.

        Args:
            client: Whose turn it takes, such as an address.
            source: The picture.
            params: How to detect.
            ticket: The client's own name for this request, for `ahead`.
            detector: The detector of `params.checkpoint`, if the caller has it already.

        Returns:
            A future; cancelling it drops the request from the line. It fails with BadInput for a
            picture or parameters that cannot be used, CheckpointError for a checkpoint that cannot
            be loaded, Busy when the engine is closed or the device is not available.
        """
        request = Request(client, ticket, params or Params(), detector=detector)
        return self._submit(request, source)

    def inspect(
        self,
        client: str,
        source: Source,
        params: Params | None = None,
        ticket: str = "",
        detector: "Detector | None" = None,
    ) -> "Future[Inspection]":
        """Record one full pass over a picture; otherwise as `submit`."""
        request = Request(client, ticket, params or Params(), "inspect", detector=detector)
        return self._submit(request, source)

    def run_when_idle(self, call: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Run a function in the device's thread while nothing else is under way, and wait for it.

        Raises:
            Cancelled: `stop` was set, or the engine was closed, before it began.
        """
        context = contextvars.Context()  # of no visitor
        request = Request("idle work", call=call, idle=True, context=context)
        if not self._queue.put(request.client, request):
            raise Cancelled(GOING_DOWN)
        while not (stop and stop.is_set()):
            with suppress(TimeoutError):
                return request.future.result(0.1)
        if request.future.cancel():
            self._queue.remove(request)
            raise Cancelled("The measurement was cancelled.")
        return request.future.result()

    async def ask(self, client: str, work: Callable[[], T]) -> T:
        """Run blocking work of one picture in a thread, in the caller's context, once the client
        has room for it. Raises TooManyRequests where there is none, and what `work` raises."""
        with self.admission.admit([f"address {client}"]):
            run = functools.partial(contextvars.copy_context().run, work)
            return await asyncio.get_running_loop().run_in_executor(self._callers, run)

    def ahead(self, client: str, ticket: str) -> int | None:
        """How many requests are before a client's; None if it does not wait."""
        with self._guard:
            matching = [
                request
                for request in self._under_way
                if (request.client, request.ticket) == (client, ticket)
            ]
        if not matching:
            return None
        request = matching[0]
        if request.opening is not None and not request.opening.done():
            place = self.decoders.ahead(request.opening)
            return None if place is None else place + len(self._queue)
        return self._queue.ahead(request)

    @property
    def waiting(self) -> int:
        """How many requests wait for the device."""
        return len(self._queue)

    # --- Shutdown ---------------------------------------------------------------------------------

    def stop_admitting(self) -> None:
        """Refuse further pictures; those under way go on."""
        self.admission.close()

    def close(self, deadline: float | None = None) -> None:
        """Fail what waits with Busy, and end the threads and the decoders.

        Args:
            deadline: Until when to wait for passes that run, on the clock of `time.monotonic`; by
                default five seconds from now.
        """
        self.admission.close()
        self._closed = True
        self._fetchers.close()
        for request in self._queue.close():
            request.fail(Cancelled(GOING_DOWN) if request.idle else Busy(GOING_DOWN))
        deadline = time.monotonic() + 5.0 if deadline is None else deadline
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self.decoders.close()
        self._preparers.shutdown(wait=False, cancel_futures=True)
        self._callers.shutdown(wait=False, cancel_futures=True)

    # --- Before the device ------------------------------------------------------------------------

    def _open(self, client: str, source: Source) -> "Future[Image.Image]":
        if isinstance(source, Image.Image):
            opened: Future[Image.Image] = Future()
            opened.set_result(source)
            return opened
        if isinstance(source, str) and source[:5].lower() == "data:":
            try:
                source = read_data_uri(source)
            except DemoError as error:
                opened = Future()
                opened.set_exception(error)
                return opened
        if isinstance(source, bytes):
            return self._decode(client, source)
        return chain(self.fetch(client, source), lambda content: self._decode(client, content))

    def _decode(self, client: str, content: bytes, frame: bool = False) -> "Future[Image.Image]":
        began = time.perf_counter()
        opening = self._tracked(self.decoders.submit(client, content, frame=frame))

        def observe(_: Future) -> None:
            metrics.STAGE_SECONDS.labels("decode").observe(time.perf_counter() - began)

        opening.add_done_callback(observe)
        return opening

    def _tracked(self, future: "Future[T]") -> "Future[T]":
        """Count a step before the device as under way until it is done."""
        with self._guard:
            self._opening += 1

        def end(_: Future) -> None:
            with self._guard:
                self._opening -= 1
                self._last_end = time.monotonic()

        future.add_done_callback(end)
        return future

    def _submit(self, request: Request, source: Source) -> "Future[Any]":
        with self._guard:
            self._under_way.add(request)
        request.future.add_done_callback(lambda future: self._end(request))
        loading: Future[Detector] = Future()
        if request.detector is not None:
            loading.set_result(request.detector)
        else:
            try:
                loading = self._load(request.params.checkpoint)
            except DemoError as error:
                request.fail(error)
                return request.future
        request.opening = self._open(request.client, source)

        def prepare(image: Image.Image) -> "Future[None]":
            return chain(loading, lambda detector: self._schedule(request, detector, image))

        preparing = chain(request.opening, prepare)
        preparing.add_done_callback(lambda future: _pass_error(future, request))
        return request.future

    def _schedule(
        self, request: Request, detector: "Detector", image: Image.Image
    ) -> "Future[None]":
        try:
            return self._preparers.submit(self._prepare, request, detector, image)
        except RuntimeError:  # the pool is shut down
            raise Busy(GOING_DOWN) from None

    def _prepare(self, request: Request, detector: "Detector", image: Image.Image) -> None:
        if request.future.done():
            return
        self._on_request(detector, request.params)
        request.detector = detector
        request.prepared = self.device.prepare(detector, image, request.params)
        request.opening = None  # lets go of the picture
        request.queued = time.perf_counter()
        if not self._queue.put(request.client, request):
            raise Busy(GOING_DOWN)
        if request.future.done():  # cancelled meanwhile
            self._queue.remove(request)

    def _forget(self, request: Request) -> None:
        with self._guard:
            self._under_way.discard(request)
            self._last_end = time.monotonic()

    def _end(self, request: Request) -> None:
        self._forget(request)
        if request.future.cancelled():
            if request.opening is not None:
                request.opening.cancel()
            self._queue.remove(request)

    # --- The device's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            taken = self._queue.take(self._may_run, QUIET_SECONDS)
            if taken is not None:
                self._run_batch(self._with_alike(taken[1]))
            del taken  # a thread that waits must not keep a picture alive

    def _may_run(self, client: str, request: Request) -> bool:
        if not request.idle:
            return True
        with self._guard:
            quiet = time.monotonic() - self._last_end >= QUIET_SECONDS
            return quiet and not self._under_way and not self._opening

    def _with_alike(self, request: Request) -> list[Request]:
        if request.kind != "detect" or request.call is not None:
            return [request]
        limit = self.device.batch_limit(request.detector)
        return [request, *self._queue.take_alike(limit - 1, request.is_like)]

    def _run_batch(self, batch: list[Request]) -> None:
        batch = [request for request in batch if request.future.set_running_or_notify_cancel()]
        if not batch:
            return
        began = time.perf_counter()
        try:
            results = batch[0].context.run(self._results, batch)
        except BaseException as error:
            for request in batch:
                request.fail(error)
            return
        if batch[0].call is None:
            self.admission.record((time.perf_counter() - began) / len(batch))
        for request, result in zip(batch, results, strict=True):
            if isinstance(result, Predictions):
                metrics.observe_pass(began - request.queued, result.timing)
            request.future.set_result(result)

    def _results(self, batch: list[Request]) -> list[Any]:
        """The result of each request of a batch, which are alike."""
        first = batch[0]
        if first.call is not None:
            return [first.call()]
        pictures: list[Prepared] = [
            request.prepared for request in batch if request.prepared is not None
        ]
        if first.kind == "inspect":
            return [self.device.inspect(first.detector, pictures[0], first.params)]
        return list(self.device.detect(first.detector, pictures, first.params))


def _pass_error(future: Future, request: Request) -> None:
    """Fail a request with the error of what prepares it."""
    if future.cancelled():
        request.future.cancel()
    elif (error := future.exception()) is not None:
        request.fail(error)
