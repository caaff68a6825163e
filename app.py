"""RT-DETR demo: `python app.py` serves the page and its API."""

import logging
import signal
import sys
import threading

DRAIN_SECONDS = 25
HURRY_SECONDS = 3


def main() -> None:
    # Imported here, as each child process reads this file, too, and needs none of it.
    from rtdetr_demo.errors import DemoError
    from rtdetr_demo.serving.scratch import Scratch
    from rtdetr_demo.settings import Settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = Settings.from_command_line()
    try:
        scratch = Scratch(settings.data_dir)
    except DemoError as error:
        sys.exit(str(error))
    scratch.use_for_everything()
    # Only now: Gradio makes its folder where it is imported.
    from rtdetr_demo.api.app import Api
    from rtdetr_demo.serving.service import Service
    from rtdetr_demo.ui.front_end import FrontEnd
    from rtdetr_demo.ui.mcp import publish_tools
    from rtdetr_demo.ui.page import build, launch_options

    service = Service(settings, scratch)
    api = Api(service)
    front_end = FrontEnd()
    page = build(service, front_end)
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    _, address, _ = page.launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        **launch_options(service, api, front_end),
    )
    publish_tools(page)
    print(f"RT-DETR demo: open {address}", flush=True)
    api.open()
    # Only now: a page that answers at once beats a model that is loaded a little sooner.
    service.start()
    end.wait()
    service.pictures.hurry(HURRY_SECONDS)
    api.drain(DRAIN_SECONDS)
    page.close(verbose=False)


if __name__ == "__main__":
    main()
