#!/bin/sh
# Builds what a machine with a card needs to run tools/device_test.sh, where nothing can be built:
# the tests, the bench programs and the command with the CUDA backend, stripped, with libraries from
# their archives; the rest of them but glibc goes along in lib/. They share most of their bytes, so
# one archive is a tenth of them.
#
#   tools/device_bundle.sh [FILE]        default: .dev/bundle/programs.tar.xz
#
# BUILD is the build folder (build-device), ARCHS the compute capabilities (90), JOBS as in make.
set -eu
cd "$(dirname "$0")/.."
file=${1:-.dev/bundle/programs.tar.xz}
build=${BUILD:-build-device}
programs="tests/ops_test tests/plan_test tests/golden_test bench_steps bench_kernels styx"

cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSTYX_CUDA=ON -DSTYX_CUDA_ARCHS="${ARCHS:-90}" \
    -DSTYX_STATIC_DEPS=ON -DSTYX_CURL=OFF -DCMAKE_BUILD_RPATH='$ORIGIN/lib' ${CMAKE_ARGS:-} >/dev/null
cmake --build "$build" -j "${JOBS:-$(nproc)}" --target ops_test plan_test golden_test bench_steps \
    bench_kernels styx-cli

to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
mkdir -p "$to/lib" "$(dirname "$file")"
for program in $programs; do
    name=$(basename "$program")
    strip -o "$to/$name" "$build/$program"
    ldd "$build/$program" | awk '$2 == "=>" { print $3 }' | while read -r library; do
        case $(basename "$library") in
        libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
        *) cp -L "$library" "$to/lib/" ;;
        esac
    done
done
git rev-parse HEAD >"$to/commit"
tar -C "$to" -cf - . | xz -9e -c >"$file"
ls -l "$file"
