"""ES modules that a page needs at once, joined into one file; as they lie they stay for people."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import PurePosixPath

# Prettier and eslint see to it that statements look like this, one a line or more.
_IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"(\.[^"]+)";', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) ([\w$]+))", re.MULTILINE)
_LATER = re.compile(r'\bimport\("(\.[^"]+)"\)')
_OTHER = re.compile(r"^(?:export|import)\b(?!\().*", re.MULTILINE)


class JoinedModules:
    """What `first` imports as it loads, and itself, as one module of its name.

    `read` gives a module's text by its name, a path from the folder that `first` lies in. What
    stands in `apart` stays a module of its own. Modules that are joined are known to others as
    `joined[NAME]`; `link` has a module find them there. Lines stay where they are, so that
    `source_map` tells of each line where it was written. Raises ValueError for modules that import
    each other, and for a form of import or export that it does not know.
    """

    def __init__(self, read: Callable[[str], str], first: str, apart: frozenset[str] = frozenset()):
        self._read = read
        self.first = first
        self.names: list[str] = []
        """In the order in which they run."""
        self.outside: list[str] = []
        """Of `apart`, those that are imported."""
        self._find(first, apart, ())

    def _find(self, name: str, apart: frozenset[str], importers: tuple[str, ...]) -> None:
        if name in importers:
            raise ValueError(f"{name} and {importers[-1]} import each other")
        if name in self.names or name in self.outside:
            return
        if name in apart:
            self.outside.append(name)
            return
        for other in imports(name, self._read(name)):
            self._find(other, apart, (*importers, name))
        self.names.append(name)

    @cached_property
    def code(self) -> str:
        """The joined module."""
        return "\n".join(line for _, lines in self._parts() for line in lines)

    @property
    def source_map(self) -> str:
        """Its source map, with the modules as they were written."""
        sections, at = [], 0
        for name, lines in self._parts():
            if name:
                mapped = {
                    "version": 3,
                    "names": [],
                    "sources": [name],
                    "sourcesContent": [self._read(name)],
                    "mappings": "AAAA" + ";AACA" * (len(lines) - 1),
                }
                sections.append({"offset": {"line": at, "column": 0}, "map": mapped})
            at += len(lines)
        return json.dumps({"version": 3, "sections": sections}, separators=(",", ":"))

    def _parts(self) -> Iterator[tuple[str, list[str]]]:
        """Lines, and the module that they are those of; "": they are ours."""
        yield "", [f'import * as {_variable(name)} from "./{name}";' for name in self.outside]
        yield "", ["export const joined = {};"]
        yield "", [f'joined["{name}"] = {_variable(name)};' for name in self.outside]
        for name in self.names:
            source = self._read(name)
            body = _EXPORT.sub("", self._linked(name, source))
            if wrong := _OTHER.search(body):
                raise ValueError(f"{name}: {wrong[0]} cannot be joined")
            yield "", [f'joined["{name}"] = (() => {{']
            yield name, _LATER.sub(partial(_from_root, name), body).split("\n")
            yield "", [f"return {{ {', '.join(_EXPORT.findall(source))} }};", "})();"]
        exports = ", ".join(_EXPORT.findall(self._read(self.first)))
        yield "", [f'export const {{ {exports} }} = joined["{self.first}"];']
        yield "", [f"//# sourceMappingURL={self.first}.map"]

    def link(self, name: str, source: str) -> str:
        """The text of another module, which finds there what it imports of the joined ones."""
        linked = self._linked(name, source)
        if linked == source:
            return source
        up = "../" * (len(PurePosixPath(name).parts) - 1) or "./"
        return f'import {{ joined }} from "{up}{self.first}"; {linked}'

    def _linked(self, name: str, source: str) -> str:
        def found(match: re.Match[str]) -> str:
            words, path = match.groups()
            target = resolve(name, path)
            is_joined = target in self.names
            if not is_joined and name not in self.names:
                return match[0]
            if not words:
                return "\n" * match[0].count("\n") if is_joined else match[0]
            return f'const {words.replace(" as ", ": ")} = joined["{target}"];'

        return _IMPORT.sub(found, source)


def imports(name: str, source: str) -> list[str]:
    """The modules that one imports as it loads, by their names."""
    return [resolve(name, path) for _, path in _IMPORT.findall(source)]


def resolve(name: str, path: str) -> str:
    """The name of what module `name` calls `path`, "./other.js" or "../folder/other.js"."""
    parts = list(PurePosixPath(name).parent.parts)
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _from_root(name: str, found: re.Match[str]) -> str:
    return f'import("./{resolve(name, found[1])}")'
