#!/bin/sh
# Builds and checks what a release consists of: wheel, sdist, and the list of what it depends on.
#
#     sh tests/release.sh FOLDER [URL]     URL is where the README's relative links lead to,
#                                          such as https://github.com/OWNER/NAME/blob/v1.2.3
#
# After `sh tests/run.sh`, which makes .venv. It fetches the tool that writes the list.
set -eu
cd "$(dirname "$0")/.."
folder=${1:?name a folder that is empty or not there}
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r pyproject.toml README.md LICENSE livekit_plugins_hydra "$work"
if [ -n "${2-}" ]; then
    "$python" -m tests.absolute_links "$work/README.md" "$2"
fi
(cd "$work" && "$python" -m hatchling build --directory dist)
"$python" -m twine check --strict "$work"/dist/*

"$python" -m venv --without-pip "$work/clean"
"$python" -m pip --python "$work/clean/bin/python" install --quiet --disable-pip-version-check \
    "$work"/dist/*.whl
rm "$work"/clean/lib/python*/site-packages/*/direct_url.json # names a file of this machine
(cd "$work" && clean/bin/python -c "from livekit.plugins import hydra; print(hydra.__version__)")
"$python" -m uv tool run --quiet --from cyclonedx-bom cyclonedx-py environment \
    --pyproject pyproject.toml --mc-type library --output-reproducible --of JSON \
    --output-file "$work/dist/sbom.cdx.json" "$work/clean/bin/python"

mkdir -p "$folder"
cp "$work"/dist/* "$folder"
