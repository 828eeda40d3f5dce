#!/bin/sh
# headers.sh FILE: fetches onnxruntime_c_api.h, out of Debian 13's package libonnxruntime-dev. Nothing is installed, and
# the machine's lists of packages stay as they are.
set -eu
VERSION=1.21.0+dfsg-1
SHA256=7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882

mkdir -p "$(dirname "$1")"
target=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p lists/partial archives/partial

mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "headers.sh: needs apt with the lists of a Debian (apt-get update); without: make ORT_INCLUDE=DIR" >&2
    exit 2
fi
echo "deb $mirror trixie main" > sources.list
alone() {
    apt-get --quiet --quiet -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder" -o APT::Sandbox::User= "$@"
}
alone update
alone download "libonnxruntime-dev=$VERSION"
dpkg-deb --extract libonnxruntime-dev_*.deb .
echo "$SHA256  usr/include/onnxruntime/onnxruntime_c_api.h" | sha256sum --check --quiet
cp usr/include/onnxruntime/onnxruntime_c_api.h "$target"
