"""`python app.py` wherever a stranger starts it."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.app import free_port, wait_until_ready
from tests.support.paths import EXAMPLES, REPO
from tests.support.standin import HubStandIn

NOBODY = 65534
"""The user who owns nothing."""


def launch(
    *command: str,
    port: int,
    cwd: Path = REPO,
    checkpoint: str = "bundled",
    user: int | None = None,
    **environ: str,
) -> subprocess.Popen:
    """`app.py` with this environment alone, as another user where `user` is given."""
    arguments = ["--checkpoint", checkpoint, "--runtime", "torch", "--port", str(port)]
    return subprocess.Popen(
        [*command, "app.py", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def end(process: subprocess.Popen) -> str:
    """Ask it to end, and what it printed; fails where it did not end well."""
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    return output


def detect(port: int) -> list:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/detect",
        content=(EXAMPLES / "dogs.jpg").read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        timeout=60,
    )
    return answer.raise_for_status().json()["detections"]


def test_it_serves_on_a_machine_that_never_ran_gradio_and_leaves_nothing(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "tämp with space"
    home.mkdir()
    temporary.mkdir()
    port = free_port()
    process = launch(
        sys.executable,
        port=port,
        HF_HUB_OFFLINE="1",
        HOME=str(home),
        TMPDIR=str(temporary),
        LANG="C",
    )
    try:
        wait_until_ready(process, port)
        assert detect(port)
        folder = next(temporary.glob("rtdetr-demo-*"))
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        output = end(process)
    assert list(temporary.iterdir()) == [], output


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user may read, and only its owner write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *(one for one in folder.rglob("*") if one.is_dir())]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def python_of_an_ordinary_user(folder: Path) -> tuple[int | None, list[str], dict[str, str]]:
    """User (None: this one, who is no root), command and environment of a Python with our packages.

    Root's own interpreter may lie where nobody else can read: then the machine's, of the same
    version, takes the packages from where they are.
    """
    if os.getuid():
        return None, [sys.executable], {}
    version = "python{}.{}".format(*sys.version_info)
    system = shutil.which(version, path="/usr/local/bin:/usr/bin")
    packages = {"PYTHONPATH": sysconfig.get_path("purelib")}
    choices: list[tuple[list[str], dict[str, str]]] = [([sys.executable], {})]
    if system:
        choices.append(([system], packages))
    for command, environ in choices:
        try:
            tried = subprocess.run(
                [*command, "-c", "import torch, gradio"],
                cwd=folder,
                env={"PATH": os.environ["PATH"], **environ},
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            continue
        if tried.returncode == 0:
            return NOBODY, command, environ
    pytest.skip(f"no {version} that other users than root may run has the demo's packages")


def test_an_ordinary_user_without_a_home_serves_from_a_checkout_that_is_read_only(
    readable: Path, tiny: Path
):
    """Nor has it a folder for temporary files, fonts, or a cache that can be written."""
    checkout = readable / "check out"
    for name in ("app.py", "rtdetr_demo", "examples"):
        source, target = REPO / name, checkout / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    (readable / "cache").mkdir(mode=0o555)
    user, command, environ = python_of_an_ordinary_user(readable)
    port = free_port()
    with HubStandIn({"owner/tiny": tiny}) as hub:
        process = launch(
            *command,
            port=port,
            cwd=checkout,
            checkpoint="owner/tiny",
            user=user,
            HOME="/nonexistent",
            TMPDIR="/nonexistent/temporary",
            HF_HOME=str(readable / "cache"),
            HF_ENDPOINT=hub.url,
            FONTCONFIG_FILE="/dev/null",
            LC_ALL="C",
            **environ,
        )
        try:
            wait_until_ready(process, port)
            assert detect(port)
            page = httpx.get(f"http://127.0.0.1:{port}/", timeout=30)
            assert page.status_code == 200
        finally:
            output = end(process)
    assert "set HF_HOME" in output
    assert "cannot be reached" not in output


def test_where_no_folder_can_be_written_one_sentence_says_what_to_set(readable: Path):
    (readable / "data").mkdir(mode=0o555)
    user, command, environ = python_of_an_ordinary_user(readable)
    process = launch(
        *command,
        port=free_port(),
        user=user,
        RTDETR_DATA_DIR=str(readable / "data"),
        **environ,
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r".*cannot be written.*Set RTDETR_DATA_DIR to a folder that can\.\n", output
    )


def other_pythons() -> list[str]:
    """Interpreters here of the other versions that the demo promises."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    found = []
    for minor in (11, 12, 13, 14):
        if minor == sys.version_info.minor:
            continue
        names = [f"python3.{minor}"]
        names += sorted(map(str, home.glob(f".pyenv/versions/3.{minor}.*/bin/python")))
        for name in names:
            probe = f"import sys; print(sys.version_info.minor == {minor})"
            try:
                tried = subprocess.run([name, "-c", probe], capture_output=True, text=True)
            except OSError:
                continue
            if tried.stdout.strip() == "True":
                found.append(name)
                break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("python", other_pythons())
def test_it_serves_on_every_python_that_it_promises(python: str, tmp_path: Path):
    own = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", own], check=True)
    pip = [own / "bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", REPO / "requirements.txt"], check=True, timeout=900)
    port = free_port()
    process = launch(
        str(own / "bin/python"), port=port, HF_HUB_OFFLINE="1", HOME=str(tmp_path), TMPDIR="/tmp"
    )
    try:
        wait_until_ready(process, port)
        assert detect(port)
    finally:
        end(process)
