#!/usr/bin/env bash
# Makes the pictures of docs/view.md and docs/vehicle.md from a simulated street and the shipped weights; what it needs lies in $1 meanwhile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=${1:?usage: tools/docs_pictures.sh FOLDER}
panoocc=.venv/bin/panoocc
mkdir -p "$work"

$panoocc sim --seed 107 --seconds 8 --rate 3 --out "$work/street.mcap" --overwrite
$panoocc run "$work/street.mcap" --model nano --out "$work/grids.mcap" --overwrite
$panoocc view "$work/grids.mcap" --images "$work/street.mcap" --video docs/view.webp --plot docs/plots.png --overwrite
$panoocc rig check --bag "$work/street.mcap" --rig simulator --pictures "$work/look" --overwrite
.venv/bin/python -c 'import sys; from PIL import Image; Image.open(sys.argv[1]).save("docs/rig.webp", quality=80)' "$work/look/rig.png"
