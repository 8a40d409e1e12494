#!/usr/bin/env bash
# Sets up, then checks style, types and behaviour; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
ruff check .
ruff format --check .
pyright
pytest "$@"
