#!/bin/sh
# A whole call with an emulated Hydra, at real time; see examples/demo.py.
#
#     sh examples/demo.sh            needs Python 3.11 or newer, and nothing else
#     sh examples/demo.sh --live     calls the real service; needs SMALLEST_API_KEY
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
(
    cd "$top"
    . ./examples/venv.sh
    prepare_venv demo
)
exec "$top/.venv/bin/python" "$top/examples/demo.py" "$@"
