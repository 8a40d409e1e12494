#!/usr/bin/env bash
# Makes .venv with Python 3.10 or 3.11 and installs the project into it. Does nothing where that has been done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/ntalker-setup
unfinished=.venv/ntalker-unfinished
checksum=$(cat pyproject.toml scripts/constraints.txt <(echo "${NTALKER_TORCH:-}") | cksum)
gigabytes=10

fail() {
    echo "Error: $1" >&2
    exit 1
}

# Python shims (pyenv) exist on the path without an interpreter behind them: only running one tells.
find_python() {
    local candidate
    for candidate in python3.11 python3.10 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[01]*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c 'pass' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.10 or 3.11 is needed (mediapipe has no newer wheels); on Debian 12: apt install python3.11 python3.11-venv"
}

# pip finds out after minutes, in the midst of its own messages, and leaves a disk that is full.
check_free_space() {
    local free
    free=$(df -Pk . | awk 'NR == 2 { print int($4 * 1024 / 1e9) }')
    if [ "$free" -lt "$gigabytes" ]; then
        fail "the installation takes about $gigabytes GB, and $free GB are free in $PWD: make room there and run this again"
    fi
}

make_environment() {
    local python version
    check_free_space
    python=$(find_python)
    version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python $version has no venv; on Debian: apt install python$version-venv"
    rm -rf .venv
    "$python" -m venv .venv
}

# Wheels bring everything but these shared libraries of the system.
check_system_libraries() {
    local message
    if message=$(.venv/bin/python -c 'import cv2' 2>&1); then
        return
    fi
    case "$message" in
        *libGL*) fail "OpenCV needs libGL.so.1; on Debian: apt install libgl1" ;;
        *libgthread* | *libglib*) fail "OpenCV needs GLib; on Debian: apt install libglib2.0-0" ;;
        *) fail "OpenCV cannot be imported: $message" ;;
    esac
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$checksum" ] && .venv/bin/python -c 'pass' 2>/dev/null; then
    exit 0
fi
# A package that was being written when an earlier set-up was stopped looks installed: begin anew.
if [ -f "$unfinished" ] || ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then
    make_environment
fi
touch "$unfinished"
echo "Installing into .venv (about $gigabytes GB, some minutes) ..."
.venv/bin/python scripts/install.py
check_system_libraries
echo "$checksum" > "$stamp"
rm "$unfinished"
echo "Ready. Activate it with: source .venv/bin/activate"
