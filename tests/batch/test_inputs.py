"""What a command line names becomes a list of pictures."""

import io
import os
import sys
import time
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from rtdetr_demo.batch import inputs
from rtdetr_demo.batch.inputs import describe_skipped, find_pictures, names_one, read
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


def files(*arguments: str) -> list[str]:
    return [picture.file for picture in find_pictures(arguments)]


# --- Linked folders ------------------------------------------------------------------------------


def test_linked_folders_are_followed(album: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "z.jpg").write_bytes(b"")
    (tmp_path / "album" / "a" / "link").symlink_to(outside)
    assert named("album")[-1] == "album/a/link/z.jpg"
    (tmp_path / "way").symlink_to(tmp_path / "album")
    assert "way/b.jpg" in named("way")


def test_links_in_a_loop_end_and_a_folder_is_searched_once(album: Path, tmp_path: Path):
    (tmp_path / "album" / "a" / "up").symlink_to(tmp_path / "album")
    (tmp_path / "album" / "0-first").symlink_to(tmp_path / "album" / "a")
    skipped = Counter[str]()
    found = [picture.name for picture in find_pictures(["album"], skipped)]
    assert found == ["album/b.jpg", "album/a/1.jpg", "album/a/2.PNG"]
    assert skipped["links to folders that were searched already"] == 2


def test_many_links_to_one_another_end_soon(tmp_path: Path):
    for number in range(30):
        folder = tmp_path / f"{number:02}"
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).symlink_to(tmp_path / f"{(number + 1) % 30:02}")
    (tmp_path / "29" / "x.jpg").write_bytes(b"")
    began = time.monotonic()
    assert len(find_pictures([str(tmp_path)])) == 1
    assert time.monotonic() - began < 5


# --- Names with brackets -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a[1].jpg", "what?.jpg", "star*.jpg"])
def test_a_name_with_brackets_is_no_glob_if_it_exists(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "a1.jpg").write_bytes(b"")
    path = str(tmp_path / name)
    assert named(path) == [path]
    assert names_one([path])
    assert names_one([f"file://{path}"])


def test_a_folder_with_brackets_may_stand_before_a_glob(tmp_path: Path):
    folder = tmp_path / "trip [2024]"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"")
    assert named(f"{folder}/*.jpg") == [f"{folder}/1.jpg", f"{folder}/2.jpg"]
    assert named(f"{tmp_path}/*/[1]*.jpg") == [f"{folder}/1.jpg"]


def test_a_remote_name_with_brackets_is_no_glob_if_it_exists():
    with fsspec.open("memory://brackets/a[1].jpg", "wb") as file:
        file.write(b"bytes")
    assert named("memory://brackets/a[1].jpg") == ["memory://brackets/a[1].jpg"]


# --- Lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lists_are_read_in_every_usual_encoding(album: Path, encoding: str):
    Path("list.txt").write_bytes("album/b.jpg\r\nalbum/ü.jpg\r\n".encode(encoding))
    assert named("@list.txt") == ["album/b.jpg", "album/ü.jpg"]


def test_in_a_list_quotes_are_taken_off_and_comments_are_passed_over(album: Path):
    Path("list.txt").write_text(
        '# photos\n"album/b.jpg"\n  \'album/a/1.jpg\'  \n#album/a/2.PNG\n\n"album/two words.jpg"\n',
        encoding="utf-8",
    )
    assert named("@list.txt") == ["album/b.jpg", "album/a/1.jpg", "album/two words.jpg"]


def test_a_file_that_is_named_in_quotes_keeps_them(album: Path):
    Path('"b".jpg').write_bytes(b"")
    Path("'x'").write_bytes(b"")
    Path("list.txt").write_text("'x'\n\"b\".jpg\n", encoding="utf-8")
    assert named("@list.txt") == ["'x'", '"b".jpg']


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch):
    def set_to(content: bytes) -> None:
        inputs._standard_input.cache_clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    yield set_to
    inputs._standard_input.cache_clear()


@pytest.mark.parametrize("argument", ["-", "@-"])
def test_a_dash_is_a_list_on_standard_input(album: Path, standard_input, argument: str):
    standard_input(b"# from find\nalbum/b.jpg\nBMW.jpg\n")
    assert not names_one([argument])
    assert named(argument) == ["album/b.jpg", "BMW.jpg"]


def test_a_dash_may_be_a_picture_as_well(standard_input):
    standard_input(b"\xff\xd8\xff\xe0 and so on")
    assert names_one(["-"])
    assert read("-") == b"\xff\xd8\xff\xe0 and so on"


# --- What is left out, and file names in data sets -----------------------------------------------


def test_what_is_left_out_is_counted_by_its_reason(album: Path):
    skipped = Counter[str]()
    find_pictures(["album", "album/b.jpg", "none*.jpg"], skipped)
    assert describe_skipped(skipped) == (
        "Left out: 1 hidden folders, 1 hidden files, 1 files that are not named like pictures, "
        "1 named more than once, 1 arguments with no picture in them."
    )
    assert describe_skipped(Counter()) == ""


def test_a_folder_without_pictures_says_what_it_holds(album: Path):
    os.mkdir("papers")
    Path("papers/a.pdf").write_bytes(b"")
    with pytest.raises(BadInput, match="1 files that are not named like pictures"):
        find_pictures(["papers"])


def test_file_names_are_relative_to_the_folder_that_was_named(album: Path):
    assert files("album") == ["b.jpg", "a/1.jpg", "a/2.PNG"]
    assert files("album/") == ["b.jpg", "a/1.jpg", "a/2.PNG"]
    assert files(str(album / "album")) == ["b.jpg", "a/1.jpg", "a/2.PNG"]


def test_of_several_arguments_file_names_are_relative_to_the_folder_of_them_all(album: Path):
    assert files("album/a", "album/b.jpg") == ["a/1.jpg", "a/2.PNG", "b.jpg"]
    assert files("album/a/*") == ["1.jpg", "2.PNG", "notes.txt"]
    assert files("album/a/1.jpg", "https://host/x/1.jpg?size=2") == ["1.jpg", "1-2.jpg"]


def test_ten_thousand_pictures_of_one_name_are_told_apart_soon():
    began = time.monotonic()
    found = find_pictures([f"https://host/{number}/image.jpg" for number in range(10_000)])
    assert len({picture.stem for picture in found}) == 10_000
    assert len({picture.file for picture in found}) == 10_000
    assert time.monotonic() - began < 5
