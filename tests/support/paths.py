"""Where things lie."""

from pathlib import Path

REPO = Path(__file__).parents[2]
EXAMPLES = REPO / "examples"
SHARED = REPO.parent / "shared"
