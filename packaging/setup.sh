#!/bin/sh
# Makes .venv with the locked packages, and with --tests the system packages that tests need.
# Does nothing, quickly and without the network, when all of it is there.
set -eu
cd "$(dirname "$0")/.."

# Installs system packages where that is allowed, else names them in one line and stops.
need() {
    if [ "$(id -u)" = 0 ]; then as_root=""
    elif sudo -n true 2>/dev/null; then as_root="sudo"
    else as_root="no"; fi
    if [ "$as_root" = no ] || ! command -v apt-get >/dev/null; then
        echo "Missing system packages. Please install: $* (Debian, Ubuntu: sudo apt-get install $*)" >&2
        exit 1
    fi
    echo "Installing system packages: $*" >&2
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends $*" >/dev/null
}

find_python() {
    for name in python3.11 python3.12 python3.13 python3.14 python3; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "SMI Desktop needs Python 3.11 or newer; none was found." >&2
    exit 1
}

lock_hash=$(cat requirements.lock pyproject.toml packaging/setup.sh | sha256sum | cut -c1-16)
# The folder's name belongs to the stamp: a moved virtual environment does not work.
stamp=".venv/ready-$lock_hash-$(pwd | sha256sum | cut -c1-8)"
if [ ! -e "$stamp" ]; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        need "$(basename "$(readlink -f "$(command -v "$python")")")-venv"
    fi
    echo "Setting up .venv (once; a minute or two)" >&2
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation -e .
    touch "$stamp"
fi

if [ "${1:-}" = --tests ]; then
    missing=""
    command -v chromium >/dev/null || missing="$missing chromium"
    command -v strace >/dev/null || missing="$missing strace"
    command -v openssl >/dev/null || missing="$missing openssl"
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # a list of words
        need $missing
    fi
fi
