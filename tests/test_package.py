"""What is installed is what is here: packages, data, commands, dependencies."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import httpx
import pytest
import yaml

import rtdetr_demo
from rtdetr_demo.api.app import _app
from rtdetr_demo.api.auth import Keys
from rtdetr_demo.settings import Settings
from tests.support.app import free_port, wait_until_ready
from tests.support.paths import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_room_is_packaged():
    rooms = {
        ".".join(path.parent.relative_to(REPO).parts)
        for path in (REPO / "rtdetr_demo").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == rooms | {"rtdetr_demo.examples"}


def test_every_extra_is_a_requirements_file():
    extras = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    named = {path.name for path in REPO.glob("requirements-*.txt")}
    assert {f"requirements-{name}.txt" for name in extras} == named
    assert all((REPO / file).is_file() for one in extras.values() for file in one["file"])


def test_the_version_stands_in_one_place():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "rtdetr_demo.__version__"
    }
    assert "version" in PROJECT["project"]["dynamic"]
    app = _app(None, None, Keys(Settings()), None)  # type: ignore[arg-type]
    assert app.openapi()["info"]["version"] == rtdetr_demo.__version__
    changelog = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[\d.]*)\]", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == rtdetr_demo.__version__
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == rtdetr_demo.__version__


def test_the_documents_name_the_versions_that_are_required():
    required = " ".join(path.read_text() for path in REPO.glob("requirements*.txt")).split()
    documents = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in documents)
    named = re.findall(r"pip install ([\w-]+==[\w.]+)", text)
    assert named
    assert set(named) <= set(required)


OPTIONAL = {
    "training": "train",
    "evaluation/coco": "train",
    "evaluation/whole_models": "train",
    "export/exporter": "train",
    "export/scripts": "train",
    "cli/train": "train",
    "batch/": "ray",
    "cli/serve": "ray",
    "replica": "ray",
}
"""Parts of the package that need an extra: where, and which."""

PACKAGES = {
    "av": "av",
    "cv2": "opencv_python_headless",
    "PIL": "pillow",
    "norfair": "norfair_enough",
    "yaml": "pyyaml",
}


def declared(*files: str) -> set[str]:
    text = "\n".join((REPO / name).read_text() for name in files if (REPO / name).exists()).lower()
    return {re.split(r"[\[=<>;#]", line)[0].strip().replace("-", "_") for line in text.splitlines()}


@pytest.mark.parametrize("path", sorted((REPO / "rtdetr_demo").rglob("*.py")), ids=str)
def test_what_is_imported_is_declared(path: Path):
    """Not left to what other packages happen to bring along."""
    place = path.relative_to(REPO / "rtdetr_demo").as_posix()
    extras = [f"requirements-{extra}.txt" for part, extra in OPTIONAL.items() if part in place]
    here = declared("requirements.txt", *extras)
    own = {"rtdetr_demo", "spaces"}  # a ZeroGPU Space brings `spaces` itself
    missing = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found = [node.module]
        for name in {one.split(".")[0] for one in found} - own - sys.stdlib_module_names:
            if PACKAGES.get(name, name.lower()) not in here:
                missing.add(name)
    assert not missing


@pytest.mark.parametrize("package", ["torch", "transformers", "gradio"])
def test_heavy_packages_bring_neither_torchvision_nor_timm(package: str):
    wanted = [one for one in requires(package) or [] if "extra ==" not in one]
    assert not [one for one in wanted if re.match(r"(torchvision|timm)\b", one)]


@pytest.mark.slow
def test_an_installed_package_detects_and_serves_outside_of_the_checkout(tmp_path: Path):
    """`pip install .` without its dependencies, which are here already."""
    checkout = tmp_path / "checkout"
    shutil.copytree(REPO, checkout, ignore=shutil.ignore_patterns(".*", "runs", "node_modules"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", tmp_path / "site", checkout], check=True)
    shutil.rmtree(checkout)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "RTDETR_RUNTIME": "torch"}
    command = tmp_path / "site" / "bin" / "rtdetr-demo"
    picture = tmp_path / "site" / "rtdetr_demo" / "examples" / "cat.jpg"
    words = [picture, "--checkpoint", "bundled", "--json"]
    ran = subprocess.run(
        [command, "detect", *words], cwd=tmp_path, env=environ, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert "cat" in {one["label"] for one in json.loads(ran.stdout)["detections"]}
    scripts = tmp_path / "site" / "rtdetr_demo" / "export" / "scripts"
    assert len(list(scripts.glob("detect_*.py"))) == 3

    port = free_port()
    serving = subprocess.Popen(
        [command, "page", "--checkpoint", "bundled", "--port", str(port)],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until_ready(serving, port)
    url = f"http://127.0.0.1:{port}"
    [main] = re.findall(r"page/[0-9a-f]+/main\.js", httpx.get(url).text)[:1]
    assert "javascript" in httpx.get(f"{url}/{main}").headers["content-type"]
    headers = {"Content-Type": "image/jpeg"}
    answer = httpx.post(f"{url}/v1/detect", content=picture.read_bytes(), headers=headers)
    assert "cat" in {one["label"] for one in answer.json()["detections"]}
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(40) == 0


def test_text_files_are_utf_8_whatever_the_system_prefers():
    """As on Windows, whose own encoding is another one."""
    code = (
        "import locale; assert 'utf' not in locale.getpreferredencoding(False).lower()\n"
        "from rtdetr_demo.ui.front_end import FrontEnd\n"
        "front_end = FrontEnd()\n"
        "print(len([front_end.content(name) for name in front_end.names]))\n"
    )
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO, env={**os.environ, **ascii_only}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 20
