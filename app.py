"""RT-DETR demo: `python app.py` serves the page and its API."""

import logging

from rtdetr_demo.service import Service
from rtdetr_demo.settings import Settings
from rtdetr_demo.ui.page import build, launch_options


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = Settings.from_command_line()
    service = Service(settings)
    page = build(service)
    _, address, _ = page.launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        **launch_options(settings),
    )
    print(f"RT-DETR demo: open {address}", flush=True)
    # Only now: a page that answers at once beats a model that is loaded a little sooner.
    service.start()
    page.block_thread()


if __name__ == "__main__":
    main()
