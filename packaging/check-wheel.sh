#!/bin/sh
# Installs the wheel without extras into a fresh environment elsewhere and runs the demo from there:
# what ships must be whole, and must not need Qt.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$folder" .
"$(readlink -f .venv/bin/python)" -m venv "$folder/venv"
# The locked versions, without their hashes: a wheel that was built here has none in the lock.
.venv/bin/python -m pip freeze --exclude-editable > "$folder/constraints.txt"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$folder/constraints.txt" "$folder"/*.whl
if "$folder/venv/bin/python" -m pip list 2>/dev/null | grep -i -E 'pyside|shiboken'; then
    echo "Qt was installed without having been asked for." >&2
    exit 1
fi
cd "$folder"
"$folder/venv/bin/smi-desktop" demo --headless
