"""Links of the documents lead somewhere, and the README stays short."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.paths import REPO

README_LINES = 150

_CODE_BLOCK = re.compile(r"^([ \t]*)(```|~~~).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_INLINE_LINK = re.compile(r"\]\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?[^)]*\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s.*)?$", re.MULTILINE)
_HTML_LINK = re.compile(r"""\b(?:href|src)=["']([^"']+)["']""")
_HTML_ANCHOR = re.compile(r"""<[^>]+\b(?:id|name)=["']([^"']+)["']""")


def documents() -> list[Path]:
    """Markdown files of the repository, without vendored packages and ignored folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPO, capture_output=True, check=False, text=True,
    )  # fmt: skip
    names = listed.stdout.split("\0") if listed.returncode == 0 else ()
    paths = [REPO / name for name in names if name] or [
        *REPO.glob("*.md"),
        *REPO.glob("docs/**/*.md"),
    ]
    return sorted(path for path in paths if path.is_file() and "vendor" not in path.parts)


def prose(text: str) -> str:
    """Markdown without code blocks and comments."""
    return _COMMENT.sub("", _CODE_BLOCK.sub("", text))


def links(text: str) -> list[str]:
    """Targets of inline links, images, reference definitions and HTML links, without code."""
    text = _CODE_SPAN.sub("", prose(text))
    return [
        target
        for pattern in (_INLINE_LINK, _REFERENCE, _HTML_LINK)
        for target in pattern.findall(text)
    ]


def anchors(text: str) -> set[str]:
    """Anchors of headings, as GitHub and the Hub form them, and those written in HTML."""
    made: set[str] = set()
    text = prose(text)
    for heading in _HEADING.findall(text):
        title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
        anchor, repeated = slug, 0
        while anchor in made:
            repeated += 1
            anchor = f"{slug}-{repeated}"
        made.add(anchor)
    return made | set(_HTML_ANCHOR.findall(text))


def broken_links(document: Path) -> list[str]:
    """Relative links of a document whose file or anchor does not exist."""
    broken = []
    for link in links(document.read_text(encoding="utf-8")):
        target = urlsplit(link)
        if target.scheme or target.netloc:
            continue
        path = document.parent / unquote(target.path) if target.path else document
        exists = path.exists() and path.resolve().is_relative_to(REPO.resolve())
        if exists and target.fragment and path.suffix == ".md":
            exists = unquote(target.fragment) in anchors(path.read_text(encoding="utf-8"))
        if not exists:
            broken.append(link)
    return broken


@pytest.mark.parametrize(
    "document", documents(), ids=lambda path: path.relative_to(REPO).as_posix()
)
def test_relative_links_and_anchors_exist(document: Path):
    assert broken_links(document) == []


def test_a_missing_file_or_anchor_is_a_broken_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.test_documents.REPO", tmp_path)
    (tmp_path / "other.md").write_text("# Title\n\n## Same\n\n## Same\n\n```\n## Code\n```\n")
    document = tmp_path / "first.md"
    document.write_text(
        "# What `it` does, in *brief*\n"
        "[a](other.md#title) [b](#what-it-does-in-brief) [c](other.md#same-1) [d](https://x.org/y)\n"
        "`[code](nowhere.md)` [e][ref] ![f](missing.png) [g](other.md#code) [h](#absent)\n"
        "[i](../outside.md)\n\n[ref]: gone.md\n"
    )
    assert broken_links(document) == [
        "missing.png", "other.md#code", "#absent", "../outside.md", "gone.md",
    ]  # fmt: skip


def test_every_document_can_be_reached_from_the_readme():
    reached: set[Path] = set()
    waiting = [REPO / "README.md"]
    while waiting:
        document = waiting.pop().resolve()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        for link in links(document.read_text(encoding="utf-8")):
            target = urlsplit(link)
            path = document.parent / unquote(target.path)
            if not target.scheme and target.path and path.is_file():
                waiting.append(path)
    written = [path.resolve() for path in (REPO / "docs").rglob("*.md")]
    assert [path.name for path in written if path not in reached] == []


def test_the_readme_is_short():
    lines = (REPO / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES
