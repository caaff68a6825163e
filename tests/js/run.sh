#!/usr/bin/env bash
# The front end's checks: format, lint, types, unit tests. Needs node 20 or newer and npm.
set -euo pipefail
cd "$(dirname "$0")"
[ node_modules/.package-lock.json -nt package.json ] || npm install --silent --no-audit --no-fund

cd ../.. # what lies above a configuration is ignored by eslint
bin=tests/js/node_modules/.bin
static=rtdetr_demo/ui/static
$bin/prettier --log-level warn --config tests/js/.prettierrc.json --check \
    "$static/main.js" "$static/{lib,components}/**/*.js" "$static/styles/*.css" "tests/js/*.js"
$bin/eslint --config tests/js/eslint.config.js "$static/main.js" "$static/lib" "$static/components" \
    tests/js/*.test.js
$bin/tsc -p tests/js
node --test --test-reporter=dot tests/js/*.test.js
