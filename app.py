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
    service.start()
    page = build(service)
    page.launch(server_name=settings.host, server_port=settings.port, **launch_options())


if __name__ == "__main__":
    main()
