"""From what was named on the command line to a list of pictures, and from one of these to bytes."""

import codecs
import glob
import os
import posixpath
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
    """A picture to read.

    Attributes:
        name: Its path or address.
        stem: Name of what is written for it, below any folder: unique in a list, without an
            ending, with slashes.
        file: Its file name in data sets, with its ending: relative to the folder that was named,
            or to the one that all pictures lie in. Unique in a list.
    """

    name: str
    stem: str
    file: str = ""


STANDARD_INPUT = "-"


def names_one(arguments: Sequence[str]) -> bool:
    """Whether this is one picture, to be answered as one: a file or an address by itself."""
    [first, *more] = arguments
    if more:
        return False
    if first == STANDARD_INPUT:
        return _is_picture(_standard_input())
    listed = first.startswith("@") or is_remote(first) or os.path.isdir(_local(first))
    return not listed and (is_web(first) or not _is_glob(_local(first)))


def find_pictures(arguments: Iterable[str], skipped: Counter[str] | None = None) -> list[Picture]:
    """Every picture named by files, folders (with all below them), globs, addresses, `@list.txt`.

    `-` is a list, or a picture, on standard input. In the order of the arguments, folders and globs
    sorted; named twice, it comes once. Linked folders are followed, each once.

    Args:
        arguments: What was named.
        skipped: Counts what was left out, by its reason, in words for a person.

    Raises:
        BadInput: A list cannot be read, or there is no picture at all.
    """
    arguments = list(arguments)
    skipped = Counter() if skipped is None else skipped
    found: dict[str, tuple[str, str]] = {}
    for argument in arguments:
        count = 0
        for name, below in _expand(argument, skipped):
            count += 1
            if name in found:
                skipped["named more than once"] += 1
            else:
                found[name] = (_safe(below), below)
        if not count:
            skipped["arguments with no picture in them"] += 1
    if not found:
        raise BadInput(f"There is no picture in {', '.join(arguments)[:200]}.{_told(skipped)}")
    stems, files = _Names(), _Names()
    together = len(arguments) == 1 and _is_container(arguments[0])
    common = "" if together else _common_folder(found)
    pictures = []
    for name, (stem, below) in found.items():
        if not together and not is_web(name) and not is_remote(name):
            below = os.path.relpath(name, common) if common else name
        file = _safe(below.replace(os.sep, "/"), keep_ending=True)
        pictures.append(Picture(name, stems.unique(stem), files.unique(*posixpath.splitext(file))))
    return pictures


def describe_skipped(skipped: Counter[str]) -> str:
    """One sentence on what was left out; empty where nothing was."""
    parts = [f"{count:,} {reason}" for reason, count in skipped.items() if count]
    return f"Left out: {', '.join(parts)}." if parts else ""


def _told(skipped: Counter[str]) -> str:
    rest = Counter({reason: n for reason, n in skipped.items() if not reason.startswith("argu")})
    words = describe_skipped(rest)
    return f" {words}" if words else ""


class _Names:
    """Names that differ from one another."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def unique(self, head: str, ending: str = "") -> str:
        wanted = name = head + ending
        while name in self._taken:
            number = self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            name = f"{head}-{number}{ending}"
        self._taken.add(name)
        return name


def _is_container(argument: str) -> bool:
    """Whether names in it are relative to it: a folder, here or elsewhere."""
    return os.path.isdir(_local(argument)) or (
        is_remote(argument) and not glob.has_magic(filesystem(argument)[1])
    )


def _common_folder(found: Iterable[str]) -> str:
    """The folder that all local pictures lie in; empty where there is none."""
    folders = [os.path.dirname(name) for name in found if not is_web(name) and not is_remote(name)]
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    except ValueError:  # none at all, or on several drives
        return ""


def _local(name: str) -> str:
    return name.removeprefix("file://")


def read(name: str) -> bytes | Path:
    """A picture's bytes, or the path of a local file. Raises BadInput."""
    if name == STANDARD_INPUT:
        return _standard_input()
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


@cache
def _standard_input() -> bytes:
    return sys.stdin.buffer.read()


def _is_picture(content: bytes) -> bool:
    """Whether bytes are a picture rather than a list of names."""
    heads = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    bitmap = content.startswith(b"BM") and b"\0" in content[:16]
    return (
        content.startswith(heads) or bitmap or content[4:8] == b"ftyp" or content[8:12] == b"WEBP"
    )


def _expand(argument: str, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    """Names of pictures, each with its path below what was named."""
    path = _local(argument)
    if argument == STANDARD_INPUT and _is_picture(_standard_input()):
        yield argument, "picture"
    elif argument == STANDARD_INPUT or argument.startswith("@"):
        for line in _lines(argument[1:] or STANDARD_INPUT):
            yield from _expand(line, skipped)
    elif is_web(argument):
        yield argument, urlsplit(argument).path.rpartition("/")[2]
    elif is_remote(argument):
        yield from _expand_remote(argument, skipped)
    elif os.path.isdir(path):
        yield from _walk(path, skipped)
    elif _is_glob(path):
        for match in sorted(glob.glob(_with_real_folders(path), recursive=True)):
            if os.path.isfile(match):
                yield match, os.path.basename(match)
    else:
        yield path, os.path.basename(path)


def _expand_remote(argument: str, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    storage, path = filesystem(argument)
    scheme = argument.partition("://")[0]
    options = argument.partition("?")[1] + argument.partition("?")[2]
    try:
        root = None
        if storage.isdir(path):
            everything = sorted(storage.find(path))
            matches = [path for path in everything if _counts(path, skipped)]
            root = path
        elif glob.has_magic(path) and not storage.exists(path):
            matches = sorted(storage.glob(path))
        else:
            yield argument, posixpath.basename(path)
            return
    except Exception as error:
        raise BadInput(f"{argument} could not be listed: {str(error).rstrip('.')}.") from None
    for match in matches:
        below = posixpath.relpath(match, root) if root else posixpath.basename(match)
        yield f"{scheme}://{match.lstrip('/')}{options}", below


def _walk(folder: str, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    """Pictures below a folder. Linked folders come after the real ones, so that a picture is named
    by its own place; a folder that was walked is not walked again, which ends loops."""
    waiting, walked = [folder], set[tuple[int, int]]()

    def unreadable(_: OSError) -> None:
        skipped["folders that cannot be opened"] += 1

    while waiting:
        top = waiting.pop(0)
        for where, folders, files in os.walk(top, onerror=unreadable):
            place = os.stat(where)
            if (place.st_dev, place.st_ino) in walked:
                skipped["links to folders that were searched already"] += 1
                folders.clear()
                continue
            walked.add((place.st_dev, place.st_ino))
            shown = sorted(name for name in folders if not name.startswith("."))
            skipped["hidden folders"] += len(folders) - len(shown)
            links = [name for name in shown if os.path.islink(os.path.join(where, name))]
            waiting += [os.path.join(where, name) for name in links]
            folders[:] = [name for name in shown if name not in links]
            for file in sorted(files):
                path = os.path.join(where, file)
                if _counts(path, skipped):
                    yield path, os.path.relpath(path, folder).replace(os.sep, "/")


def _counts(path: str, skipped: Counter[str]) -> bool:
    name = posixpath.basename(path.replace(os.sep, "/"))
    if name.startswith("."):
        skipped["hidden files"] += 1
        return False
    if os.path.splitext(name)[1].lower() not in ENDINGS:
        skipped["files that are not named like pictures"] += 1
        return False
    return True


def _is_glob(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _with_real_folders(pattern: str) -> str:
    """A glob pattern in which folders that exist under their names stand for themselves."""
    head, pattern_left = "", pattern
    while os.sep in pattern_left.lstrip(os.sep):
        start = len(pattern_left) - len(pattern_left.lstrip(os.sep))
        cut = pattern_left.index(os.sep, start) + 1
        if not os.path.isdir(head + pattern_left[:cut]):
            break
        head, pattern_left = head + pattern_left[:cut], pattern_left[cut:]
    return glob.escape(head) + pattern_left


def _lines(path: str) -> list[str]:
    """The names in a list: one a line, in quotes or not; lines that begin with # are comments."""
    if path == STANDARD_INPUT:
        title, content = "standard input", _standard_input()
    else:
        title = path
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise BadInput(f"The list {path} could not be read: {error.strerror}.") from None
    lines = [line.strip() for line in _text(content).splitlines()]
    names = [_unquoted(line) for line in lines if line and not line.startswith("#")]
    if nested := next((name for name in names if name.startswith("@") or name == "-"), None):
        raise BadInput(f"The list {title} names another list, {nested}. Name both by themselves.")
    return names


def _text(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 as PowerShell and Notepad write it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if b"\0" in content[:4]:  # without a mark: the first character is of ASCII
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le", "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def _unquoted(line: str) -> str:
    quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "\"'"
    return line[1:-1] if quoted and not os.path.lexists(line) else line


def _safe(path: str, keep_ending: bool = False) -> str:
    """A name below a folder, whatever stood in an address."""
    whole = path if keep_ending else posixpath.splitext(path)[0]
    parts = [part for part in whole.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "picture"
