#!/bin/sh
# Installs into a scratch prefix, then builds the README's program against it: through pkg-config
# with the shared and the static library, and through CMake's package. Runs what was built.
set -eu
cmake=${1:?usage: install.sh CMAKE BUILD}
build=${2:?usage: install.sh CMAKE BUILD}
here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

"$cmake" --install "$build" --prefix "$prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
config=$(find "$prefix" -name styx.pc)
lib=$(dirname "$(dirname "$config")")
PKG_CONFIG_PATH=$(dirname "$config")
export PKG_CONFIG_PATH

# The first C block of the README is the body of a program; compile it as it stands.
mkdir "$work/example"
{
    printf '#include <stdio.h>\n#include <styx.h>\nint main(void)\n{\n'
    awk '/^```c$/ { on = 1; next } /^```$/ && on { exit } on' "$here/../../README.md"
    printf '    return err.code ? 1 : 0;\n}\n'
} >"$work/example/example.c"
lines=$(awk '/^```c$/ { on = 1; next } /^```$/ && on { exit } on' "$here/../../README.md" | wc -l)
[ "$lines" -ge 8 ] || { echo "README.md has no C example"; exit 1; }

flags="-Wall -Wextra -Werror -std=c99"
define="--define-prefix"
$cc $flags "$work/example/example.c" -o "$work/shared" \
    $(pkg-config $define --cflags --libs styx) "-Wl,-rpath,$lib"
$cc $flags "$work/example/example.c" -o "$work/static" \
    $(pkg-config $define --cflags styx) "$lib/libstyx.a" \
    $(pkg-config $define --static --libs-only-l styx | sed 's/-lstyx //') -pthread

cat >"$work/example/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.22)
project(example C)
find_package(styx 0.1 REQUIRED)
add_executable(example example.c)
target_link_libraries(example PRIVATE styx::styx)
CMAKE
"$cmake" -S "$work/example" -B "$work/example/build" -DCMAKE_PREFIX_PATH="$prefix" \
    >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$cmake" --build "$work/example/build" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

# Without the model that it names the example must say so and fail, not crash.
for program in shared static example/build/example; do
    status=0
    (cd "$work" && "./$program") >"$work/out" 2>&1 || status=$?
    if [ $status -ne 1 ] || ! [ -s "$work/out" ]; then
        echo "$program: exit code $status, said:"
        cat "$work/out"
        exit 1
    fi
done

"$prefix/bin/styx" --version
for file in share/man/man1/styx.1 share/bash-completion/completions/styx; do
    [ -s "$prefix/$file" ] || { echo "$file was not installed"; exit 1; }
done
echo "install: header, libraries, pkg-config, CMake package, command and manual work"
