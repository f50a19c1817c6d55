#!/bin/sh
# Runs the checks. Makes .venv first; needs Python 3.11 or newer, and nothing else.
#
#     sh tests/run.sh            format, lint, types, tests: all that a change must pass
#     sh tests/run.sh soak       hours of what the tests do for seconds: tests/soak.py
#     sh tests/run.sh bench      how fast it is, in one table: tests/bench; wants a quiet machine
#     sh tests/run.sh rooms      calls in real LiveKit rooms; installs what they need: rooms/prepare.sh
#     sh tests/run.sh lowest     the tests with the lowest versions that pyproject.toml declares
#     sh tests/run.sh pin        writes constraints.txt anew: the newest versions of everything
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
    run_tests coverage run -m pytest
    run coverage combine --quiet
    run coverage report --include='*/livekit_plugins_hydra/protocol/*' --fail-under=100
    run coverage report --fail-under=97
}

run_tests() {
    run "$@" -m "not real_time" --numprocesses auto --dist worksteal
    run "$@" -m real_time --numprocesses 4 --dist worksteal # they mostly wait
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

resolve() {
    .venv/bin/python -m uv pip compile --quiet pyproject.toml --python-version 3.11 \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

check_lowest() {
    resolve --resolution lowest-direct --no-deps --output-file .venv/lowest.txt
    CONSTRAINTS=.venv/lowest.txt prepare_venv tests
    # A release is made with the versions that are pinned.
    run_tests pytest --ignore tests/test_release.py
}

write_constraints() {
    resolve --universal --upgrade --group dev --output-file tests/constraints.txt
}

case ${1-} in
    "") checks=check_all ;;
    soak) checks=check_soak ;;
    bench) checks=check_bench ;;
    rooms) checks=check_rooms ;;
    lowest) checks=check_lowest ;;
    pin) checks=write_constraints ;;
    *)
        echo "tests/run.sh doesn't know '$1'; without a word it checks everything." >&2
        exit 2
        ;;
esac
prepare_venv tests
"$checks" "$@"
