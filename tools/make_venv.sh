#!/usr/bin/env bash
# Makes the virtual environment .venv:   tools/make_venv.sh <python> <system|wheels>
# Checks first what no later step can do without, so that a bare machine is told what to install and not shown a traceback.
set -euo pipefail
python=$1 ros=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || die "there is no '$python'; install Python 3.11, or name another: make setup PYTHON=/path/to/python3"
command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null ||
    die "there is no C++ compiler, which building the ROS messages needs; install one: sudo apt install g++"
# The pinned versions for the wheels are those of 3.11 to 3.13; an installed ROS has its own (Humble 3.10, Lyrical 3.14).
oldest=$([ "$ros" = system ] && echo 10 || echo 11)
newest=$([ "$ros" = system ] && echo 14 || echo 13)
"$python" -c "import sys; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" ||
    die "$("$python" --version) will not do, it takes 3.$oldest to 3.$newest; name another: make setup PYTHON=/path/to/python3.11"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] ||
    die "$headers/Python.h is missing, which building the ROS messages needs; install it: sudo apt install python3-dev"

options=()
[ "$ros" = system ] && options+=(--system-site-packages)
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv --clear "${options[@]}" .venv
elif "$python" -m pip --version >/dev/null 2>&1; then
    # Debian ships ensurepip apart; a pip that is already there can install another one into the environment.
    "$python" -m venv --clear --without-pip "${options[@]}" .venv
    "$python" -m pip --python .venv/bin/python install --quiet pip
else
    die "this Python has neither ensurepip nor pip; install them: sudo apt install python3-venv"
fi
