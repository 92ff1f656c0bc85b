#!/bin/sh
# Builds for 64-bit ARM with Debian's cross compiler in build-aarch64/ and runs the unit tests, the
# operations, the plans and the golden tests there under qemu-user. On an x86-64 Debian it needs
#
#   dpkg --add-architecture arm64 && apt-get update && apt-get install gcc-aarch64-linux-gnu \
#       qemu-user libcmocka-dev:arm64 libjansson-dev:arm64 libjpeg62-turbo-dev:arm64 \
#       libpng-dev:arm64 libturbojpeg0-dev:arm64 libutf8proc-dev:arm64 libwebp-dev:arm64
set -eu
cd "$(dirname "$0")/.."
cmake -S . -B build-aarch64 -G Ninja -DCMAKE_BUILD_TYPE=Release -DSTYX_WERROR=ON -DSTYX_CURL=OFF \
    -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake >/dev/null
cmake --build build-aarch64 -j "$(nproc)"
# The rest of the tests runs Python, shells or this machine's compilers.
ctest --test-dir build-aarch64 --output-on-failure -j "$(nproc)" -R '_test$|^fuzz_' "$@"
