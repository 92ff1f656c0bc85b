#!/bin/sh
# What can only be tested where there is a card, in stages of a few minutes at most:
#
#   tools/device_test.sh ops|goldens|accuracy|fullsize|bench|memory|sanitizer|rivals|compile|all
#   tools/device_test.sh cards        pictures divided between two cards, where there are two
#   tools/device_test.sh table        the performance of all, beside diffusers, in one call
#   tools/device_test.sh cpu|cpu_networks|cpu_pictures|cpu_scaling      its processor (device_cpu.sh)
#
# Runs in a checkout, with the programs that tools/device_bundle.sh packed into $BUNDLE
# (.dev/bundle/programs.tar.xz), and for the last two a wheel of diffusers in $WHEELS (.dev/wheels).
# The whole output goes to a log in $OUT (device-log); a short table comes last. Random models of
# full size are written to $MODELS (/tmp/styx-models) when a stage needs them, in about a minute.
# STYX_GOLDENS names more goldens than those of tests/golden.
set -u
cd "$(dirname "$0")/.." || exit 1
wheels=${WHEELS:-.dev/wheels}
out=${OUT:-device-log}
models=${MODELS:-/tmp/styx-models}
bundle=$models/programs
stage=${1:-}
log=$out/$stage.log # of everything
table=$out/$stage.table
last=$out/$stage.last # output of the last command
failed=0
export STYX_BACKEND=cuda PYTHONUNBUFFERED=1
# The libraries that this Python's packages brought along, where there is no other installation.
if [ -z "${STYX_CUDA_PATH:-}" ]; then
    STYX_CUDA_PATH=$(python3 -c '
import glob, sysconfig
print(":".join(glob.glob(sysconfig.get_path("platlib") + "/nvidia/*/lib")))')
    export STYX_CUDA_PATH
fi

# attempt NAME COMMAND...: its output to the log, one line to the table
attempt() {
    name=$1
    shift
    echo "== $name: $*" >>"$log"
    since=$(date +%s.%N)
    if "$@" >"$last" 2>&1; then result=ok; else result="FAILED ($?)"; failed=1; fi
    took=$(echo "$(date +%s.%N) $since" | awk '{ printf "%.1f", $1 - $2 }')
    cat "$last" >>"$log"
    printf '%-34s %-12s %8s s\n' "$name" "$result" "$took" | tee -a "$log" >>"$table"
    [ "$result" = ok ] || tail -n "${LINES_OF_FAILURE:-12}" "$last" >>"$table"
}

fields() { # the named fields of the JSON that stands in the last line of the last output
    python3 -c '
import json, sys
line = [x for x in open(sys.argv[1]).read().splitlines() if x.startswith("{")][-1]
values = json.loads(line)
print("    " + "  ".join(f"{k} {values[k]}" for k in sys.argv[2:] if k in values))
' "$last" "$@" 2>/dev/null | tee -a "$log" >>"$table"
}

make_models() {
    for model in sd15 sdxl refiner; do
        [ -e "$models/$model/model_index.json" ] ||
            python3 tools/random_model.py "$model" "$models/$model" >>"$log" 2>&1 &
    done
    wait
}

picture() { # picture NAME MODEL SIZE STEPS OPTION...: a picture, with its seconds by stage
    name=$1 model=$2 size=$3 steps=$4
    shift 4
    attempt "$name" "$bundle/styx" generate "a red apple on a table" --model "$models/$model" \
        --seed 1 --size "${size}x$size" --steps "$steps" --json -q --force \
        --output "$out/picture.png" "$@"
    fields seconds steps
}

# psnr LEAST A B [A B...]: how like pictures are, two by two; the least alike decides
psnr() {
    python3 - "$@" <<'END'
import sys
import numpy as np
from PIL import Image
values, paths = [], sys.argv[2:]
for pair in zip(paths[::2], paths[1::2]):
    a, b = (np.asarray(Image.open(p).convert("RGB"), np.float64) for p in pair)
    error = ((a - b) ** 2).mean()
    values.append(99.0 if error == 0 else 10 * np.log10(255**2 / error))
values.sort()
print(f"    PSNR {values[0]:.1f} dB at least, {np.mean(values):.1f} on average, of {len(values)}; "
      f"spread of the last picture {a.std():.1f}")
sys.exit(int(values[0] < float(sys.argv[1])))
END
}

stage_ops() {
    attempt "devices" "$bundle/styx" devices
    cat "$last" >>"$table"
    attempt "operations" timeout 300 "$bundle/ops_test"
    attempt "programs" timeout 200 "$bundle/plan_test"
}

stage_goldens() {
    attempt "goldens of the repository" timeout 300 env STYX_GOLDENS=tests/golden \
        "$bundle/golden_test"
    grep -c '^\[       OK' "$last" | sed 's/^/    passed: /' >>"$table"
    grep '^ERROR\|FAILED  ' "$last" | head -n 20 >>"$table"
    if [ -n "${STYX_GOLDENS:-}" ]; then
        attempt "all goldens" timeout 400 "$bundle/golden_test"
        grep '^ERROR\|FAILED  ' "$last" | head -n 20 >>"$table"
    fi
    attempt "the bundled model on the CPU" "$bundle/styx" generate "a red apple" --seed 1 \
        --model models/styx-emoji --backend cpu --dtype f32 -q --force --output "$out/cpu.png"
    for least in f32:40 f16:35 bf16:25; do
        dtype=${least%:*}
        attempt "the bundled model, $dtype" "$bundle/styx" generate "a red apple" --seed 1 \
            --model models/styx-emoji --backend cuda --dtype "$dtype" -q --force \
            --output "$out/picture.png"
        attempt "  like the CPU's" psnr "${least#*:}" "$out/picture.png" "$out/cpu.png"
        tail -n 1 "$last" >>"$table"
    done
}

# Twenty pictures of the bundled model, in f16, bf16 and fp8 (in f16) against f32, all on the card.
stage_accuracy() {
    python3 - "$out" <<'END'
import json, sys
lines = [json.loads(x) for x in open("models/eval/prompts.jsonl")][:20]
for name in ("f32", "f16", "bf16", "fp8"):
    with open(f"{sys.argv[1]}/{name}.jsonl", "w") as file:
        for i, line in enumerate(lines):
            print(json.dumps({"prompt": line["prompt"], "seed": line["seed"],
                              "dtype": "f16" if name == "fp8" else name,
                              "output": f"{sys.argv[1]}/{name}-{i}.png"}), file=file)
END
    for dtype in f32 f16 bf16; do
        attempt "20 pictures, $dtype" "$bundle/styx" generate --prompts "$out/$dtype.jsonl" \
            --model models/styx-emoji --backend cuda -q --force
    done
    attempt "20 pictures, fp8" "$bundle/styx" generate --prompts "$out/fp8.jsonl" \
        --model models/styx-emoji --backend cuda --fp8 -q --force
    for least in f16:35 bf16:25 fp8:25; do
        dtype=${least%:*}
        pairs=
        for i in $(seq 0 19); do
            pairs="$pairs $out/$dtype-$i.png $out/f32-$i.png"
        done
        # shellcheck disable=SC2086
        attempt "$dtype like f32" psnr "${least#*:}" $pairs
        tail -n 1 "$last" >>"$table"
    done
    rm -f "$out"/*.jsonl "$out"/*f16-*.png "$out"/f32-*.png "$out"/fp8-*.png
}

# Random networks, but whole: the card must draw what the CPU draws, and how fast it starts.
stage_fullsize() {
    make_models
    picture "sd15 on the CPU, 2 steps" sd15 512 2 --backend cpu --dtype f32
    mv "$out/picture.png" "$out/cpu.png"
    for dtype in f32 f16 bf16; do
        picture "sd15 $dtype, 2 steps" sd15 512 2 --backend cuda --dtype $dtype
        attempt "  like the CPU's" psnr 25 "$out/picture.png" "$out/cpu.png"
        tail -n 1 "$last" >>"$table"
    done
    picture "sdxl f32, 2 steps" sdxl 1024 2 --backend cuda --dtype f32
    mv "$out/picture.png" "$out/f32.png"
    for dtype in f16 bf16; do
        picture "sdxl $dtype, 2 steps" sdxl 1024 2 --backend cuda --dtype $dtype
        attempt "  like f32's" psnr 25 "$out/picture.png" "$out/f32.png"
        tail -n 1 "$last" >>"$table"
    done
    picture "sd15, 50 steps" sd15 512 50 --backend cuda
    picture "sd15, 50 steps, again" sd15 512 50 --backend cuda
    picture "sdxl, 25 steps" sdxl 1024 25 --backend cuda
    picture "sdxl, 25 steps, again" sdxl 1024 25 --backend cuda
    attempt "a picture to refine" cp "$out/picture.png" "$out/refine.png"
    attempt "refiner, strength 0.5 of 50" "$bundle/styx" edit "$out/refine.png" \
        "a red apple on a table" --model "$models/refiner" --strength 0.5 --steps 50 --seed 1 \
        --backend cuda --json -q --force --output "$out/picture.png"
    fields seconds steps
}

step() { # step NAME OPTION...
    name=$1
    shift
    attempt "$name" timeout 200 "$bundle/bench_steps" "$@"
    fields median_ms least_ms tflops load_s prepare_s first_ms weights_mb arena_mb workspace_mb compiled
}

stage_bench() {
    step "sd15 512" sd15
    step "sdxl 1024" sdxl
    step "refiner 512" refiner
    step "refiner 1024" refiner size=1024
    step "decode 512 f16" vae runs=20
    step "decode 512 bf16" vae bf16 runs=20
    step "decode 1024 f16" vae size=1024 runs=20
    step "decode 1024 f32" vae size=1024 f32 runs=10
    step "sd15 512, 8 pictures" sd15 rows=16 runs=20
    step "sdxl 1024, 8 pictures" sdxl rows=16 runs=10
    step "sd15 512 fp8" sd15 fp8
    step "sdxl 1024 fp8" sdxl fp8
    step "sdxl 1024 fp8, 8 pictures" sdxl fp8 rows=16 runs=10
    for net in sd15 sdxl refiner vae; do
        "$bundle/bench_steps" "$net" profile runs=5 >>"$log" 2>&1
    done
    attempt "the command's own: sd15" timeout 200 "$bundle/styx" bench sd15 --backend cuda
    grep -i 'step\|picture' "$last" | tail -n 4 >>"$table"
}

# The most that the card had in use while COMMAND ran, the context included.
peak() {
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop-ms=20 \
        --id="${DEVICE:-0}" >"$out/used" 2>/dev/null &
    watcher=$!
    "$@"
    code=$?
    kill $watcher
    awk 'NR == 1 || $1 < low { low = $1 } $1 > high { high = $1 }
         END { print "    peak " high - low " MiB over the idle card" }' "$out/used"
    return $code
}

# lines COUNT FOLDER: a job for each picture, as a list of seeds would be one batch
lines() {
    rm -rf "$2"
    mkdir -p "$2"
    for seed in $(seq 1 "$1"); do
        echo "{\"prompt\": \"a red apple on a table\", \"seed\": $seed, \"output\": \"$2/$seed.png\"}"
    done >"$out/lines.jsonl"
}

# Four pictures of one process, by the seconds of their stages without loading: the first loads, the
# last drops what it is done with, those between are what networks that take turns cost.
turns() {
    for how in none model; do
        lines 4 "$models/turns-$how"
        attempt "sdxl, 4 pictures, --offload $how" peak "$bundle/styx" generate \
            --prompts "$out/lines.jsonl" --model "$models/sdxl" --steps 25 \
            --backend cuda --json -q --force --offload $how
        grep peak "$last" >>"$table"
        cp "$last" "$out/turns-$how"
    done
    python3 - "$out/turns-none" "$out/turns-model" >>"$table" <<'END'
import json, sys
def seconds(path):
    lines = [json.loads(x)["seconds"] for x in open(path) if x.startswith("{")]
    return [sum(v for k, v in x.items() if k != "load") for x in lines]
none, model = map(seconds, sys.argv[1:])
for i, (a, b) in enumerate(zip(none, model), 1):
    print(f"    picture {i}: {a:.3f} s, {b:.3f} s in turns: {b / a:.2f}x")
END
    attempt "  the same bytes" diff -r "$models/turns-none" "$models/turns-model"
    rm -f "$out/lines.jsonl" "$out"/turns-*
}

stage_memory() {
    make_models
    attempt "the context: a tiny model" peak "$bundle/styx" generate "a red apple" \
        --model tests/golden/models/tiny_sd15 --steps 2 --backend cuda -q --force \
        --output "$out/picture.png"
    grep peak "$last" >>"$table"
    for how in "" "--offload model" "--offload stream" "--max-vram 4G"; do
        # shellcheck disable=SC2086
        attempt "sdxl, 25 steps $how" peak "$bundle/styx" generate "a red apple on a table" \
            --model "$models/sdxl" --steps 25 --seed 1 --backend cuda --json -q --force $how \
            --output "$out/picture.png"
        grep peak "$last" >>"$table"
        fields seconds
    done
    turns
    # shellcheck disable=SC2086
    attempt "explain" "$bundle/styx" explain --model "$models/sdxl" --backend cuda
    grep -i peak "$last" >>"$table"
    step "sdxl step, streamed" sdxl offload=stream runs=10
}

stage_sanitizer() {
    for tool in memcheck racecheck initcheck; do
        attempt "$tool: a picture of a tiny model" timeout 200 compute-sanitizer --tool $tool \
            --error-exitcode 9 "$bundle/styx" generate "a red apple" --steps 2 \
            --model tests/golden/models/tiny_sd15 --backend cuda -q --force \
            --output "$out/picture.png"
    done
    attempt "memcheck: a tiny SDXL" timeout 200 compute-sanitizer --error-exitcode 9 \
        "$bundle/styx" generate "a red apple" --steps 2 --model tests/golden/models/tiny_sdxl \
        --backend cuda -q --force --output "$out/picture.png"
}

rival() { # rival NAME MODEL OPTION...
    name=$1 model=$2
    shift 2
    attempt "$name" timeout 560 python3 bench/rivals/diffusers_cuda.py "$models/$model" "$@"
    fields picture_s step_ms first_s load_s peak_gib
}

install_rivals() {
    make_models
    python3 -c 'import diffusers' 2>/dev/null && return
    python3 -m pip install -q --no-index --no-deps --no-compile --target "$models/site" \
        "$wheels"/*.whl >>"$log" 2>&1
    export PYTHONPATH=$models/site
}

stage_rivals() {
    install_rivals
    step "styx, sd15 512" sd15
    rival "eager, sd15 512" sd15
    step "styx, sdxl 1024" sdxl
    rival "eager, sdxl 1024" sdxl --size 1024 --steps 25
    step "styx, refiner 512" refiner
    rival "eager, refiner 512" refiner --steps 25
}

# Before and after it, for a card is not always as fast.
stage_compile() {
    install_rivals
    step "styx, sdxl 1024" sdxl
    rival "compile, sdxl 1024" sdxl --compile --size 1024 --steps 25
    step "styx, sdxl 1024, again" sdxl
    step "styx, sdxl 1024, again" sdxl
    step "styx, sd15 512" sd15
    rival "compile, sd15 512" sd15 --compile
    step "styx, sd15 512, again" sd15
}

# The notebook's chain on random models, at 512 x 512: what the stages of all its pictures took.
chain() {
    python3 - "$models" <<'END'
import json, sys
recipe = json.load(open("examples/notebook.json"))
for name, folder in ("sd", "sd15"), ("base", "sdxl"), ("refiner", "refiner"):
    recipe["models"][name] = {**recipe["models"][name], "path": folder}
    recipe["models"][name].pop("variant", None)
json.dump(recipe, open(sys.argv[1] + "/notebook.json", "w"))
END
    attempt "$1" sh -c 'cd "$0" && rm -f ./*.png && "$1" run notebook.json --json -q --force' \
        "$models" "$bundle/styx"
    python3 - "$last" >>"$table" <<'END'
import json, sys
lines = [json.loads(x) for x in open(sys.argv[1]) if x.startswith("{")]
sums = {k: round(sum(x["seconds"][k] for x in lines), 3) for k in lines[0]["seconds"]}
calls = sum(x["unet_calls"] for x in lines)
print(f"    {calls} calls of a UNet; seconds {sums}, without loading "
      f"{sum(sums.values()) - sums['load']:.3f}")
END
}

# Eight pictures on one card and on two, each with a process of its own: the same bytes in less time.
stage_cards() {
    make_models
    for devices in 0 0,1 1,0; do
        lines 8 "$models/cards-$devices"
        attempt "sdxl, 8 pictures, --devices $devices" "$bundle/styx" generate \
            --prompts "$out/lines.jsonl" --model "$models/sdxl" --steps 25 --backend cuda -q --force \
            --devices $devices
    done
    rm -f "$out/lines.jsonl"
    for devices in 0,1 1,0; do
        attempt "  --devices $devices: the same bytes" diff -r "$models/cards-0" "$models/cards-$devices"
    done
}

# From the start of the process, with no cache of ours or the driver's, and with all of them.
first_pictures() {
    rm -rf "$models/cache"
    for when in "empty caches" "warm caches"; do
        export STYX_CACHE_DIR="$models/cache" CUDA_CACHE_PATH="$models/cache/nv"
        export XDG_CACHE_HOME="$models/cache/xdg"
        picture "start to picture, sd15, $when" sd15 512 50 --backend cuda
        picture "start to picture, sdxl, $when" sdxl 1024 25 --backend cuda
    done
}

# What an upload from pinned memory reaches: the measure of streamed steps.
bandwidth() {
    python3 - <<'END'
import torch
a = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)
b = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
b.copy_(a)
start, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
start.record()
for _ in range(5):
    b.copy_(a, non_blocking=True)
end.record()
torch.cuda.synchronize()
print(f"    host to card: {5 * 1.073741824 / start.elapsed_time(end) * 1e3:.1f} GB/s")
END
}

# All that a table of the backend's performance wants, but torch.compile, in one call of less than
# nine minutes; what matters most comes first.
stage_table() {
    make_models
    install_rivals
    step "sd15 512" sd15
    step "sdxl 1024" sdxl
    rival "eager, sd15 512" sd15
    rival "eager, sdxl 1024" sdxl --size 1024 --steps 25
    step "refiner 512" refiner
    step "refiner 1024" refiner size=1024
    step "decode 512 f16" vae runs=20
    step "decode 1024 bf16" vae bf16 size=1024 runs=20
    step "decode 1024 f32" vae f32 size=1024 runs=10
    first_pictures
    step "sdxl 1024, 8 pictures" sdxl rows=16 runs=10
    picture "sdxl, 8 pictures, 20 steps" sdxl 1024 20 --backend cuda --count 8 --output "$models/"
    chain "the notebook, first"
    chain "the notebook, again"
    stage_memory
    attempt "bandwidth" bandwidth
    tail -n 1 "$last" >>"$table"
    for net in sd15 sdxl refiner vae; do
        "$bundle/bench_steps" "$net" profile runs=5 >>"$log" 2>&1
    done
}

# shellcheck source=tools/device_cpu.sh
. tools/device_cpu.sh

case $stage in
cpu | cpu_networks | cpu_pictures | cpu_scaling) # several may run at once
    export STYX_BACKEND=cpu
    bundle=$models/programs-$stage
    ;;
table | ops | goldens | accuracy | fullsize | bench | memory | sanitizer | rivals | compile | cards) ;;
all)
    code=0
    for each in ops goldens accuracy fullsize bench memory sanitizer rivals compile; do
        sh "$0" $each || code=1
    done
    exit $code
    ;;
*)
    sed -n '2,16s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
mkdir -p "$out" "$models"
rm -rf "$bundle"
python3 -m tarfile -e "${BUNDLE:-.dev/bundle/programs.tar.xz}" "$bundle" || exit 1
: >"$log"
: >"$table"
{
    echo "commit $(cat "$bundle/commit"), $(date -u '+%Y-%m-%d %H:%M UTC')"
    if [ "$STYX_BACKEND" = cpu ]; then
        grep -m 1 'model name' /proc/cpuinfo
    else
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
        "$bundle/styx" devices
    fi
} >>"$log" 2>&1
stage_$stage
rm -f "$last" "$out/used" "$out"/*.png
echo "== $stage: $(sed -n 1p "$log"); $(sed -n 2p "$log")"
cat "$table"
exit $failed
