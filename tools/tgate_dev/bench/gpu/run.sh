#!/bin/sh
# sh run.sh [--out DIR] [--runs N] [--minutes N] [--rehearse] [PART ...], as `bench gpu`; `sh run.sh --help` says more.
# Needs torch in the python3 that comes first, or in the one that PYTHON names. What it finds there goes first.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
if [ ! -d "$here/unpacked" ] || [ "$here/bundle.tar.xz" -nt "$here/unpacked" ]; then
    rm -rf "$here/unpacked" "$here/unpacking"
    "$python" -m tarfile -e "$here/bundle.tar.xz" "$here/unpacking"
    mv "$here/unpacking" "$here/unpacked"
    touch "$here/unpacked"
fi
# Packages behind the machine's own, which PYTHONPATH would hide.
start='import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module("tgate_dev.bench", run_name="__main__", alter_sys=True)'
export TGATE_COMFYUI="$here/unpacked/comfyui" PYTHONPATH="$here/unpacked/pack/tools"
export PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONIOENCODING=utf-8
exec "$python" -c "$start" "$here/unpacked/packages" bench gpu "$@"
