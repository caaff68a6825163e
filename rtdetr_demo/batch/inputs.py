"""From what was named on the command line to a list of pictures, and from one of these to bytes."""

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import BadInput, DemoError, TooLarge
from ..media.fetch import fetch
from ..media.images import MAX_BYTES
from .storage import filesystem, is_remote, is_web

ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()
)
"""What a file in a folder must end with to count as a picture; files named outright need not."""


@dataclass(frozen=True)
class Picture:
    """`name` is its path or address; `stem` what comes of it is called, below any folder: unique
    in a list, without an ending, with slashes."""

    name: str
    stem: str


def names_one(arguments: Sequence[str]) -> bool:
    """Whether this is one picture, to be answered as one: a file or an address by itself."""
    [first, *more] = arguments
    listed = first.startswith("@") or is_remote(first) or os.path.isdir(first)
    return not more and not listed and (is_web(first) or not _is_glob(first))


def find_pictures(arguments: Iterable[str]) -> list[Picture]:
    """Every picture named by files, folders (with all below them), globs, addresses, `@list.txt`.

    In the order of the arguments, folders and globs sorted; named twice, it comes once. Raises
    BadInput where a list cannot be read, or where there is no picture at all.
    """
    arguments = list(arguments)
    found: dict[str, str] = {}
    for argument in arguments:
        for name, stem in _expand(argument):
            found.setdefault(name, stem)
    if not found:
        raise BadInput(f"There is no picture in {', '.join(arguments)[:200]}.")
    taken: set[str] = set()
    pictures = []
    for name, wanted in found.items():
        stem, number = wanted, 1
        while stem in taken:
            number += 1
            stem = f"{wanted}-{number}"
        taken.add(stem)
        pictures.append(Picture(name, stem))
    return pictures


def read(name: str) -> bytes | Path:
    """A picture's bytes, or the path of a local file. Raises BadInput."""
    if is_web(name):
        return fetch(name)
    try:
        if is_remote(name):
            storage, path = filesystem(name)
            if (storage.size(path) or 0) > MAX_BYTES:
                raise TooLarge(f"{name} is over {MAX_BYTES // 2**20} MB. Use a smaller one.")
            return storage.cat_file(path)
        path = name.removeprefix("file://")
        with open(path, "rb"):
            pass
        if not os.path.isfile(path):
            raise BadInput(f"{name} could not be read: it is not a file.")
        return Path(path)
    except DemoError:
        raise
    except FileNotFoundError:
        raise BadInput(f"{name} could not be read: No such file or directory.") from None
    except Exception as error:
        # Each storage has errors of its own.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BadInput(f"{name} could not be read: {reason.rstrip('.')}.") from None


def _expand(argument: str) -> Iterator[tuple[str, str]]:
    if argument.startswith("@"):
        for line in _lines(argument[1:]):
            yield from _expand(line)
    elif is_web(argument):
        yield argument, _safe(urlsplit(argument).path.rpartition("/")[2])
    elif is_remote(argument):
        yield from _expand_remote(argument)
    elif os.path.isdir(path := argument.removeprefix("file://")):
        yield from _walk(path)
    elif _is_glob(path):
        for match in sorted(glob.glob(path, recursive=True)):
            if os.path.isfile(match):
                yield match, _safe(os.path.basename(match))
    else:
        yield path, _safe(os.path.basename(path))


def _expand_remote(argument: str) -> Iterator[tuple[str, str]]:
    storage, path = filesystem(argument)
    scheme = argument.partition("://")[0]
    options = argument.partition("?")[1] + argument.partition("?")[2]
    try:
        if glob.has_magic(path):
            matches = sorted(storage.glob(path))
            root = None
        elif storage.isdir(path):
            matches = sorted(one for one in storage.find(path) if _counts(one))
            root = path
        else:
            yield argument, _safe(posixpath.basename(path))
            return
    except Exception as error:
        raise BadInput(f"{argument} could not be listed: {str(error).rstrip('.')}.") from None
    for match in matches:
        below = posixpath.relpath(match, root) if root else posixpath.basename(match)
        yield f"{scheme}://{match.lstrip('/')}{options}", _safe(below)


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for file in sorted(files):
            path = os.path.join(where, file)
            if _counts(path):
                yield path, _safe(os.path.relpath(path, folder).replace(os.sep, "/"))


def _counts(path: str) -> bool:
    name = posixpath.basename(path.replace(os.sep, "/"))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.exists(argument)


def _lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise BadInput(f"The list {path} could not be read: {error.strerror}.") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if nested := next((line for line in lines if line.startswith("@")), None):
        raise BadInput(f"The list {path} names another list, {nested}. Name both by themselves.")
    return lines


def _safe(path: str) -> str:
    """A name below a folder, whatever stood in an address."""
    parts = [part for part in posixpath.splitext(path)[0].split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "picture"
