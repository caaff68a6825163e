"""The page's own HTML, JavaScript and CSS, which lie in `static/`."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"


def read(name: str) -> str:
    """The text of one file."""
    return (STATIC / name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Several scripts as one, which share a scope of their own."""
    return "\n".join(map(read, names))
