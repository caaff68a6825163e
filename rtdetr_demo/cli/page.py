"""`python -m rtdetr_demo page`: the page and its API, as `python app.py` serves them."""

import argparse
import logging
import os
import signal
import threading
import time

from ..api.server import listen
from ..imports import quick_imports
from ..serving.scratch import Scratch
from ..settings import Settings
from ..zero_gpu import is_zero_gpu, prepare

SHUTDOWN_SECONDS = 25
"""From the signal to the end; `deploy/compose.yaml` grants 30."""

SERVER_SECONDS = 5
"""The last of these, for the HTTP server."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    Settings.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    serve(Settings.from_options(options))
    return 0


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises DemoError where the port or the disk does not allow it.

    To be called in the main thread, before anything has imported Gradio.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Where detectors are loaded reads it there, in this process and in its children.
    os.environ["RTDETR_DEVICE"] = settings.device
    listener = listen(settings.host, settings.port)
    scratch = Scratch(settings.data_dir)
    scratch.use_for_everything()
    prepare()
    # Only now: Gradio makes its folder where it is imported.
    with quick_imports():
        from ..api.app import Api
        from ..serving.service import Service
        from ..ui.front_end import FrontEnd
        from ..ui.launch import launch
        from ..ui.mcp import publish_tools
        from ..ui.page import build, launch_options

    service = Service(settings, scratch)
    api = Api(service)
    front_end = FrontEnd()
    page = build(service, front_end)
    end = _end_on_signals()
    if is_zero_gpu():
        service.preload_gpu_copy()
    address = launch(page, settings, listener, **launch_options(service, api, front_end))
    publish_tools(page)
    print(f"RT-DETR demo: open {address}", flush=True)
    api.open()
    # Only now: a page that answers at once beats a model that is loaded a little sooner.
    service.start()
    end.wait()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    service.begin_shutdown(SHUTDOWN_SECONDS / 3)
    api.drain(deadline - SERVER_SECONDS - 1)
    service.close(deadline - SERVER_SECONDS)
    page.close(verbose=False)


def _end_on_signals() -> threading.Event:
    """Set by the first SIGTERM or Ctrl-C; the second ends the process on the spot."""
    end = threading.Event()

    def handle(number: int, _: object) -> None:
        if end.is_set():
            os._exit(128 + number)
        end.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return end
