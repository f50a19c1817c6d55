# Makes the checkout's .venv. Sourced by examples/demo.sh and tests/run.sh:
#
#     prepare_venv demo       the package, editable, and what it depends on
#     prepare_venv tests      also the tools in pyproject.toml's group "dev", in the versions of
#                             tests/constraints.txt; CONSTRAINTS names another file, or /dev/null
#
# Works in the current folder, the top of the checkout; takes uv if it is there, else venv and pip.
# Returns at once when nothing that is installed has changed.

prepare_venv() {
    constraints=${CONSTRAINTS:-tests/constraints.txt}
    venv_state="$PWD $(cat pyproject.toml livekit_plugins_hydra/_namespace/* "$constraints" | cksum)"
    if [ "$(cat ".venv/prepared-for-$1" 2>/dev/null)" = "$venv_state" ]; then
        return
    fi
    echo "Setting up .venv; this takes a minute, once."
    if ! is_new_enough .venv/bin/python; then
        rm -rf .venv
    fi
    if command -v uv >/dev/null 2>&1; then
        install_with_uv "$1"
    else
        install_with_pip "$1"
    fi
    echo "$venv_state" >.venv/prepared-for-demo
    echo "$venv_state" >".venv/prepared-for-$1"
}

install_with_uv() {
    if [ ! -e .venv ]; then
        uv venv --quiet --no-project --python "${PYTHON:->=3.11}" .venv
    fi
    case $1 in
        demo) uv pip install --quiet --python .venv/bin/python --editable . ;;
        tests)
            uv pip install --quiet --python .venv/bin/python --editable . --group dev \
                --constraint "$constraints"
            ;;
    esac
}

install_with_pip() {
    if [ ! -e .venv ]; then
        venv_python=$(find_python)
        if ! "$venv_python" -m venv .venv; then
            rm -rf .venv
            echo "Python can't make a venv; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    # uv's environments have no pip.
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
    case $1 in
        demo) .venv/bin/python -m pip install --quiet --editable . ;;
        tests)
            .venv/bin/python -m pip install --quiet --upgrade "pip>=25.1" # knows --group
            .venv/bin/python -m pip install --quiet --editable . --group dev \
                --constraint "$constraints"
            ;;
    esac
}

find_python() {
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed; PYTHON=/path/to/python names one." >&2
    exit 1
}

is_new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1
}
