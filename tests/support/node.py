"""Node, as `tests/run.sh` installs it beside Python, with the packages of npm that tests use."""

import os
import shutil
import sys
from pathlib import Path

NODE_MODULES = Path(sys.prefix) / "npm" / "node_modules"


def node() -> list[str]:
    return [shutil.which("node", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""]
