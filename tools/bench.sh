#!/bin/sh
# Times the kernels, and a picture of the bundled model, on this machine. Leave it alone meanwhile.
set -eu
build=${1:?usage: bench.sh BUILD}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

grep -m 1 'model name' /proc/cpuinfo 2>/dev/null || uname -m
echo "== the published networks, on random weights"
"$build/styx" bench
echo "== a picture, with the bundled model and its default settings, three times"
for run in 1 2 3; do
    "$build/styx" generate "a red apple" --seed 1 -q --json -o "$out/$run.png" |
        sed 's/.*"seconds":\({[^}]*}\).*/\1/'
done
