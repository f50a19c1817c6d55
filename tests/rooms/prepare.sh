# Installs what room tests need. Sourced by tests/run.sh:
#
#     prepare_rooms
#
# Works in the current folder, the top of the checkout. Takes what is there, else packages: Debian's
# iproute2 and chromium where root may install them, LiveKit's server from its Go module, and npm's
# livekit-client and playwright-core. What can't be had is named in a variable HYDRA_NO_..., and the
# tests that need it are skipped with that reason.

LIVEKIT_VERSION=1.13.5

# Exit code of namespace.py where no network can be made.
ROOMS_SKIPPED=69

prepare_rooms() {
    rooms_cache=${XDG_CACHE_HOME:-$HOME/.cache}/livekit-plugins-hydra
    get_debian_packages
    get_livekit_server
    get_npm_packages
}

get_debian_packages() {
    missing=
    command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
    command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing$missing."
        # shellcheck disable=SC2086 # one word for each package
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends $missing; } >/dev/null 2>&1 ||
            echo "apt-get could not install$missing." >&2
    fi
    if ! command -v chromium >/dev/null 2>&1; then
        export HYDRA_NO_BROWSER="there is no chromium; on Debian: apt-get install chromium"
    fi
}

get_livekit_server() {
    livekit_server="$rooms_cache/livekit-server-$LIVEKIT_VERSION" # livekit_server.py looks here
    if command -v livekit-server >/dev/null 2>&1 || [ -x "$livekit_server" ]; then
        return
    fi
    if ! command -v go >/dev/null 2>&1; then
        export HYDRA_NO_LIVEKIT="there is no livekit-server on PATH, and no Go to build it"
        return
    fi
    echo "Building livekit-server $LIVEKIT_VERSION; this takes five minutes, once."
    rooms_bin=$(mktemp -d)
    if GOBIN="$rooms_bin" nice go install \
        "github.com/livekit/livekit-server/cmd/server@v$LIVEKIT_VERSION" >"$rooms_bin/log" 2>&1; then
        mkdir -p "$rooms_cache"
        mv "$rooms_bin/server" "$livekit_server"
    else
        tail -n 20 "$rooms_bin/log" >&2
        export HYDRA_NO_LIVEKIT="livekit-server $LIVEKIT_VERSION could not be built"
    fi
    rm -rf "$rooms_bin"
}

get_npm_packages() {
    for folder in examples/web tests/rooms/browser; do
        if [ ! -e "$folder/package.json" ]; then
            continue
        fi
        npm_state=$(cksum <"$folder/package.json")
        if [ "$(cat "$folder/node_modules/prepared-for" 2>/dev/null)" = "$npm_state" ]; then
            continue
        fi
        if ! command -v npm >/dev/null 2>&1; then
            export HYDRA_NO_BROWSER="there is no npm, which the page in examples/web needs"
        elif (cd "$folder" && npm install --silent --no-audit --no-fund); then
            echo "$npm_state" >"$folder/node_modules/prepared-for"
        else
            export HYDRA_NO_BROWSER="npm could not install the packages of $folder"
        fi
    done
}
