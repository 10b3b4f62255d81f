#!/bin/sh
# usage: setup_env.sh DIRECTORY BIN [PIP ARGUMENTS...]
#
# Makes the virtual environment DIRECTORY from the first Python >= 3.11 found ($PYTHON overrides the
# choice), or keeps it if it works; installs PIP ARGUMENTS first if there are any, then striate
# (editable) with all that its development needs; leaves the stamp DIRECTORY/.ready. Safe to run twice
# at once: the second waits for the first.
set -eu
dir=$1
bin=$2
shift 2
stamp=$dir/.ready
candidates=${PYTHON:-python3.11 python3 python python3.12 python3.13 python3.14}
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if command -v flock >/dev/null 2>&1; then
    exec 9>"$dir.lock"
    flock 9
    if [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt tools/setup_env.sh ]; then
        exit 0 # someone else has just made it
    fi
fi

make_environment() {
    found=
    for candidate in $candidates; do
        if "$candidate" -c "$new_enough" >/dev/null 2>&1; then
            found=$candidate
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "striate needs Python >= 3.11; tried: $candidates." >&2
        echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    echo "making $dir with $("$found" --version) ($found)"
    rm -rf "$dir"
    if "$found" -c "import ensurepip" >/dev/null 2>&1 && "$found" -m venv "$dir"; then
        return
    fi
    # Debian and Ubuntu without python3-venv: no ensurepip to put pip into a venv. virtualenv carries
    # its own; it is installed aside, so that the machine's Python stays as it is.
    echo "$found has no ensurepip: using virtualenv"
    rm -rf "$dir" "$dir.bootstrap"
    "$found" -m pip install --quiet --disable-pip-version-check --target "$dir.bootstrap" virtualenv
    PYTHONPATH=$dir.bootstrap "$found" -m virtualenv --quiet "$dir"
    rm -rf "$dir.bootstrap"
}

install() {
    "$dir/$bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

if ! "$dir/$bin/python" -c "$new_enough; import pip" >/dev/null 2>&1; then
    make_environment
fi
if [ $# -gt 0 ]; then
    install "$@"
fi
install --editable ".[dev]"
touch "$stamp"
