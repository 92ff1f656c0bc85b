# shellcheck shell=sh disable=SC2154
# The stages of tools/device_test.sh that measure a machine's processor; no card is needed. Every
# program is kept on as many cores as it has threads, one hardware thread of each: the first of
# $CPUS, a list that leaves other cores to work that goes on beside.

cpus=${CPUS:-$(lscpu -p=cpu,core | awk -F, '!/^#/ && !seen[$2]++ { printf "%s ", $1 }')}

pinned() { # pinned THREADS COMMAND...
    threads=$1
    shift
    # shellcheck disable=SC2086
    on=$(echo $cpus | cut -d' ' -f"-$threads" | tr ' ' ,)
    STYX_THREADS=$threads taskset -c "$on" "$@"
}

# The instruction sets that this processor has, the best one first, and its type of numbers.
isas() {
    for each in amx:amx_bf16 avx512bf16:avx512_bf16 avx512:avx512f avx2:avx2; do
        grep -qw "${each#*:}" /proc/cpuinfo && echo "${each%:*}"
    done
}
best=$(isas | head -n 1)
case $best in amx | avx512bf16) number=bf16 ;; *) number=f32 ;; esac

# Of the shapes of each kind in the last table: how many, the median and the least of their shares
# of the peak. Shapes that make less than a percent of a network's work are not the point.
shares() {
    grep -e '^cpu' -e peak "$last" >>"$table"
    for kind in conv linear attention; do
        grep "^$kind" "$last" | grep -v -e '-> 3 @' -e ' 4 -> ' -e '\[2 x' -e '\[154 x' -e '77 ' |
            awk '{ print $(NF - 1), $0 }' | sort -n | awk -v kind=$kind '
                { share[NR] = $1; if (NR == 1) { sub(/^[^ ]* /, ""); least = $0 } }
                END { if (NR) printf "    %-10s %2d shapes, median %5.1f %%, least: %s\n", kind, NR,
                      share[int((NR + 1) / 2)], least }' >>"$table"
    done
}

kernels() { # kernels NAME THREADS ENVIRONMENT...
    name=$1 count=$2
    shift 2
    attempt "$name" pinned "$count" timeout 250 env "$@" "$bundle/bench_kernels" "$number"
    shares
}

network() { # network NAME THREADS NETWORK TYPE RUNS [ENVIRONMENT...]
    name=$1 count=$2 net=$3 type=$4 runs=$5
    shift 5
    attempt "$name" pinned "$count" timeout 300 env "$@" "$bundle/bench_kernels" "$net" "$type" \
        "$runs"
    grep -e '^weights' -e '^run' "$last" | sed 's/^/    /' >>"$table"
}

# Right in every instruction set, and how near the kernels come to the peak beside them.
stage_cpu() {
    lscpu >>"$log"
    grep -o -w -e 'avx512[a-z0-9_]*' -e 'amx_[a-z0-9]*' -e 'avx_vnni' -e avx2 -e fma /proc/cpuinfo |
        sort -u | tr '\n' ' ' >>"$table"
    echo "; on CPUs $cpus" >>"$table"
    attempt "operations, 2 threads" pinned 2 timeout 200 "$bundle/ops_test"
    grep -e 'not tested' -e FAILED -e '^ERROR' "$last" | cut -c-160 >>"$table"
    for isa in $(isas); do
        attempt "programs, $isa" pinned 2 timeout 100 env "STYX_ISA=$isa" "$bundle/plan_test"
    done
    kernels "kernels, 2 threads" 2 "STYX_ISA=$best"
    kernels "kernels, 1 thread" 1 "STYX_ISA=$best"
    for isa in $(isas); do
        [ "$isa" = "$best" ] || kernels "kernels, 1 thread, $isa" 1 "STYX_ISA=$isa"
        [ "$isa" != avx512bf16 ] || break # slower sets compute the same in float32
    done
}

stage_cpu_networks() {
    network "sd15 512 $number" 2 sd15 $number 3
    network "decode 512 $number" 2 vae512 $number 2
    for isa in $(isas); do
        [ "$isa" = "$best" ] || [ "$number" = f32 ] ||
            network "sd15 512 $number, $isa" 2 sd15 $number 2 "STYX_ISA=$isa"
        [ "$isa" != avx512bf16 ] || break
    done
    network "sd15 512 $number, no winograd" 2 sd15 $number 2 STYX_WINOGRAD=off
    network "sd15 512 $number, 8-bit products" 2 sd15 $number 2 STYX_INT8=1
    network "refiner 512 $number" 2 refiner $number 1
    network "sdxl 1024 $number" 2 sdxl $number 1
    network "sd15 512 f32" 2 sd15 f32 1
    network "decode 512 f32" 2 vae512 f32 1
}

# A picture in a new process, with its seconds by stage and the peaks of its memory.
cpu_picture() { # cpu_picture NAME MODEL OPTION...
    name=$1 model=$2
    shift 2
    attempt "$name" pinned 2 python3 tools/peak.py "$bundle/styx" generate "a red apple" --seed 1 \
        --model "$model" --backend cpu --threads 2 --json -q --force \
        --output "$out/picture.png" "$@"
    fields seconds unet_calls
    grep peak "$last" | tee -a "$log" | sed 's/^/    /' >>"$table"
}

random_weights() { # random_weights MODEL
    [ -e "$models/$1/model_index.json" ] ||
        attempt "random weights, $1" pinned 1 python3 tools/random_model.py "$1" "$models/$1"
}

stage_cpu_pictures() {
    cpu_picture "the bundled model, 256 x 256" models/styx-emoji
    cpu_picture "the bundled model, again" models/styx-emoji
    random_weights sd15
    cpu_picture "sd15 512, 4 steps" "$models/sd15" --steps 4 --sampler euler
    cpu_picture "sd15 512, 700M" "$models/sd15" --steps 3 --sampler euler --max-memory 700M
    cpu_picture "sd15 512, 500M" "$models/sd15" --steps 3 --sampler euler --max-memory 500M
    cpu_picture "sd15 64, open to first step" "$models/sd15" --steps 1 --sampler euler --size 64x64
    attempt "20 pictures in bf16 like f32" pinned "$(echo "$cpus" | wc -w)" timeout 300 \
        env STYX_ACCURACY=all "STYX=$bundle/styx" python3 tests/cli/test_accuracy.py
    grep dB "$last" | sort -n | sed -n '1p;$p' >>"$table"
    random_weights sdxl
    cpu_picture "sdxl 64, open to first step" "$models/sdxl" --steps 1 --sampler euler --size 64x64
    cpu_picture "sdxl 1024, 1G" "$models/sdxl" --steps 1 --sampler euler --max-memory 1G
    cpu_picture "sdxl 1024" "$models/sdxl" --steps 1 --sampler euler
}

# One step on more and more cores; wants the whole machine.
stage_cpu_scaling() {
    most=$(echo "$cpus" | wc -w)
    count=1
    while [ "$count" -le "$most" ]; do
        network "sd15 512 $number, $count threads" $count sd15 $number 2
        count=$((2 * count))
    done
}
