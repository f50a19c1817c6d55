#!/bin/sh
# Runs the checks. Makes .venv first; needs Python 3.11 or newer, and nothing else.
#
#     sh tests/run.sh            format, lint, types, tests: all that a change must pass
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
    run pytest
}

case ${1-} in
    "") checks=check_all ;;
    *)
        echo "tests/run.sh doesn't know '$1'; without a word it checks everything." >&2
        exit 2
        ;;
esac
prepare_venv tests
"$checks"
