"""The page's own files: names by content, compressed, cached for good."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rtdetr_demo.ui.front_end import FrontEnd, FrontEndMiddleware


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "main.js": 'import "./lib/a.js";\nimport {\n  b,\n} from "./lib/b.js";\n'
        'import("./lib/late.js");\n',
        "lib/a.js": 'import { c } from "../components/c.js";\n' + "// long\n" * 200,
        "lib/b.js": "export const b = 1;\n",
        "lib/late.js": "",
        "components/c.js": "export const c = 1;\n",
        "styles/a.css": "a { color: red }",
        "styles/b.css": "b { color: red }",
        "vendor/big-1.0/big.js": "big",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(FrontEndMiddleware(Starlette(), FrontEnd(folder))) as client:
        yield client


def test_an_address_names_its_content(folder: Path):
    before = FrontEnd(folder).root
    assert FrontEnd(folder).root == before
    (folder / "lib/b.js").write_text("export const b = 2;\n")
    assert FrontEnd(folder).root != before


def test_a_vendored_package_keeps_its_address_while_ours_change(folder: Path, client: TestClient):
    answer = client.get("/page/vendor/big-1.0/big.js")
    assert answer.text == "big"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("encoding", "unpack"), [("br", brotli.decompress), ("gzip", gzip.decompress)]
)
def test_text_is_compressed_and_kept_for_good(folder: Path, client: TestClient, encoding, unpack):
    url = f"/{FrontEnd(folder).root}/lib/a.js"
    with client.stream("GET", url, headers={"accept-encoding": encoding}) as answer:
        raw = b"".join(answer.iter_raw())
    assert unpack(raw) == (folder / "lib/a.js").read_bytes()
    assert len(raw) < 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_styles_are_one_sheet(folder: Path, client: TestClient):
    text = client.get(f"/{FrontEnd(folder).root}/styles.css").text
    assert text.startswith("@layer tokens")
    assert text.index("a { color") < text.index("b { color")


@pytest.mark.parametrize("path", ["lib/none.js", "../front_end.py", "%2e%2e/front_end.py", ""])
def test_what_is_not_among_the_files_is_not_there(folder: Path, client: TestClient, path: str):
    assert client.get(f"/{FrontEnd(folder).root}/{path}").status_code == 404


def test_another_version_is_gone_in_a_sentence(client: TestClient):
    answer = client.get("/page/0123456789ab/main.js")
    assert answer.status_code == 404
    assert "Reload the page" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_what_the_page_needs_at_once_is_known(folder: Path):
    wanted = {"main.js", "lib/a.js", "lib/b.js", "components/c.js"}
    assert set(FrontEnd(folder).modules) == wanted
    ours = FrontEnd().modules
    assert "components/rt-app.js" in ours
    assert "components/rt-checkpoint-sheet.js" not in ours, "fetched when it is first opened"
