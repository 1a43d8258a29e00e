#!/usr/bin/env bash
# Runs a command with the image's Python and workspace.
set -e
source /venv/bin/activate
source /ws/install/setup.bash
exec "$@"
