#!/usr/bin/env bash
# Everything that proves the demo: installs what it needs (in .venv), then lint, types and tests.
#   bash tests/run.sh [--ci | --all] [what to give to pytest]
# --ci: with those that flood, starve and kill the app, and those that need a local Ray cluster.
# --all: with these and the slowest (fuzzing, other versions of Python).
set -euo pipefail
cd "$(dirname "$0")/.."

selection=(-m "not slow and not load") packages=(-r tests/requirements.txt -r requirements-train.txt)
case "${1:-}" in
--ci) selection=(-m "not slow or ray") ;;
--all) selection=() ;;
esac
if [[ "${1:-}" = --@(ci|all) ]]; then
    packages+=(-r requirements-ray.txt)
    clients=yes
    shift
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
fi

# The tests of clips make them with it.
if ! command -v ffmpeg >/dev/null; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ffmpeg >/dev/null
fi

# The tests of deploy/nginx.conf run it. The package starts a server of its own only where the
# machine runs services.
if ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq nginx libnginx-mod-stream >/dev/null
fi

if [ ! -x .venv/bin/python ]; then
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
    done
    "$python" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"

# OpenAI's package for JavaScript, which one test asks with.
[ -d .venv/npm/node_modules/openai ] ||
    PATH=".venv/bin:$PATH" timeout 240 npm install --silent --no-save --prefix .venv/npm openai@7.57.0 ||
    echo "npm's openai could not be installed: its tests will be skipped." >&2

if [ -n "${clients:-}" ]; then
    bash tests/clients/install.sh ||
        echo "Other people's clients could not be installed: their tests will be skipped." >&2
fi

# For pytest and its workers only: see `pytest_configure` in tests/conftest.py.
export PYTHONWARNDEFAULTENCODING=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
PATH="$PATH:$PWD/.venv/bin" bash tests/js/run.sh

# One phase of the tests: its name, then what to give to pytest. What failed runs once more, one
# after the other: some tests hold the clock against a machine that others may share.
tests() {
    local phase=$1 code=0
    shift
    local pytest=(.venv/bin/python -m pytest "${selection[@]}" --phase "$phase")
    pytest+=(-o cache_dir=".pytest_cache/$phase" "$@")
    "${pytest[@]}" || code=$?
    [ $code = 1 ] || return $code
    echo "Once more, what failed:"
    "${pytest[@]}" -n 0 --last-failed --last-failed-no-failures none || return 1
}
together=0 alone=0
# As many at once as there are cores, each on one thread: threads of PyTorch wait for one another
# where others want the cores too.
export OMP_NUM_THREADS=1
tests together -n logical --maxprocesses 4 --dist loadfile "$@" || together=$?
unset OMP_NUM_THREADS
tests alone "$@" || alone=$?
none=5 # of the tests that were asked for belongs to this phase
if [ $together = $none ]; then exit $alone; fi
if [ $alone = $none ]; then exit $together; fi
exit $((together ? together : alone))
