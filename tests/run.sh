#!/usr/bin/env bash
# Everything that proves the demo: installs what it needs (in .venv), then lint, types and tests.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
fi

if [ ! -x .venv/bin/python ]; then
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
    done
    "$python" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
[ ! -f requirements-train.txt ] ||
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-train.txt

# OpenAI's package for JavaScript, which one test asks with.
[ -d .venv/npm/node_modules/openai ] ||
    PATH=".venv/bin:$PATH" npm install --silent --no-save --prefix .venv/npm openai@7.57.0 ||
    echo "npm's openai could not be installed: its tests will be skipped." >&2

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
