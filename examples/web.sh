#!/bin/sh
# A page in your browser to talk to an agent; see examples/web/all.py.
#
#     sh examples/web.sh                      then open http://localhost:8000
#     SMALLEST_API_KEY=... sh examples/web.sh the same with the real Hydra
#
# Needs Python 3.11 or newer, npm, and livekit-server on the PATH (or LIVEKIT_URL).
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
(
    cd "$top"
    . ./examples/venv.sh
    prepare_venv demo
    cd examples/web
    if [ ! -e node_modules/livekit-client ]; then
        npm install --silent --no-audit --no-fund
    fi
)
exec "$top/.venv/bin/python" "$top/examples/web/all.py" "$@"
