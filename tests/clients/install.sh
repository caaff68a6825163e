#!/usr/bin/env bash
# Installs the clients that tests/clients runs into .venv/clients, unless they are there already.
#   bash tests/clients/install.sh [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="$here/../../.venv/bin/python"
folder="${1:-$here/../../.venv/clients}"
wanted="$(cat "$here"/requirements.txt "$here"/package-lock.json | sha256sum)"

if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
mkdir "$folder/node"
cp "$here"/{package.json,package-lock.json,.npmrc} "$folder/node/"
PATH="$(dirname "$python"):$PATH" npm ci --silent --ignore-scripts --prefix "$folder/node"
echo "$wanted" >"$folder/installed"
