"""`python -m rtdetr_demo examples`: what the page ships of its example pictures, made anew."""

import argparse

from ..checkpoints import loading
from ..checkpoints.catalog import BUNDLED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace) -> int:
    """Run it; needed whenever the bundled weights or an example picture change."""
    from ..ui import examples

    detector = loading.load(BUNDLED)
    for name in examples.make(detector):
        print(name)
    print(f"Written to {examples.SHIPPED}.")
    return 0
