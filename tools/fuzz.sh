#!/bin/sh
# Runs every fuzz target of a build folder for some seconds each, over its corpus in tests/fuzz.
set -eu
build=${1:?usage: fuzz.sh BUILD SECONDS}
seconds=${2:-60}
corpora=$(cd "$(dirname "$0")/../tests/fuzz/corpus" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
for target in "$build"/tests/fuzz_*; do
    [ -f "$target" ] || continue
    name=$(basename "$target")
    echo "== $name, $seconds s"
    mkdir -p "$corpora/${name#fuzz_}"
    if "$target" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$build/$name-" "$corpora/${name#fuzz_}" >"$log" 2>&1; then
        grep 'stat::number_of_executed_units' "$log"
    else
        tail -n 40 "$log"
        status=1
    fi
done
exit $status
