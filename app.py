"""RT-DETR demo: `python app.py` serves the page and its API."""

import sys


def main() -> None:
    # Imported here, as each child process reads this file, too, and needs none of it.
    from rtdetr_demo.cli.page import serve
    from rtdetr_demo.errors import DemoError
    from rtdetr_demo.settings import Settings

    try:
        serve(Settings.from_command_line())
    except DemoError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
