#!/usr/bin/env bash
# From nothing to a talking head: sets up, makes a clip, trains two heads on it, of Gaussians and of a radiance field,
# and lets them speak: demo/talking.mp4, demo/talking_field.mp4; both beside true frames in demo/heldout.png.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
exec .venv/bin/ntalker demo "$@"
