"""Folders that belong to one visitor."""

import hashlib
import secrets
from pathlib import Path


def owned_folder(parent: Path, visitor: str) -> Path:
    """A path in `parent` for a new folder of this visitor, with a name that nobody can guess."""
    return parent / f"{_tag(visitor)}-{secrets.token_hex(16)}"


def is_owner(visitor: str, folder_name: str) -> bool:
    """Whether a folder with this name, made by `owned_folder`, is this visitor's."""
    return folder_name.partition("-")[0] == _tag(visitor)


def _tag(visitor: str) -> str:
    return hashlib.sha256(visitor.encode()).hexdigest()[:32]
