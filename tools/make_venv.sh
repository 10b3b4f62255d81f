#!/bin/sh
# usage: make_venv.sh DIRECTORY BIN    makes a virtual environment with pip from the first Python >= 3.11 found.
# An environment that already works is kept (pip then brings it up to date); $PYTHON overrides the choice.
set -eu
dir=$1
bin=$2
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if "$dir/$bin/python" -c "$new_enough; import pip" >/dev/null 2>&1; then
    exit 0
fi

found=
for candidate in ${PYTHON:-python3.11 python3 python python3.13 python3.12 python3.14}; do
    if "$candidate" -c "$new_enough" >/dev/null 2>&1; then
        found=$candidate
        break
    fi
done
if [ -z "$found" ]; then
    echo "striate needs Python >= 3.11; tried: ${PYTHON:-python3.11 python3 python python3.13 python3.12 python3.14}." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi

echo "making $dir with $found ($("$found" --version))"
rm -rf "$dir"
if "$found" -m venv "$dir" >/dev/null 2>&1; then
    exit 0
fi
# Debian and Ubuntu without python3-venv: venv has no ensurepip to install pip from. virtualenv carries its own.
rm -rf "$dir"
echo "python -m venv does not work here (no ensurepip); using virtualenv"
if ! "$found" -m virtualenv --version >/dev/null 2>&1; then
    "$found" -m pip install --quiet --user virtualenv ||
        "$found" -m pip install --quiet --user --break-system-packages virtualenv
fi
"$found" -m virtualenv --quiet "$dir"
