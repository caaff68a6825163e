"""What a command line names becomes a list of pictures."""

from pathlib import Path

import fsspec
import pytest

from rtdetr_demo.batch.inputs import find_pictures, names_one, read
from rtdetr_demo.errors import BadInput


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a/2.PNG", "a/1.jpg", "a/notes.txt", "a/.hidden.jpg", ".git/x.png"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(*arguments: str) -> list[str]:
    return [one.name for one in find_pictures(arguments)]


def test_a_folder_is_searched_to_its_depth_for_pictures_alone(album: Path):
    assert named("album") == ["album/b.jpg", "album/a/1.jpg", "album/a/2.PNG"]


def test_a_glob_is_sorted(album: Path):
    assert named("album/**/*.*g") == ["album/a/1.jpg", "album/b.jpg"]


def test_a_list_names_files_folders_and_addresses_and_nothing_comes_twice(album: Path):
    Path("list.txt").write_text(
        "album/b.jpg\n\nhttps://host/x.jpg?size=2\r\nalbum\n", encoding="utf-8"
    )
    assert named("album/b.jpg", "@list.txt", "album/b.jpg")[:2] == [
        "album/b.jpg",
        "https://host/x.jpg?size=2",
    ]
    assert len(named("@list.txt")) == 4


def test_what_comes_of_two_pictures_never_bears_one_name(album: Path):
    found = find_pictures(["album", "album/a/1.jpg", "https://host/a/../../1.png", "https://h/"])
    stems = [one.stem for one in found]
    assert stems == ["b", "a/1", "a/2", "1", "picture"]
    Path("1.jpg").write_bytes(b"")
    assert [one.stem for one in find_pictures(["1.jpg", "https://h/1.png"])] == ["1", "1-2"]


def test_other_file_systems_are_searched_and_read(album: Path):
    with fsspec.open("memory://bucket/deep/x.jpg", "wb") as file:
        file.write(b"bytes")
    assert named("memory://bucket") == ["memory://bucket/deep/x.jpg"]
    assert read("memory://bucket/deep/x.jpg") == b"bytes"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("album/none*.jpg", "no picture in"),
        ("@none.txt", "list none.txt could not be read: No such file"),
        ("nowhere://bucket/x", "nowhere://bucket/x cannot be opened here"),
    ],
)
def test_what_names_no_picture_is_refused(album: Path, argument: str, words: str):
    with pytest.raises(BadInput, match=words):
        find_pictures([argument])


def test_one_file_or_address_alone_is_one_picture(album: Path):
    assert names_one(["album/b.jpg"])
    assert names_one(["https://host/x.jpg?a[]=*"])
    assert not names_one(["album"])
    assert not names_one(["album/*.jpg"])
    assert not names_one(["@list.txt"])
