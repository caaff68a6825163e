"""`python -m rtdetr_demo average`."""

import argparse
import json
from pathlib import Path

from ..errors import BadInput
from ..training.architecture import build_model, export, load_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument(
        "parts",
        nargs="+",
        metavar="FOLDER:SHARE",
        help="folders that `train` wrote, and what each counts, such as first:2 second:1",
    )


def run(options: argparse.Namespace) -> int:
    """Write the weighted mean of the weights of several runs. Raises BadInput."""
    parts = [_part(text) for text in options.parts]
    total = sum(share for _, share in parts)
    settings = [_settings(folder) for folder, _ in parts]
    names, size = settings[0]
    if any(other != settings[0] for other in settings):
        raise BadInput("These folders differ in classes or input size, so they have no average.")
    model = build_model(names, None)
    mean = {name: value.double().zero_() for name, value in model.state_dict().items()}
    for folder, share in parts:
        load_weights(model, folder)
        for name, value in model.state_dict().items():
            mean[name] += value.double() * (share / total)
    model.load_state_dict(mean)  # each becomes what the model has: float32, or whole numbers
    export(model, options.out, size)
    return 0


def _part(text: str) -> tuple[Path, float]:
    folder, _, share = text.rpartition(":")
    try:
        found = float(share)
    except ValueError:
        found = 0.0
    if not folder or not 0 < found < float("inf"):
        raise BadInput(f"“{text}” is not FOLDER:SHARE, with a share above 0.")
    return Path(folder), found


def _settings(folder: Path) -> tuple[list[str], int]:
    """The class names of a folder, in order, and its input size in pixels."""
    try:
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        processor = (folder / "preprocessor_config.json").read_text(encoding="utf-8")
        return [labels[str(i)] for i in range(len(labels))], json.loads(processor)["size"]["height"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{folder} is no folder that `train` wrote: {error}.") from None
