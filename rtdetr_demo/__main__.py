"""The command line: `python -m rtdetr_demo COMMAND`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from .errors import DemoError

COMMANDS = {
    "page": "serve the page and its API, as app.py does",
    "detect": "detect objects in one picture, or in many",
    "video": "detect and track in a video",
    "serve": "serve the API on many replicas",
    "benchmark": "time every decoder depth, beside transformers",
    "train": "train the bundled checkpoint",
    "evaluate": "measure AP per decoder depth on a COCO file",
    "depth": "choose a decoder depth for a folder of photos",
    "export": "write a checkpoint, cut at a depth, for use without this demo",
    "inspect": "show why the model found an object",
    "average": "average the weights of several trained folders",
    "examples": "make anew what the page ships of its example pictures",
    "static": "write the page as a folder for any static host",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 where it worked, 1 where it could not, 2 where
    it was called wrongly, 130 where it was interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m rtdetr_demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if words[:1] == [name]:
            # Only the command at hand is imported: some need packages that others do not.
            module = _module(name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    options = parser.parse_args(words)
    try:
        return options.run(options)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f".cli.{name}", __package__)
    except ModuleNotFoundError as error:
        extra = "-train" if name in ("train", "average", "evaluate") else ""
        sys.exit(f"{name} needs the package {error.name}: pip install -r requirements{extra}.txt")


if __name__ == "__main__":
    sys.exit(main())
