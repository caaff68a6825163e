"""The page's own files: names by content, compressed, cached for good."""

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rtdetr_demo.ui.device_files import DeviceFiles
from rtdetr_demo.ui.front_end import FrontEnd, FrontEndMiddleware
from tests.support.node import node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "main.js": 'import "./lib/a.js";\nimport {\n  b,\n} from "./lib/b.js";\n'
        'import("./lib/late.js");\nimport { w } from "./lib/w.js";\n'
        "export function mount() { return [b, w]; }\n",
        "lib/a.js": 'import { c } from "../components/c.js";\n' + "// long\n" * 200,
        "lib/b.js": "globalThis.times = (globalThis.times ?? 0) + 1;\nexport const b = 1;\n",
        "lib/late.js": 'import { b as z } from "./b.js";\nexport const late = z;\n'
        + "// long\n" * 200,
        "lib/some_worker.js": 'import { w } from "./w.js";\n',
        "lib/w.js": "export const w = 1;\n",
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
    url = f"/{FrontEnd(folder).root}/lib/late.js"
    with client.stream("GET", url, headers={"accept-encoding": encoding}) as answer:
        raw = b"".join(answer.iter_raw())
    assert unpack(raw) == FrontEnd(folder).content("lib/late.js")
    assert len(raw) < 250
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


def test_what_the_page_needs_at_once_is_one_module_that_runs(folder: Path, tmp_path: Path):
    front_end = FrontEnd(folder)
    assert front_end.modules == ["main.js", "lib/w.js"], "a worker's modules stay their own"
    served = tmp_path / "served"
    for name in front_end.names:
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_bytes(front_end.content(name) or b"")
    assert not (served / "lib/a.js").exists()
    (served / "package.json").write_text('{"type": "module"}')
    (served / "run.js").write_text(
        'import { mount } from "./main.js";\nimport { late } from "./lib/late.js";\n'
        "console.log(JSON.stringify([mount(), late, globalThis.times]));"
    )
    ran = subprocess.run([*node(), served / "run.js"], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [[1, 1], 1, 1], "what is joined runs once"


def test_a_source_map_leads_to_each_line_as_it_was_written(folder: Path):
    front_end = FrontEnd(folder)
    joined = (front_end.content("main.js") or b"").decode().split("\n")
    sections = json.loads(front_end.content("main.js.map") or b"")["sections"]
    assert {one["map"]["sources"][0] for one in sections} >= {"main.js", "lib/b.js"}
    for one in sections:
        written = one["map"]["sourcesContent"][0].split("\n")
        assert one["map"]["mappings"].count(";") == len(written) - 1
        for number, line in enumerate(written):
            if not line.startswith(("import", "export", "}")):
                assert joined[one["offset"]["line"] + number] == line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('import { c } from "./c.js";\nexport const b = c;\n', "import each other"),
        ("export default 1;\n", "cannot be joined"),
        ('import * as c from "./c.js";\n', "cannot be joined"),
    ],
)
def test_what_cannot_be_joined_is_said_at_once(folder: Path, text: str, words: str):
    (folder / "lib/b.js").write_text(text)
    (folder / "lib/c.js").write_text('import { b } from "./b.js";\nexport const c = 1;\n')
    with pytest.raises(ValueError, match=words):
        FrontEnd(folder).content("main.js")


def test_what_is_opened_later_is_fetched_later():
    ours = FrontEnd()
    assert len(ours.modules) <= 3
    joined = (ours.content("main.js") or b"").decode()
    assert 'joined["components/rt-app.js"]' in joined
    assert 'joined["components/rt-checkpoint-sheet.js"]' not in joined


@pytest.mark.parametrize(
    "path", ["models/a\0b", "models/" + "x" * 300, "models/../page.py", "models/"]
)
def test_a_model_file_that_cannot_be_is_not_there(tmp_path: Path, path: str):
    answer = DeviceFiles(tmp_path).response(path)
    assert answer is not None
    assert answer.status_code == 404
