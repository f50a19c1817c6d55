#!/bin/sh
# Runs the checks. Makes .venv first; needs Python 3.11 or newer, and nothing else.
#
#     sh tests/run.sh            format, lint, types, tests: all that a change must pass
#     sh tests/run.sh soak       hours of what the tests do for seconds: tests/soak.py
#     sh tests/run.sh bench      how fast it is, in one table: tests/bench; wants a quiet machine
#     sh tests/run.sh rooms      calls in real LiveKit rooms; installs what they need: rooms/prepare.sh
set -eu
cd "$(dirname "$0")/.."
. ./examples/venv.sh

run() {
    echo "== $*"
    .venv/bin/python -m "$@"
}

check_all() {
    run ruff format --check .
    run ruff check .
    run mypy
    run coverage erase
    run coverage run -m pytest --numprocesses 6 --dist worksteal # some wait for processes
    run coverage combine --quiet
    run coverage report --include='*/livekit_plugins_hydra/protocol/*' --fail-under=100
    run coverage report --fail-under=97
}

check_rooms() {
    . ./tests/rooms/prepare.sh
    prepare_rooms
    run tests.rooms.namespace .venv/bin/python -m pytest -rs tests/rooms || [ $? = "$ROOMS_SKIPPED" ]
}

check_soak() {
    run tests.soak
}

check_bench() {
    shift
    run tests.bench "$@"
}

case ${1-} in
    "") checks=check_all ;;
    soak) checks=check_soak ;;
    bench) checks=check_bench ;;
    rooms) checks=check_rooms ;;
    *)
        echo "tests/run.sh doesn't know '$1'; without a word it checks everything." >&2
        exit 2
        ;;
esac
prepare_venv tests
"$checks" "$@"
