#!/bin/sh
# From a fresh clone to a picture, or to all tests run: see usage below. Needs Debian (or a relative
# with apt) and the right to install packages; what is already there is left alone.
set -eu
cd "$(dirname "$0")"

PACKAGES="build-essential cmake ninja-build pkg-config python3 libjansson-dev libpng-dev
          libjpeg62-turbo-dev libturbojpeg0-dev libwebp-dev libutf8proc-dev
          libcurl4-openssl-dev"
TEST_PACKAGES="libcmocka-dev python3-venv python3-dev python3-pytest python3-numpy python3-pil
               python3-tqdm python3-requests python3-nbclient python3-nbformat python3-ipykernel
               openssl nghttp2-server"
PYTHON=/usr/bin/python3 # the one that these packages belong to

usage() {
    cat <<'TEXT'
usage: sh bootstrap.sh demo    build Styx, draw a picture with the bundled model and edit it
       sh bootstrap.sh test    build Styx and run all its tests
Both install what is missing with apt-get (through sudo unless run by root).
TEXT
}

say() { printf '== %s\n' "$*"; }
die() { printf 'bootstrap.sh: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "cannot install packages: neither root nor sudo; install by hand: $missing"
    fi
}

installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

need() { # installs those of the named packages that are not there
    missing=
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "no apt-get here; install what these hold:$missing"
    say "installing$missing"
    as_root apt-get -qq update || say "apt-get update failed; trying with the lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        install $missing >/dev/null
}

build() { # build FLAG...
    cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" >/dev/null
    cmake --build build -j "$(nproc)"
}

demo() {
    need $PACKAGES
    say "building in build/"
    build -DSTYX_TESTS=OFF
    mkdir -p out
    say "drawing"
    build/styx generate "a red apple at sunset" --seed 7 -o out/apple.png --force
    say "editing it"
    build/styx edit out/apple.png "a red apple at night with stars" --strength 0.7 --seed 7 \
        -o out/apple-night.png --force
    say "the pictures: $PWD/out/apple.png and $PWD/out/apple-night.png"
}

python_tests() { # over the package as built here, in a virtual environment of its own
    say "installing the Python package in .venv/"
    .venv/bin/python -c 'import pytest, numpy' 2>/dev/null ||
        $PYTHON -m venv --clear --system-site-packages .venv || return 1
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))') || return 1
    cmake --install build --component python --prefix "$site" >/dev/null || return 1
    cp -R python/styx "$site" || return 1
    say "running the Python tests"
    .venv/bin/python -m pytest -q python/tests
}

run_tests() {
    need $PACKAGES $TEST_PACKAGES
    say "building in build/"
    build -DSTYX_TESTS=ON -DSTYX_WERROR=ON -DSTYX_PYTHON=ON -DPython_EXECUTABLE=$PYTHON
    python=passed
    python_tests || python=failed
    say "running the tests"
    ctest --test-dir build --output-on-failure -j "$(nproc)"
    [ $python = passed ] || die "the Python tests failed; their output stands above"
}

case ${1-} in
demo) demo ;;
test) run_tests ;;
*)
    usage
    [ $# -eq 0 ] || exit 2
    ;;
esac
