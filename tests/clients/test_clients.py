"""Other people's clients, unmodified, each with a picture: see `ask_*` beside this file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.support.app import App
from tests.support.node import node
from tests.support.paths import EXAMPLES

HERE = Path(__file__).parent
INSTALLED = Path(sys.prefix) / "clients"

pytestmark = [
    pytest.mark.load,
    pytest.mark.skipif(
        not (INSTALLED / "installed").exists(),
        reason="the clients are not installed: bash tests/clients/install.sh",
    ),
]

ANSWERS = {
    "ask_agents.py": {"responses", "responses_output_type", "chat", "chat_output_type"},
    "ask_ai_sdk.mjs": {"generateText", "generateObject", "array", "responses", "chat"},
    "ask_fastmcp.py": {"call_tool"},
    "ask_generated.py": {"detect", "inspect", "chat"},
    "ask_gradio.mjs": {"/detect", "/inspect", "/detect_objects"},
    "ask_gradio.py": {"burst", "no_threshold"},
    "ask_inspector.mjs": {"tools_call"},
    "ask_instructor.py": {"default"},
    "ask_langchain.py": {"invoke", "structured", "function_calling"},
    "ask_litellm.py": {"completion", "response_format"},
    "ask_llama_index.py": {"chat", "as_structured_llm"},
    "ask_llm.py": {"prompt", "continued"},
    "ask_mcp.py": {"slash", "no_slash"},
    "ask_openai.mjs": {"chat", "stream", "parse", "responses", "responses_parse"},
    "ask_openai.py": {"chat", "stream", "parse", "responses", "responses_parse"},
    "ask_pydantic_ai.py": {"text", "output_type", "responses"},
}
"""The programs, and in what ways each asks."""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people and a dog, small enough to be an argument of a command line."""
    file = tmp_path_factory.mktemp("photo") / "dogs.jpg"
    image = Image.open(EXAMPLES / "dogs.jpg")
    image.thumbnail((640, 640))
    image.save(file, quality=85)
    return file


def command(program: str, folder: Path) -> list[str | Path]:
    """How to run a program of this folder with the clients that are installed."""
    if program.endswith(".py"):
        return [INSTALLED / "bin" / "python", HERE / program]
    # Node looks for packages beside the file.
    for file in HERE.glob("*.mjs"):
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(INSTALLED / "node" / "node_modules")
    return [*node(), folder / program]


def run(app: App, photo: Path, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(program, folder), app.url, "bundled", photo],
        cwd=folder,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    bundled_app: App,
    photo: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """The programs that tests ask for, three at once: most of their time is importing."""
    bundled_app.wait_until_ready()
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    programs = {spec.params["program"] for spec in specs if spec and "program" in spec.params}
    with ThreadPoolExecutor(3) as pool:
        yield {
            program: pool.submit(run, bundled_app, photo, program, tmp_path_factory.mktemp("ask"))
            for program in ANSWERS
            if program in programs
        }


@pytest.mark.parametrize("program", ANSWERS)
def test_a_client_detects_the_dog(
    runs: dict[str, Future[subprocess.CompletedProcess[str]]], program: str
):
    ran = runs[program].result()
    assert ran.returncode == 0, ran.stderr[-4000:]
    answers = json.loads(ran.stdout.splitlines()[-1])
    assert set(answers) == ANSWERS[program]
    for way, labels in answers.items():
        assert labels[0] == "dog", way


def test_every_program_is_run():
    assert {file.name for file in HERE.glob("ask_*.*")} == set(ANSWERS)
