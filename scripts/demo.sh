#!/usr/bin/env bash
# From nothing to a talking head: sets up, makes a clip, trains on it, renders new speech into demo/talking.mp4.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
exec .venv/bin/ntalker demo "$@"
