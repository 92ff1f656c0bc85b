#!/bin/sh
# Checks that the static and the shared library export exactly the functions of styx.h.
set -eu
archive=${1:?usage: symbols.sh LIBSTYX.A LIBSTYX.SO}
shared=${2:?usage: symbols.sh LIBSTYX.A LIBSTYX.SO}
header=$(dirname "$0")/../include/styx.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A declaration is STYX_API up to its semicolon; its name stands before the first parenthesis.
grep -v '^#' "$header" | tr '\n' ' ' | grep -oE 'STYX_API [^;(]*\(' | grep -oE '[a-z_0-9]+\($' | tr -d '(' |
    sort >"$work/header"
nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort >"$work/archive"
nm -D --defined-only "$shared" | awk 'NF == 3 { print $3 }' | sort >"$work/shared"

status=0
for library in archive shared; do
    if ! diff "$work/header" "$work/$library" >"$work/diff"; then
        echo "styx.h (<) and the $library library (>) differ:"
        grep '^[<>]' "$work/diff"
        status=1
    fi
done
[ $status -ne 0 ] || echo "symbols: $(wc -l <"$work/header") functions, in both libraries"
exit $status
