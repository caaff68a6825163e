"""Local paths, and whatever the installed fsspec and pyarrow name by `scheme://`."""

from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import get_filesystem_class
from fsspec.utils import get_protocol

from ..errors import BadInput


def is_web(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def is_remote(name: str) -> bool:
    """Whether it is the address of a file system other than this machine's."""
    return "://" in name and not is_web(name) and not name.startswith("file://")


def filesystem(name: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or address, and the path within it.

    Raises BadInput where nothing that is installed knows the scheme.
    """
    if not is_remote(name):
        return LocalFileSystem(auto_mkdir=True), name.removeprefix("file://")
    try:
        get_filesystem_class(get_protocol(name))
        return url_to_fs(name)
    except (ImportError, ValueError) as missing:
        # pyarrow brings S3, Google's storage and HDFS along.
        try:
            return _of_pyarrow(name)
        except Exception:
            reason = str(missing).rstrip(".")
            raise BadInput(f"{name} cannot be opened here: {reason}.") from None


def _of_pyarrow(name: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    found, path = fs.FileSystem.from_uri(name)
    return ArrowFSWrapper(found), path


def put(storage: AbstractFileSystem, path: str, content: bytes | Any) -> None:
    """Write a file atomically: a process that is killed leaves no partial file under this name."""
    folder, _, name = path.rpartition("/")
    storage.makedirs(folder or ".", exist_ok=True)
    if not isinstance(storage, LocalFileSystem):
        storage.pipe_file(path, content)  # object stores show a file once it is whole
        return
    unfinished = f"{folder or '.'}/.{name}.unfinished"
    storage.pipe_file(unfinished, content)
    storage.mv(unfinished, path)
