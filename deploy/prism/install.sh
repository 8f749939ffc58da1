#!/usr/bin/env bash
# Builds Prism, Beam's runner in Go, from its module, and says where it is:
#
#     pixdex build … --runner PrismRunner --prism_location "$(bash deploy/prism/install.sh)"
#
# PIXDEX_PRISM names another folder than ~/.cache/pixdex/prism. Where a released Prism can be downloaded, Beam does so by
# itself, and this is not needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${PIXDEX_PRISM:-${XDG_CACHE_HOME:-$HOME/.cache}/pixdex/prism}
. "$here/../versions.env"
prism=$target/prism-$BEAM

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

if [ ! -x "$prism" ]; then
    command -v go >/dev/null || fail "Go is missing: install it (Debian: apt install golang-go), or download Prism from Beam's releases"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    GOBIN=$work go install "github.com/apache/beam/sdks/v2/go/cmd/prism@v$BEAM" >"$work/log" 2>&1 ||
        fail "Go cannot build Prism $BEAM ($(tail -n 1 "$work/log")): see to the network, or to a newer Go"
    mkdir -p "$target" && mv "$work/prism" "$prism" || fail "$target cannot be written: name another folder with PIXDEX_PRISM"
fi
echo "$prism"
