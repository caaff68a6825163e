"""RT-DETR demo: `python app.py` serves the page and its API."""

import logging
import os
import signal
import sys
import threading

DRAIN_SECONDS = 25
HURRY_SECONDS = 8


def main() -> None:
    # Imported here, as each child process reads this file, too, and needs none of it.
    from rtdetr_demo.api.server import listen
    from rtdetr_demo.errors import DemoError
    from rtdetr_demo.imports import quick_imports
    from rtdetr_demo.serving.scratch import Scratch
    from rtdetr_demo.settings import Settings
    from rtdetr_demo.zero_gpu import prepare

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = Settings.from_command_line()
    try:
        listener = listen(settings.host, settings.port)
        scratch = Scratch(settings.data_dir)
    except DemoError as error:
        sys.exit(str(error))
    scratch.use_for_everything()
    prepare()
    # Only now: Gradio makes its folder where it is imported.
    with quick_imports():
        from rtdetr_demo.api.app import Api
        from rtdetr_demo.serving.service import Service
        from rtdetr_demo.ui.front_end import FrontEnd
        from rtdetr_demo.ui.launch import launch
        from rtdetr_demo.ui.mcp import publish_tools
        from rtdetr_demo.ui.page import build, launch_options

    service = Service(settings, scratch)
    api = Api(service)
    front_end = FrontEnd()
    page = build(service, front_end)
    end = _end_on_signals()
    address = launch(page, settings, listener, **launch_options(service, api, front_end))
    publish_tools(page)
    print(f"RT-DETR demo: open {address}", flush=True)
    api.open()
    # Only now: a page that answers at once beats a model that is loaded a little sooner.
    service.start()
    end.wait()
    service.pictures.hurry(HURRY_SECONDS)
    api.drain(DRAIN_SECONDS)
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


if __name__ == "__main__":
    main()
